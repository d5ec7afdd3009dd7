"""Documents from files: whatever lies in a folder, each is read, reported or refused."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxkit.errors import DataError
from ctxkit.registry import Registry
from ctxkit.spec import Context
from ctxkit_sources import decoding
from ctxkit_sources.decoding import Decoding
from ctxkit_sources.files import Files, open_regular

STDLIB = sysconfig.get_path("stdlib")
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write files by name into the working directory."""
    monkeypatch.chdir(tmp_path)

    def written(**files: str | bytes) -> Path:
        for name, content in files.items():
            path = tmp_path / name.replace("__", "/").replace("_txt", ".txt")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path

    return written


def ids(*patterns: str, **options: Any) -> list[str]:
    """Return the ids of the documents of a files source."""
    return [document.id for document in Files(patterns, **options)]


def test_files_by_path(write: Write) -> None:
    """One document a file, named by its path, in the order of the paths, whatever order they were made in."""
    write(b_txt="B", a_txt="A", sub__c_txt="C")
    documents = list(Files(["*.txt", "**/*.txt"]))
    assert [(d.id, d.text, d.group) for d in documents] == [
        ("a.txt", "A", "."),
        ("b.txt", "B", "."),
        ("sub/c.txt", "C", "sub"),
    ]


def test_files_do_not_depend_on_the_file_system(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order is the same when the file system lists its entries another way, shuffled or not."""
    write(**{f"f{n}_txt": str(n) for n in range(20)})
    plain, shuffled = ids("*.txt"), ids("*.txt", seed=3)
    real = os.scandir

    class Backwards:
        def __init__(self, path: Any) -> None:
            self._entries = sorted(real(path), key=lambda entry: entry.name, reverse=True)

        def __enter__(self) -> Any:
            return iter(self._entries)

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(os, "scandir", Backwards)
    assert (ids("*.txt"), ids("*.txt", seed=3)) == (plain, shuffled)


def test_files_shuffled(write: Write) -> None:
    """A seed gives an order of its own with the same files, the same each time, another for another seed."""
    write(**{f"f{n}_txt": str(n) for n in range(20)})
    one, two = ids("*.txt", seed=1), ids("*.txt", seed=2)
    assert one == ids("*.txt", seed=1)
    assert sorted(one) == sorted(two) == ids("*.txt")
    assert len({tuple(one), tuple(two), tuple(ids("*.txt"))}) == 3


def test_shuffle_option_takes_the_seed_of_the_recipe(write: Write, registry: Registry) -> None:
    """`shuffle: true` draws its order from the seed of the recipe, `false` leaves the order of the paths."""
    write(**{f"f{n}_txt": str(n) for n in range(20)})
    cls = registry.components["source"]["files"]

    def order(*, shuffle: bool, seed: int) -> list[str]:
        options: Any = cls.model_validate({"kind": "files", "paths": ["*.txt"], "shuffle": shuffle})
        return [document.id for document in options.build(Context(seed=seed))]

    assert order(shuffle=True, seed=7) == ids("*.txt", seed=7)
    assert order(shuffle=False, seed=7) == ids("*.txt")


def test_files_named_twice_are_read_once(write: Write) -> None:
    """A file that two patterns match is one document."""
    write(a_txt="A")
    assert ids("*.txt", "a.*") == ["a.txt"]


def test_files_excluded(write: Write) -> None:
    """An exclude pattern means what the same pattern means in `paths`; a folder stands for all below it."""
    write(a_txt="A", sub__a_txt="A", sub__b_txt="B", sub__deep__c_txt="C")
    assert ids("**/*.txt", exclude=["sub/*"]) == ["a.txt"]
    assert ids("**/*.txt", exclude=["*/a.txt"]) == ["a.txt", "sub/b.txt", "sub/deep/c.txt"]
    assert ids("**/*.txt", exclude=["**/a.txt"]) == ["sub/b.txt", "sub/deep/c.txt"]
    assert ids("**/*.txt", exclude=["./sub/*.txt"]) == ["a.txt", "sub/deep/c.txt"]
    assert ids("**/*.txt", exclude=["sub/deep"]) == ["a.txt", "sub/a.txt", "sub/b.txt"]


def test_files_of_the_standard_library() -> None:
    """`{stdlib}` is the folder of the standard library, and the ids do not say where it lies."""
    documents = list(Files(["{stdlib}/[jk]*.py"], exclude=["{stdlib}/keyw*"]))
    there = sorted(path.name for path in Path(STDLIB).glob("[jk]*.py"))
    assert [document.id for document in documents] == [f"{{stdlib}}/{name}" for name in there if name != "keyword.py"]
    assert all(document.group == "{stdlib}" for document in documents)
    assert all(document.text == (Path(STDLIB) / Path(document.id).name).read_text() for document in documents)


def test_files_of_a_standard_library_in_an_odd_folder(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with brackets in its name is no pattern, and one whose name only begins alike is not it."""
    root = write(**{"lib[3]__a_txt": "A", "lib[3]x__b_txt": "B"})
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(root / "lib[3]"))
    assert ids("{stdlib}/*.txt", str(root) + "/lib[[]3]x/*.txt") == ["{stdlib}/a.txt", str(root / "lib[3]x/b.txt")]


