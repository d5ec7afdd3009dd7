"""What the chunkers know of code: imports, definitions, borders between functions, and the order that follows."""

from __future__ import annotations

import ast
import itertools
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctxkit.errors import CtxkitError, ExitCode
from ctxkit.spec import Context
from ctxkit_chunkers import ParagraphOptions
from ctxkit_chunkers.boundaries import BLANK_LINE, LINE, PLAIN, SECTION, BoundaryTable
from ctxkit_chunkers.byte_places import ByteTable
from ctxkit_chunkers.definitions import GRAMMARS, NODES, installed
from ctxkit_chunkers.imports import imported_files
from ctxkit_chunkers.languages import ENDINGS, has_headings, language_of
from ctxkit_chunkers.names import RULES, definitions_in
from ctxkit_chunkers.ordering import TEST, by_dependency, by_directory, by_relatedness
from tests.unit.plugins.chunkers_bytes import Bytes

TOKENIZER: Any = Bytes()
STDLIB = Path(sysconfig.get_path("stdlib"))
MODULES = ["argparse.py", "ast.py", "asyncio/base_events.py", "dataclasses.py", "inspect.py", "json/decoder.py"]


def imported(files: dict[str, str]) -> dict[str, set[str]]:
    """Return which files of a repository each imports, by path, those that import nothing left out."""
    paths = list(files)
    found = imported_files(paths, files.values())
    return {path: {paths[other] for other in others} for path, others in zip(paths, found, strict=True) if others}


REPOSITORIES: dict[str, tuple[dict[str, str], dict[str, set[str]]]] = {
    "python": (
        {
            "src/pkg/__init__.py": "from .core import run\nfrom . import extra as e  # why not\n",
            "src/pkg/core.py": "import os, json\nfrom pkg.util.text import (\n  clean,  # one, two\n  trim,\n)\n",
            "src/pkg/extra.py": "def f():\n    from ..pkg import core\n",
            "src/pkg/util/__init__.py": "",
            "src/pkg/util/text.py": "import sys\nfrom collections import abc\nfrom .text import clean\n",
            "src/pkg/abc.py": "import pkg.util.text as t, pkg.extra\nfrom . import *\n",
            "tests/test_core.py": "from pkg import core, missing\nimport pkg.nothing\n",
            "text.txt": "import pkg",
        },
        {
            "src/pkg/__init__.py": {"src/pkg/core.py", "src/pkg/extra.py"},
            "src/pkg/core.py": {"src/pkg/util/text.py"},
            "src/pkg/extra.py": {"src/pkg/core.py"},
            "src/pkg/abc.py": {"src/pkg/util/text.py", "src/pkg/extra.py", "src/pkg/__init__.py"},
            "tests/test_core.py": {"src/pkg/core.py"},
        },
    ),
    "javascript": (
        {
            "src/app.ts": "import { a } from './a';\nimport './x.css';\nexport * from \"../lib\";\nimport x from 'y';",
            "src/a.ts": "const b = require('./b.js'); import('./c')",
            "src/b.ts": "import a from './a.ts'",
            "src/c.jsx": "import type { T } from './types';",
            "src/types.d.ts": "",
            "src/a.py": "",
            "lib/index.js": "export { d } from './d.mjs'",
            "lib/d.mjs": "",
        },
        {
            "src/app.ts": {"src/a.ts", "lib/index.js"},
            "src/a.ts": {"src/b.ts", "src/c.jsx"},
            "src/b.ts": {"src/a.ts"},
            "src/c.jsx": {"src/types.d.ts"},
            "lib/index.js": {"lib/d.mjs"},
        },
    ),
    "java": (
        {
            "src/main/java/org/x/App.java": "import org.x.util.Text;\nimport static org.x.Names.A;\nimport java.*;",
            "src/main/java/org/x/util/Text.java": "import java.util.List;",
            "src/main/java/org/x/Names.java": "import org.x.util.Text.Inner;",
        },
        {
            "src/main/java/org/x/App.java": {"src/main/java/org/x/util/Text.java", "src/main/java/org/x/Names.java"},
            "src/main/java/org/x/Names.java": {"src/main/java/org/x/util/Text.java"},
        },
    ),
    "go": (
        {
            "main.go": 'package main\nimport (\n\t"fmt"\n\tu "github.com/me/it/pkg/util" // here\n)\n',
            "pkg/util/a.go": 'package util\nimport "github.com/me/it/pkg/deep"\nvar x = []string{"pkg/util",\n}\n',
            "pkg/util/b.go": "package util",
            "pkg/util/b_test.go": "package util",
            "pkg/deep/d.go": "package deep",
        },
        {"main.go": {"pkg/util/a.go", "pkg/util/b.go"}, "pkg/util/a.go": {"pkg/deep/d.go"}},
    ),
    "rust": (
        {
            "src/main.rs": "mod net;\npub(crate) mod text;\nuse std::fmt;\n",
            "src/net/mod.rs": "mod tcp;\nuse crate::text::{Clean, Trim as T};\n",
            "src/net/tcp.rs": "use super::super::text::Clean;\nuse crate::{net::Other, text};\nuse self::inner::X;\n",
            "src/net/tcp/inner.rs": "use super::Socket;",
            "src/text.rs": "",
        },
        {
            "src/main.rs": {"src/net/mod.rs", "src/text.rs"},
            "src/net/mod.rs": {"src/net/tcp.rs", "src/text.rs"},
            "src/net/tcp.rs": {"src/text.rs", "src/net/mod.rs", "src/net/tcp/inner.rs"},
            "src/net/tcp/inner.rs": {"src/net/tcp.rs"},
        },
    ),
    "c": (
        {
            "src/main.c": '#include <stdio.h>\n#include "util.h"\n#include <lib/deep.hpp>\n#include "../include/top.h"',
            "src/util.h": "",
            "src/util.c": '#include "util.h"',
            "include/lib/deep.hpp": '#include "../top.h"',
            "include/top.h": "",
            "other/stdio.h": "",
        },
        {
            "src/main.c": {"src/util.h", "include/lib/deep.hpp", "include/top.h"},
            "src/util.c": {"src/util.h"},
            "include/lib/deep.hpp": {"include/top.h"},
        },
    ),
}


