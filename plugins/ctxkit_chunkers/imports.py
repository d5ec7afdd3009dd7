"""Which files of a repository a file imports, told from its text by simple rules for each language.

- Python: `import a.b` and `from a.b import c`; `c` may be a module or a name in `a.b`; dots are relative.
- JavaScript, TypeScript: `import`, `export ... from`, `require` and `import()` of a path that begins with a dot.
- Java: `import a.b.C`, also static; wildcards and classes of the same package are not seen.
- Go: every file, tests aside, of the folder that an import path ends with.
- Rust: `mod a;`, and `use` of paths in `crate`, `self` and `super`, with one level of braces.
- C, C++: `#include`, in quotes, or in angle brackets with a folder.

A path that is not relative is looked for in the folder of the importer, then in each folder above, and at last
anywhere, if there is one place only. Imports of anything outside the repository name no file and do not count.
"""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ctxkit_chunkers.languages import language_of
from ctxkit_chunkers.ordering import TEST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

# Bounded repetitions keep the time linear in a text that opens brackets and closes none.
PYTHON = re.compile(
    r"^[ \t]*(?:import[ \t]+([^\n#;]{1,2000})"
    r"|from[ \t]+(\.*[\w.]*)[ \t]*import[ \t]*(\([^)]{0,4000}\)|[^\n#;]{1,2000}))",
    re.MULTILINE,
)
SCRIPT = re.compile(r"""(?:\bfrom|\bimport|\brequire)[ \t]*\(?[ \t]*["'](\.[^"'\n]{0,500})["']""")
JAVA = re.compile(r"^[ \t]*import[ \t]+(?:static[ \t]+)?([\w.]+)[ \t]*;", re.MULTILINE)
GO = re.compile(r'^[ \t]*(?:import[ \t]+)?(?:[\w.]+[ \t]+)?"([\w./~-]+)"[ \t]*(?://.*)?$', re.MULTILINE)
RUST_MODULE = re.compile(r"^[ \t]*(?:pub(?:\([^)\n]{0,100}\))?[ \t]+)?mod[ \t]+(\w+)[ \t]*;", re.MULTILINE)
RUST_USE = re.compile(r"\buse[ \t]+((?:crate|self|super)::[^;]{1,2000});")
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(?:"([^"\n]+)"|<([^>\n]+/[^>\n]+)>)', re.MULTILINE)
SCRIPT_ENDING = re.compile(r"(\.d)?\.[cm]?[jt]sx?$")
SCRIPTS = ("javascript", "typescript", "tsx")
FOLDER_FILE = {"python": "__init__", "rust": "mod", **dict.fromkeys(SCRIPTS, "index")}
"""The file that stands for its folder."""
MOST_FILES = 64
"""Files that one import of a Go package counts for, at most."""


@dataclass
class Index:
    """Where the files of one language, or of a family of languages, are in a repository."""

    files: dict[str, int] = field(default_factory=dict)
    """By path, and by path without ending."""
    endings: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    """By every tail of such a path."""
    folders: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    """By folder; no tests."""

    @classmethod
    def of(cls, paths: Mapping[int, str]) -> Index:
        """Index paths by number; of two that differ in their ending alone, the first by name stands for both."""
        index = cls()
        for file in sorted(paths, key=lambda number: paths[number]):
            path = paths[file]
            if not TEST.search(path):
                index.folders[posixpath.dirname(path)].append(file)
            for name in dict.fromkeys((path, *_modules(path))):
                index.files.setdefault(name, file)
                parts = name.split("/")
                for start in range(len(parts)):
                    index.endings["/".join(parts[start:])].append(file)
        return index

    def near(self, folder: str, name: str, *, anywhere: bool) -> int | None:
        """Return the file of a name in a folder or in one above it, else, if asked, the only one that ends so."""
        while True:
            found = self.files.get(posixpath.join(folder, name))
            if found is not None or not folder:
                break
            folder = posixpath.dirname(folder)
        if found is None and anywhere and len(set(self.endings.get(name, ()))) == 1:
            return self.endings[name][0]
        return found


def imported_files(paths: Sequence[str], texts: Iterable[str]) -> list[set[int]]:
    """Return for each file the numbers of those that it imports, itself never among them."""
    plain = [path.removeprefix("./") for path in paths]
    rules = [RULES.get(language_of(path)) for path in plain]
    indices = {
        rule: Index.of({file: path for file, path in enumerate(plain) if rules[file] is rule})
        for rule in set(rules)
        if rule is not None
    }
    found: list[set[int]] = []
    for file, (path, text) in enumerate(zip(plain, texts, strict=True)):
        rule = rules[file]
        imported = rule(indices[rule], path, text) if rule is not None else ()
        found.append({other for other in imported if other is not None and other != file})
    return found