def test_files_no_match(write: Write) -> None:
    """A pattern that matches nothing is an error, though others match."""
    write(a_txt="A")
    with pytest.raises(DataError, match=r"no file matches b\*\.txt\npaths are relative to the working directory"):
        ids("*.txt", "b*.txt")


def test_files_folder_is_no_file(write: Write) -> None:
    """A folder that a pattern matches is not read."""
    write(a_txt="A", **{"b.d__x": "X"})
    assert ids("*") == ["a.txt"]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"one\r\ntwo\rthree\n", "one\ntwo\nthree\n"),
        (b"\xef\xbb\xbfmarked", "marked"),
        ("né".encode(), "né"),
        (b"\r", "\n"),
        (b"\xef\xbb\xbf\r\n", "\n"),
        (b"late" * 3000 + b"\0", "late" * 3000 + "\0"),
    ],
)
def test_files_text(write: Write, content: bytes, text: str) -> None:
    """Line ends become newlines, a byte order mark goes, the rest stays."""
    write(a_txt=content)
    assert [document.text for document in Files(["a.txt"])] == [text]


def test_files_encoding(write: Write) -> None:
    """Another encoding is read as told, its byte order mark too."""
    write(a_txt="né".encode("latin-1"), b_txt="né".encode("utf-16"))
    assert [document.text for document in Files(["a.txt"], encoding="latin-1")] == ["né"]
    assert [document.text for document in Files(["b.txt"], encoding="utf-16")] == ["né"]


def test_files_other_bytes(write: Write) -> None:
    """Bytes of another encoding stop the source and name file and byte; or the file is skipped; or U+FFFD stands."""
    write(a_txt="A", b_txt=b"ok \xe9", c_txt="C")
    with pytest.raises(DataError, match=r"b\.txt is not utf-8: byte 0xe9 at 3\nset `encoding`, or `errors: skip`"):
        list(Files(["*.txt"]))
    assert [document.text for document in Files(["*.txt"], errors="skip")] == ["A", "C"]
    assert [document.text for document in Files(["*.txt"], errors="replace")] == ["A", "ok �", "C"]