@pytest.mark.parametrize("language", REPOSITORIES)
def test_imports(language: str) -> None:
    """The imports of a small repository, worked out by hand; what is outside counts for nothing."""
    files, expected = REPOSITORIES[language]
    assert imported(files) == expected
    backwards = dict(reversed(files.items()))
    assert imported(backwards) == expected, "whatever order the files come in"


def test_ambiguous_import_is_no_import() -> None:
    """Where two folders could be meant, neither is; the nearer one above the importer is no guess."""
    files = {
        "one/deep/name.py": "",
        "two/deep/name.py": "",
        "three/a.py": "import deep.name\n",
        "one/b.py": "import deep.name\n",
    }
    assert imported(files) == {"one/b.py": {"one/deep/name.py"}}


@pytest.mark.parametrize(
    "text",
    ["from a import (" * 20_000, "use crate::" * 20_000, "import " * 20_000, "(" * 200_000, "#include " * 20_000],
)
@pytest.mark.parametrize("name", ["a.py", "a.rs", "a.ts", "a.go", "a.c", "A.java"])
def test_hostile_text_takes_no_time(text: str, name: str) -> None:
    """Brackets that never close and imports that never end are read in linear time."""
    began = time.process_time()
    imported({name: text})
    list(definitions_in(text.encode(), language_of(name)))
    assert time.process_time() - began < 2


def test_dependency_order_survives_cycles() -> None:
    """In a cycle the file with the fewest imports left is first; ties go by path; tests are last."""
    paths = ["d.py", "b.py", "a.py", "c.py", "test_a.py"]
    d, b, a, c, test = range(5)
    imports = [{b}, {a, c}, {b}, set[int](), {a}]
    assert by_dependency(paths, imports) == [c, a, b, d, test]


def test_tests_are_last_though_they_wait_for_nothing() -> None:
    """A test whose imports are all there still comes after a cycle that is not."""
    assert by_dependency(["a.py", "test_b.py", "y.py", "z.py"], [set(), {0}, {3}, {0, 2}]) == [0, 2, 3, 1]


def test_dependency_order_keeps_linked_files_together() -> None:
    """Files that nothing links to others do not come between those that are linked, and lone tests are at the end."""
    paths = ["a.py", "b.py", "c.py", "a_test.py", "z.py"]
    assert by_dependency(paths, [{4}, set(), set(), set(), set()]) == [4, 0, 1, 2, 3]