def _modules(path: str) -> tuple[str, ...]:
    """Return the names under which code speaks of a file: its path without ending, and the folder it stands for."""
    language = language_of(path)
    if language in {"c", "cpp", "go"}:
        return ()
    stem = SCRIPT_ENDING.sub("", path) if language in SCRIPTS else posixpath.splitext(path)[0]
    folder, name = posixpath.split(stem)
    return (stem, folder) if folder and name == FOLDER_FILE.get(language) else (stem,)


def _python(index: Index, path: str, text: str) -> Iterator[int | None]:
    folder = posixpath.dirname(path)
    for plain, origin, names in PYTHON.findall(text):
        if plain:
            for module in plain.split(","):
                yield _module(index, folder, module.split(" as ")[0].strip())
        else:
            package = _module(index, folder, origin)
            for name in _names(names):
                inner = _module(index, folder, f"{origin}{'' if origin.endswith('.') else '.'}{name}")
                yield package if inner is None else inner


def _module(index: Index, folder: str, module: str) -> int | None:
    """Return the file of a dotted module, relative where it begins with dots; a bare name is not looked for afar."""
    name = module.lstrip(".")
    dots = len(module) - len(name)
    if dots:
        parts = (folder, *[".."] * (dots - 1), *name.split("."))
        return index.files.get(posixpath.normpath(posixpath.join(*parts)))
    return index.near(folder, name.replace(".", "/"), anywhere="." in name) if name else None


def _names(names: str) -> list[str]:
    lines = (line.split("#")[0] for line in names.strip("()").splitlines())
    return [name.split(" as ")[0].strip(" \t\\") for name in ",".join(lines).split(",") if name.strip()]


def _script(index: Index, path: str, text: str) -> Iterator[int | None]:
    for target in SCRIPT.findall(text):
        joined = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        yield index.files.get(joined, index.files.get(SCRIPT_ENDING.sub("", joined)))


def _java(index: Index, path: str, text: str) -> Iterator[int | None]:
    for name in JAVA.findall(text):
        target = name.replace(".", "/")
        found = index.near(posixpath.dirname(path), target, anywhere=True)
        # an inner class, or a static member, is in the file of the class around it
        yield index.near(posixpath.dirname(path), posixpath.dirname(target), anywhere=True) if found is None else found


def _go(index: Index, _path: str, text: str) -> Iterator[int | None]:
    for target in GO.findall(text):
        parts = target.split("/")
        tails = ("/".join(parts[start:]) for start in range(len(parts)))
        folder = next((tail for tail in tails if tail in index.folders), None)
        if folder is not None:
            yield from index.folders[folder][:MOST_FILES]


def _rust(index: Index, path: str, text: str) -> Iterator[int | None]:
    folder, name = posixpath.split(posixpath.splitext(path)[0])
    own = folder if name in ("mod", "lib", "main") else posixpath.join(folder, name)
    for module in RUST_MODULE.findall(text):
        yield index.files.get(posixpath.join(own, module))
    for used in RUST_USE.findall(text):
        for target in _rust_paths(used):
            yield _rust_file(index, _rust_base(own, path, target), target)


def _rust_paths(used: str) -> list[list[str]]:
    """Return the paths of one `use`, its braces opened one level."""
    front, brace, inside = used.partition("{")
    names = re.split(r",(?![^{]*\})", inside.rstrip().removesuffix("}")) if brace else [""]
    paths = (re.split(r"\s*::\s*", (front + name).strip()) for name in names)
    return [[re.split(r"[\s{]", part.strip())[0] for part in path] for path in paths]


def _rust_base(own: str, path: str, target: list[str]) -> str:
    """Return the folder that `crate`, `self` or `super` stands for; the crate is in the nearest folder named src."""
    if target[0] == "crate":
        parts = posixpath.dirname(path).split("/")
        depth = len(parts) - parts[::-1].index("src") if "src" in parts else 0
        return "/".join(parts[:depth])
    ups = sum(part == "super" for part in target)
    for _ in range(ups):
        own = posixpath.dirname(own)
    return own


def _rust_file(index: Index, base: str, target: list[str]) -> int | None:
    """Return the file of the longest front of a path, else that of the base; what follows are names inside it."""
    parts = [part for part in target if part not in ("crate", "self", "super")]
    for end in range(len(parts), -1, -1):
        found = index.files.get(posixpath.join(base, *parts[:end]))
        if found is not None:
            return found
    return None


def _include(index: Index, path: str, text: str) -> Iterator[int | None]:
    for quoted, bracketed in INCLUDE.findall(text):
        target = posixpath.normpath(quoted or bracketed)
        beside = index.files.get(posixpath.normpath(posixpath.join(posixpath.dirname(path), target)))
        yield index.near(posixpath.dirname(path), target, anywhere=True) if beside is None else beside


RULES: dict[str, Callable[[Index, str, str], Iterator[int | None]]] = {
    "python": _python,
    **dict.fromkeys(SCRIPTS, _script),
    "java": _java,
    "go": _go,
    "rust": _rust,
    "c": _include,
    "cpp": _include,
}