def test_files_that_vanish(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is gone when its turn comes is named."""
    documents = iter(Files(["*.txt"]))
    root = write(a_txt="A", b_txt="B")
    next(documents)
    (root / "b.txt").unlink()
    with pytest.raises(DataError, match=r"b\.txt cannot be read: No such file or directory"):
        next(documents)


def test_files_unknown_encoding(faults: Callable[..., Any], minimal: str) -> None:
    """An encoding that Python does not know is a fault of the recipe."""
    (fault,) = faults(minimal, "data.sources.0.encoding=utf-9")
    assert fault.dotted == "data.sources.0.encoding"
    assert "Python knows no encoding utf-9" in fault.message


def read(*patterns: str, **options: Any) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the ids that a files source gives, and what it reports."""
    reported: list[tuple[str, str]] = []
    found = ids(*patterns, skipped=lambda *said: reported.append(said), **options)
    return found, reported


def test_files_reported(write: Write) -> None:
    """Whatever is left out is reported once, by its path and a reason that is the same for the same cause."""
    root = write(
        a_txt="A", b_txt="", c_txt=b"\xef\xbb\xbf", d_txt=b"a\0", e_txt=b"\xe9", f_txt=b"\xe9\xe9", g_txt="G" * 9
    )
    (root / "h.txt").symlink_to("nowhere.txt")
    (root / "i.txt").symlink_to("i.txt")
    (root / "j.txt").symlink_to("a.txt")
    os.mkfifo(root / "k.txt")
    found, reported = read("*.txt", errors="skip", max_bytes=8)
    assert found == ["a.txt"]
    assert sorted(reported) == [
        ("b.txt", "empty"),
        ("c.txt", "empty"),
        ("d.txt", "binary"),
        ("e.txt", "not utf-8"),
        ("f.txt", "not utf-8"),
        ("g.txt", "more than max_bytes"),
        ("h.txt", "a link that leads nowhere"),
        ("i.txt", "a link that leads nowhere"),
        ("j.txt", "a link to a file that is read already"),
        ("k.txt", "a pipe, not a file"),
    ]


def test_files_largest(write: Write) -> None:
    """A file of exactly `max_bytes` is read."""
    write(a_txt="é" * 4, b_txt="é" * 4 + "!")
    assert read("*.txt", max_bytes=8) == (["a.txt"], [("b.txt", "more than max_bytes")])


@pytest.mark.parametrize("links", [{"sub/up": "..", "sub/self": "."}, {"a/b": "../b", "b/a": "../a"}])
def test_files_symlink_loop(write: Write, links: dict[str, str]) -> None:
    """Links to folders that are read anyway are reported, not followed round and round."""
    root = write(x_txt="X", a__a_txt="A", b__b_txt="B", sub__c_txt="C")
    for name, target in links.items():
        (root / name).symlink_to(target, target_is_directory=True)
    found, reported = read("**/*.txt")
    assert found == ["x.txt", "a/a.txt", "b/b.txt", "sub/c.txt"]
    assert sorted(reported) == [(name, "a link to a folder that is read already") for name in sorted(links)]


def test_files_link_before_its_file(write: Write) -> None:
    """The file itself is read, though a link to it comes first."""
    root = write(z_txt="Z")
    (root / "a.txt").symlink_to("z.txt")
    (root / "b.txt").symlink_to("a.txt")
    reason = "a link to a file that is read already"
    assert read("*.txt") == (["z.txt"], [("a.txt", reason), ("b.txt", reason)])


def test_files_crossed_links_are_linear(write: Write) -> None:
    """Thirty folders that all link to each other, which make 30! paths, are read in a moment."""
    root = write(**{f"d{n}__f_txt": str(n) for n in range(30)})
    for n in range(30):
        for m in range(30):
            (root / f"d{n}" / f"l{m}").symlink_to(f"../d{m}")
    assert len(ids("**/*.txt")) == 30


def test_files_linked_folder_elsewhere(write: Write) -> None:
    """A link to a folder that is not below is followed."""
    root = write(in__a_txt="A", out__b_txt="B")
    (root / "in/link").symlink_to("../out")
    assert read("in/**/*.txt") == (["in/a.txt", "in/link/b.txt"], [])
    assert read("**/*.txt")[0] == ["in/a.txt", "out/b.txt"]


def test_files_named_two_ways_are_read_once(write: Write) -> None:
    """A file that is spelt in several ways is one document, and nothing is worth a report."""
    root = write(a_txt="A", sub__b_txt="B")
    assert read("a.txt", "./a.txt", "sub/../a.txt", str(root / "a.txt"))[1] == []
    assert len(ids("a.txt", "./a.txt", "sub/../a.txt", str(root / "a.txt"))) == 1


@pytest.mark.parametrize(
    "pattern",
    ["*", "**", "**/*", "*/*", "**/*.txt", "a/**/*.txt", "**/b/*", "[ab]*/?.txt", ".h/*", "**/.*", "./a/*", "a"],
)
def test_files_patterns_mean_what_they_mean_in_glob(write: Write, pattern: str) -> None:
    """Where there are no links, the same files match as by Python's own glob."""
    import glob

    root = write(a_txt="1", a__b_txt="2", a__b__c_txt="3", **{".h__d_txt": "4", "a__.e_txt": "5", "b__f.py": "6"})
    matched = glob.glob(pattern, recursive=True)  # noqa: PTH207 - Path.glob also finds names with a dot in front
    expected = sorted({os.path.normpath(path) for path in matched if Path(path).is_file()})
    if expected:
        assert ids(pattern) == expected
    else:
        with pytest.raises(DataError, match=r"it matches a folder; a/\*\* matches the files in it"):
            ids(pattern)
    assert root.is_dir()


@pytest.fixture
def within_a_second() -> Iterator[None]:
    """Fail where something waits."""

    def late(*_: object) -> None:
        raise TimeoutError("it waits")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(5)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("within_a_second")
def test_files_pipe_alone(write: Write) -> None:
    """A pattern that matches only a pipe, a socket or a device says so, and does not wait for a writer."""
    root = write()
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        for name, reason in {"pipe": "a pipe", "socket": "a socket", "/dev/null": "a device"}.items():
            with pytest.raises(DataError, match=f"no file matches {name}\nwhat it matches is {reason}, not a file"):
                ids(name)


@pytest.mark.usefixtures("within_a_second")
def test_files_that_become_a_pipe(write: Write) -> None:
    """A file that is a pipe when its turn comes is refused, not waited for."""
    root = write(a_txt="A", b_txt="B")
    documents = iter(Files(["*.txt"]))
    next(documents)
    (root / "b.txt").unlink()
    os.mkfifo(root / "b.txt")
    with pytest.raises(DataError, match=r"b\.txt cannot be read: not a regular file"):
        next(documents)
    with pytest.raises(OSError, match="not a regular file"):
        open_regular("b.txt")


def test_files_with_nothing_now(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that would have to be waited for, as the log of the system is, cannot be read; nobody waits."""
    write(a_txt="A", b_txt="B")
    out, into = os.pipe2(os.O_NONBLOCK)
    fdopen = os.fdopen
    monkeypatch.setattr(os, "fdopen", lambda handle, mode: fdopen(os.dup2(out, handle), mode))
    reason = "cannot be read: it has nothing to read now"
    try:
        assert read("*.txt", errors="skip") == ([], [("a.txt", reason), ("b.txt", reason)])
        with pytest.raises(DataError, match=f"a.txt {reason}"):
            ids("*.txt")
    finally:
        os.close(out)
        os.close(into)


def test_files_unreadable(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file or folder that may not be read stops the source, or is reported; root may read all, so os says no here."""
    write(a_txt="A", b_txt="B", sub__c_txt="C")
    opened, listed = os.open, Path.iterdir

    def refuse(path: Any, *rest: Any) -> Any:
        if str(path) == "b.txt":
            raise PermissionError(13, "Permission denied", path)
        return opened(path, *rest)

    def hide(path: Path) -> Any:
        if path.name == "sub":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(Path, "iterdir", hide)
    with pytest.raises(DataError, match=r"b\.txt cannot be read: Permission denied\nexclude it, or set `errors: skip`"):
        ids("*.txt")
    with pytest.raises(DataError, match="sub cannot be read: Permission denied\nexclude it"):
        ids("**/*.txt")
    reason = "cannot be read: Permission denied"
    assert read("**/*.txt", errors="skip") == (["a.txt"], [("sub", reason), ("b.txt", reason)])
    assert read("**/[ac]*.txt", exclude=["sub"]) == (["a.txt"], [])


def test_files_odd_names(write: Write) -> None:
    """A name that is not UTF-8 becomes an id that is; brackets and newlines in names are characters."""
    root = write(**{"new\nline_txt": "A"})
    Path(os.fsdecode(os.fsencode(root) + b"/\xff.txt")).write_text("B")
    found = list(Files(["*.txt"]))
    assert sorted(document.id for document in found) == ["\\xff.txt", "new\nline.txt"]
    assert all(document.id.encode() for document in found)


@pytest.mark.parametrize("place", [0, 5000, 8191])
def test_files_binary(write: Write, place: int) -> None:
    """A NUL in the first 8 KB makes a file binary: skipped and reported, read, or refused."""
    write(a_txt=b"a" * place + b"\0" + b"b" * 9000)
    assert read("a.txt") == ([], [("a.txt", "binary")])
    assert [document.text[place] for document in Files(["a.txt"], binary="keep")] == ["\0"]
    with pytest.raises(DataError, match=rf"a\.txt is binary: a NUL at {place}\nexclude it, or set `binary: skip`"):
        ids("a.txt", binary="strict")


def test_files_binary_ends(write: Write) -> None:
    """A NUL behind the first 8 KB is a character."""
    write(a_txt=b"a" * 8192 + b"\0")
    assert read("a.txt", binary="strict") == (["a.txt"], [])


def test_files_wide(write: Write) -> None:
    """NUL bytes are a part of UTF-16, a NUL character is not; read as UTF-8 it is another encoding, not binary."""
    write(a_txt="né".encode("utf-16"), b_txt="n\0".encode("utf-16-le"), c_txt="né".encode("utf-32"))
    assert [document.text for document in Files(["a.txt"], encoding="utf-16")] == ["né"]
    assert [document.text for document in Files(["c.txt"], encoding="utf-32")] == ["né"]
    assert read("b.txt", encoding="utf-16-le") == ([], [("b.txt", "binary")])
    with pytest.raises(DataError, match=r"a\.txt is not utf-8: byte 0xff at 0\n.*; it begins as UTF-16 does"):
        ids("a.txt")
    assert read("a.txt", errors="replace") == ([], [("a.txt", "binary")])


def test_files_newlines_kept(write: Write) -> None:
    """`newlines: keep` leaves every byte where it was."""
    write(a_txt=b"\xef\xbb\xbfone\r\ntwo\rthree\n")
    assert [document.text for document in Files(["a.txt"], newlines="keep")] == ["one\r\ntwo\rthree\n"]


@given(
    st.text(st.sampled_from("a\r\né€😀\ufeff")),
    st.sampled_from(["utf-8", "utf-16", "utf-16-be", "utf-32", "gb18030", "utf-8-sig"]),
    st.integers(1, 7),
)
def test_decoding_in_pieces(text: str, encoding: str, piece: int) -> None:
    """Wherever the pieces are cut, the text is what Python's own text files give; one mark at the front goes."""
    content = text.encode(encoding)
    expected = io.TextIOWrapper(io.BytesIO(content), encoding=encoding).read().removeprefix("\ufeff")
    kept = content.decode(encoding).removeprefix("\ufeff")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "PIECE", piece)
        assert Decoding(encoding).read(io.BytesIO(content)) == expected
        assert Decoding(encoding, newlines="keep").read(io.BytesIO(content)) == kept


@given(st.binary(max_size=30), st.integers(1, 7))
def test_wrong_bytes_in_pieces(content: bytes, piece: int) -> None:
    """Wherever the pieces are cut, the wrong byte is the one that Python names for the whole."""
    try:
        content.decode()
        expected = ""
    except UnicodeDecodeError as error:
        expected = f"is not utf-8: byte {content[error.start]:#04x} at {error.start}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "PIECE", piece)
        try:
            Decoding().read(io.BytesIO(content))
            found = ""
        except decoding.UnusableError as error:
            found = error.detail
    assert found == expected


@pytest.mark.parametrize("encoding", ["hex", "rot13", "undefined", "utf-9"])
def test_files_no_encoding_of_text(faults: Callable[..., Any], minimal: str, encoding: str) -> None:
    """An encoding that makes no text of bytes is a fault of the recipe."""
    (fault,) = faults(minimal, f"data.sources.0.encoding={encoding}")
    assert f"Python knows no encoding {encoding}" in fault.message


MEASURE = """
import resource, sys
from ctxkit_sources.files import Files
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
(document,) = Files([sys.argv[1]], binary="strict")
print(len(document.text), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("line", [b"a line of text that ends as on Windows\r\n", b"x" * 100, "строка\n".encode()])
def test_files_peak_memory(tmp_path: Path, line: bytes) -> None:
    """A file of 100 MB, with line ends to change or in a single line, takes little more than twice its size."""
    size = 100_000_000
    (tmp_path / "large.txt").write_bytes(line * (size // len(line)))
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "large.txt")]
    length, grown = map(int, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert length == len(line.decode().replace("\r\n", "\n")) * (size // len(line))
    assert grown < 2.2 * size


def test_files_fingerprint(write: Write, registry: Registry) -> None:
    """The fingerprint changes with the name, size or time of a file, and with nothing else."""
    root = write(a_txt="A", b_txt="B", c_py="C")
    cls: Any = registry.components["source"]["files"]

    def fingerprint(*patterns: str, **options: Any) -> str:
        return cls.model_validate({"kind": "files", "paths": patterns, **options}).fingerprint(Context())

    first = fingerprint("*.txt")
    os.utime(root / "c_py")
    (root / "d.py").write_text("D")
    assert fingerprint("*.txt") == fingerprint("b.*", "a.*") == first
    assert fingerprint("*.txt", exclude=["b.txt"]) != first
    times = (root / "a.txt").stat()
    os.utime(root / "a.txt", ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    later = fingerprint("*.txt")
    (root / "a.txt").write_text("AA")
    os.utime(root / "a.txt", ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    longer = fingerprint("*.txt")
    (root / "a.txt").rename(root / "e.txt")
    assert len({first, later, longer, fingerprint("*.txt")}) == 4
    with pytest.raises(DataError, match="no file matches"):
        fingerprint("nothing")


def test_files_of_a_folder_come_in_a_row(write: Write) -> None:
    """A folder is a group: its own files come together, those of the folders in it after them."""
    write(a__b_txt="1", a__c__d_txt="2", a__e_txt="3")
    documents = list(Files(["**/*.txt"]))
    assert [document.id for document in documents] == ["a/b.txt", "a/e.txt", "a/c/d.txt"]
    assert [document.group for document in documents] == ["a", "a", "a/c"]


def test_memory_of_a_long_file(write: Write) -> None:
    """A file is held once while it is read, and not at all once its document was handed on and let go."""
    size = 20_000_000
    write(long_txt=b"0123456789abcde\n" * (size // 16), short_txt="1")
    documents = iter(Files(["long.txt", "short.txt"]))
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        first = next(documents)
        _, peak = tracemalloc.get_traced_memory()
        assert len(first.text) == size
        del first
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 1.25 * size
    assert after - before < 0.1 * size