def test_dependency_order_of_a_real_package() -> None:
    """In the standard library's json package every file comes after those that it imports."""
    folder = STDLIB / "json"
    paths = sorted(f"json/{file.name}" for file in folder.glob("*.py"))
    imports = imported_files(paths, ((STDLIB / path).read_text() for path in paths))
    order = by_dependency(paths, imports)
    assert sorted(order) == list(range(len(paths)))
    names = [paths[file] for file in order]
    assert names.index("json/scanner.py") < names.index("json/decoder.py") < names.index("json/__init__.py")
    assert names.index("json/__init__.py") < names.index("json/tool.py")


def test_order_takes_linear_time() -> None:
    """Twenty thousand files in one chain, and as many that share one word, are ordered in seconds."""
    count = 20_000
    paths = [f"{n:05}.py" for n in range(count)]
    began = time.process_time()
    assert by_dependency(paths, [{n + 1} if n + 1 < count else set() for n in range(count)])[0] == count - 1
    assert by_relatedness(paths, ["everywhere"] * count) == list(range(count))
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    ("path", "is_test"),
    [
        ("tests/a.py", True),
        ("src/test/java/A.java", True),
        ("a/__tests__/b.js", True),
        ("a/test_b.py", True),
        ("conftest.py", True),
        ("pkg/a_test.go", True),
        ("a.spec.ts", True),
        ("src/ATest.java", True),
        ("latest.py", False),
        ("contest.py", False),
        ("spec/data.py", False),
        ("testing.py", False),
        ("attestation/a.py", False),
    ],
)
def test_what_is_a_test(path: str, is_test: bool) -> None:
    """Tests are known by their path."""
    assert bool(TEST.search(path)) == is_test


def test_directory_order() -> None:
    """The files of a folder come before its folders, and a folder is finished before the next."""
    paths = ["b/z.py", "b/c/d.py", "b.py", "a/y.py", "b/a.py", "z.py"]
    assert [paths[file] for file in by_directory(paths)] == ["b.py", "z.py", "a/y.py", "b/a.py", "b/z.py", "b/c/d.py"]


def test_related_order() -> None:
    """Each file is followed by the one that shares the largest part of its words, worked out by hand."""
    texts = ["alpha beta", "gamma delta", "alpha beta zeta", "gamma zeta", "nothing shared"]
    assert by_relatedness(list("abcde"), texts) == [0, 2, 3, 1, 4]


def test_common_words_relate_nothing() -> None:
    """A word in many files does not make them related."""
    texts = ["return zebra", "return", "return zebra", *["return"] * 20]
    assert by_relatedness([f"{n:02}" for n in range(23)], texts)[:3] == [0, 2, 1]


def tops(tree: ast.Module) -> list[str]:
    """Return the names of what is defined at the left margin, by Python's own parser."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return [node.name for node in tree.body if isinstance(node, kinds)]


@pytest.mark.parametrize("module", MODULES)
def test_python_names_against_ast(module: str) -> None:
    """Every definition that Python's own parser finds is found, and at the left margin no other."""
    data = (STDLIB / module).read_bytes()
    tree = ast.parse(data)
    found = list(definitions_in(data, "python"))
    margin = [definition for definition in found if definition.top]
    assert [name for name in tops(tree) if name not in {definition.name for definition in margin}] == []
    lines = {line for line in data.decode().splitlines() if line[:1] not in (" ", "\t", "")}
    assert all(any(definition.name in line for line in lines) for definition in margin)
    every = {n.name for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))}
    assert every <= {definition.name for definition in found}
    assert all(data[: definition.name_end].endswith(definition.name.encode()) for definition in found)


@pytest.mark.parametrize(
    ("language", "text", "names"),
    [
        ("python", "async def a(): ...\n@deco\nclass B_1(C): ...\nd = 1\n# def e\n", ["a", "B_1"]),
        ("python", "def naïve(): ...\n", ["naïve"]),
        ("javascript", "export default function a() {}\nclass B {}\nconst c = 1\nfunction* d() {}\n", ["a", "B", "d"]),
        ("typescript", "export abstract class A {}\ninterface B {}\ndeclare enum C {}\n", ["A", "B", "C"]),
        ("java", "public final class A {\n    private static class B {}\n}\n@interface C {}\n", ["A", "B", "C"]),
        ("go", "func A() {}\nfunc (x *T) B() {}\ntype C struct {}\nvar d = 1\n", ["A", "B", "C"]),
        ("rust", "pub(crate) async fn a() {}\nstruct B;\nimpl B {\n    pub fn c(&self) {}\n}\n", ["a", "B", "c"]),
        ("c", "static int a(int x)\n{\n  return b(x);\n}\nint c(void);\nstruct d {\n};\nelse if (x)\n", ["a", "d"]),
        ("cpp", "std::string A::b(int x) {\n}\nclass C : public D {\n};\nclass E;\n", ["b", "C"]),
        ("", "def a(): ...", []),
    ],
)
def test_names(language: str, text: str, names: list[str]) -> None:
    """What each language defines, by hand."""
    assert [definition.name for definition in definitions_in(text.encode(), language)] == names


def test_definitions_begin_with_what_belongs_to_them() -> None:
    """Decorators and comments right above belong to a definition; a blank line parts them."""
    data = b"x = 1\n# not this\n\n# this\n@deco\ndef a():\n    # nor this\n    pass\ndef b(): ...\n"
    starts = [data[definition.start :].split(b"\n")[0] for definition in definitions_in(data, "python")]
    assert starts == [b"# this", b"def b(): ..."]


def test_languages_agree() -> None:
    """Every language whose ending is known has a rule for names, a grammar and nodes."""
    assert set(ENDINGS) == set(RULES) == set(GRAMMARS) == set(NODES)
    assert language_of("a/B.PY") == "python"
    assert language_of("Makefile") == language_of("a.txt") == ""
    assert [path for path in ("a.py", "a.sh", "a.yml", "a.md", "a", "a.txt") if has_headings(path)] == [
        "a.md",
        "a",
        "a.txt",
    ]


def strengths(text: str, *, headings: bool) -> list[tuple[str, int]]:
    """Return the text up to each boundary that is a line end or stronger, with its strength."""
    ids = np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int32)
    levels = BoundaryTable.of(TOKENIZER).strengths(ids, headings=headings)
    return [(text[: place + 1], int(level)) for place, level in enumerate(levels) if level >= LINE]


def test_sections() -> None:
    """A heading after a blank line begins a section, and so does a form feed; a comment in code does not."""
    text = "a\n\n# One\nb\n# no\n\nc\n\fd"
    expected = [("a\n", LINE), ("a\n\n", SECTION), ("a\n\n# One\n", LINE), ("a\n\n# One\nb\n", LINE)]
    blank = "a\n\n# One\nb\n# no\n\n"
    assert strengths(text, headings=True) == [
        *expected,
        (blank[:-1], LINE),
        (blank, BLANK_LINE),
        (f"{blank}c\n", SECTION),
    ]
    assert strengths(text, headings=False)[1] == ("a\n\n", BLANK_LINE)
    assert strengths(text, headings=False)[-1] == (f"{blank}c\n", SECTION)


def test_form_feed_inside_a_token() -> None:
    """A token with a form feed further on ends a section itself."""

    class Pieces:
        def get_vocab(self) -> dict[str, int]:
            return {"a": 0, "\n\f": 1}

        def convert_tokens_to_string(self, tokens: list[str]) -> str:
            return "".join(tokens)

    pieces: Any = Pieces()
    assert BoundaryTable.of(pieces).strengths(np.array([0, 1, 0], dtype=np.int32)).tolist() == [PLAIN, SECTION, PLAIN]


def cuts(text: str, name: str, length: int, min_length: int = 2, **said: Any) -> list[str]:
    """Return the chunks of a text."""
    document = TOKENIZER.document(text, name)
    options = ParagraphOptions(kind="paragraph", length=length, min_length=min_length, **said)
    chunks = list(options.build(Context(tokenizer=TOKENIZER))([document]))
    assert [chunk.spans[0].start for chunk in chunks] == [0, *(chunk.spans[0].end for chunk in chunks[:-1])]
    return [TOKENIZER.decode(chunk.input_ids) for chunk in chunks]


def test_headings_by_path() -> None:
    """The same text is cut at a heading where it may be one, and at a blank line where `#` begins a comment."""
    text = "one\n\n# two\nthree\n\nfour\n"
    assert cuts(text, "a.md", 20) == ["<s>one\n\n", "# two\nthree\n\nfour\n</s>"]
    assert cuts(text, "a.sh", 20)[0] == "<s>one\n\n# two\nthree\n\n"


SOURCE = '''import os


class A:
    """Text."""

    x = 1

    def first(self):
        pass

    # about second
    @property
    def second(self):

        return 1


# about b
def b():

    return 2
'''


@pytest.mark.parametrize(
    ("least", "length", "chunk"),
    [
        (2, len(SOURCE), SOURCE[: SOURCE.index("# about b")]),
        (20, 150, SOURCE[: SOURCE.index("    # about second")]),
        (20, 75, SOURCE[: SOURCE.index("    def first")]),
        (2, 75, SOURCE[: SOURCE.index("class A")]),
    ],
)
def test_code_is_cut_between_definitions(least: int, length: int, chunk: str) -> None:
    """The last of the strongest borders wins, the top level first, comments and decorators on the right side."""
    assert cuts(SOURCE, "a.py", length, least, code=True)[0] == f"<s>{chunk}"


@pytest.mark.parametrize(("name", "said"), [("a.sh", {"code": True}), ("a.py", {"code": False}), ("a.py", {})])
def test_text_is_cut_as_text(name: str, said: dict[str, Any]) -> None:
    """Without the option, or without a language, the last blank line wins."""
    front = SOURCE[: SOURCE.index("    return 2")]
    assert cuts(SOURCE, name, len(front) + 5, **said)[0] == f"<s>{front}"


def test_code_that_does_not_parse() -> None:
    """Broken code loses nothing."""
    broken = SOURCE.replace("):", "((") + "\x00)]}"
    assert "".join(cuts(broken, "a.py", 40, code=True)) == f"<s>{broken}</s>"


@pytest.mark.parametrize("module", MODULES)
def test_code_borders_against_ast(module: str) -> None:
    """Between two definitions at the left margin a border is found, by the lines of Python's own parser."""
    text = (STDLIB / module).read_text()
    tree = ast.parse(text)
    lines = text.encode().splitlines(keepends=True)
    places = [0, *itertools.accumulate(map(len, lines))]
    found = set(_borders(text))
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            line = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1
            while line and lines[line - 1].startswith(b"#"):
                line -= 1
            assert places[line] in found, f"before {node.name}"


def test_the_stronger_border_wins() -> None:
    """Where a class and its last method end together, it is the end of the class that counts."""
    text = "class A:\n    def f(self):\n        pass\n\nx = 1\n"
    assert list(_borders(text)) == [text.index("x = 1")]


def _borders(text: str) -> Iterator[int]:
    from ctxkit_chunkers.boundaries import DEFINITION
    from ctxkit_chunkers.definitions import Definitions

    data = text.encode()
    levels = np.zeros(len(data), dtype=np.uint8)
    Definitions().strengthen(levels, np.arange(1, len(data) + 1), data, "python")
    return (int(place) + 1 for place in np.flatnonzero(levels == DEFINITION))


def test_byte_places() -> None:
    """Tokens end where their bytes do; special tokens take none; what does not add up has no places."""
    table = ByteTable.of(TOKENIZER)
    document = TOKENIZER.document("aé\n")
    ends = table.ends(document.input_ids, "aé\n".encode())
    assert ends is not None
    assert ends.tolist() == [0, 1, 2, 3, 4, 4]
    assert table.ends(document.input_ids, b"ae\n") is None
    assert table.ends(document.input_ids[:0], b"") is None


@pytest.fixture
def without_tree_sitter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make tree-sitter impossible to import."""
    monkeypatch.setitem(sys.modules, "tree_sitter", None)


@pytest.mark.usefixtures("without_tree_sitter")
def test_missing_extra() -> None:
    """Without tree-sitter `code: true` is refused with the name of the extra; `auto` goes without."""
    assert not installed("python")
    with pytest.raises(CtxkitError, match="extra `code`") as caught:
        cuts(SOURCE, "a.py", 170, code=True)
    assert caught.value.exit_code == ExitCode.RECIPE
    assert cuts(SOURCE, "a.py", 170, code="auto") == cuts(SOURCE, "a.py", 170)


def test_auto_uses_what_is_installed() -> None:
    """With tree-sitter `auto` does what `true` does; a language without a grammar is cut as text."""
    assert cuts(SOURCE, "a.py", 170, code="auto") == cuts(SOURCE, "a.py", 170, code=True)
    if not installed("java"):
        assert cuts(SOURCE, "A.java", 170, code=True) == cuts(SOURCE, "A.java", 170)
