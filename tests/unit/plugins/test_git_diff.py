"""Differences that git itself can apply, small and in bounded time."""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxkit_sources.git import diff
from ctxkit_sources.git.diff import unified
from ctxkit_sources.git.names import quoted, readable
from tests.unit.plugins.git_repositories import ENVIRONMENT, git

LINE = st.sampled_from(
    ["", "a", "b", "c", "\r", "a\r", "d\x0ce", "f\u2028g", "\\ No newline at end of file", "-", "+x", "é"]
)
TEXT = st.builds(lambda lines, end: "\n".join(lines) + end, st.lists(LINE, max_size=12), st.sampled_from(["", "\n"]))


def applied(folder: Path, patch: str) -> None:
    """Let git apply a patch to a folder."""
    apply = ["git", "apply", "--whitespace=nowarn", "-"]
    done = subprocess.run(apply, cwd=folder, input=patch.encode(), capture_output=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 0, done.stderr.decode() + patch


@settings(max_examples=60, deadline=None)
@given(pairs=st.lists(st.tuples(TEXT | st.none(), TEXT | st.none()), min_size=1, max_size=25))
def test_git_applies_it(pairs: list[tuple[str | None, str | None]], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Git turns the old text into the new one, byte for byte, whatever the ends of lines and of the file."""
    folder = tmp_path_factory.mktemp("apply")
    patches = []
    for number, (old, new) in enumerate(pairs):
        if old is not None:
            (folder / f"f{number}").write_bytes(old.encode())
        if old != new:
            name = f"f{number}".encode()
            patches.append(unified(old, new, name, name))
    if patches:
        applied(folder, "".join(patches))
    for number, (_, new) in enumerate(pairs):
        file = folder / f"f{number}"
        assert (file.read_bytes().decode() if file.exists() else None) == new


@pytest.mark.parametrize(
    "name", [b"a b", b"tab\there", b'quote"', b"new\nline", b"\xff\xfe", "ä".encode(), b"back\\slash"]
)
def test_names(name: bytes, tmp_path: Path) -> None:
    """A rename to any name is understood by git, with and without a change of the text."""
    (tmp_path / "old").write_text("1\n2\n")
    applied(tmp_path, unified("1\n2\n", "1\n2\n", b"old", name))
    applied(tmp_path, unified("1\n2\n", "1\n3", name, name))
    assert [bytes(path) for path in tmp_path.iterdir()] == [bytes(tmp_path) + b"/" + name]
    assert next(tmp_path.iterdir()).read_bytes() == b"1\n3"


def test_names_as_git_writes_them(tmp_path: Path) -> None:
    """Names in plain text and names in quotes are told apart as git does with `core.quotePath=false`."""
    git(tmp_path, "init", "--quiet")
    names = [
        b"a b",
        b"tab\there",
        b'quote"',
        b"new\nline",
        "ä".encode(),
        b"back\\slash",
        b"bell\x07",
        b"del\x7f",
        b"-rf",
    ]
    for name in names:
        Path(bytes(tmp_path).decode(), name.decode()).touch()
    listed = git(tmp_path, "-c", "core.quotePath=false", "ls-files", "--others").decode().splitlines()
    # Git leaves letters beyond ASCII alone within quotes too; no name here has both.
    assert sorted(quoted(name) for name in names) == sorted(listed)


@pytest.mark.parametrize(
    ("name", "shown"),
    [(b"a b", "a b"), ("ä".encode(), "ä"), (b"\xff", "\\xff"), (b"a\nb", "a\\nb"), (b"\x1b[31m", "\\x1b[31m")],
)
def test_readable(name: bytes, shown: str) -> None:
    """Nothing that is shown can break a line, steer a terminal or fail to be encoded."""
    assert readable(name) == shown


@pytest.mark.parametrize("name", [b"plain", b"a b", b"tab\t", "ä b".encode()])
def test_as_git_writes_it(name: bytes, tmp_path: Path) -> None:
    """Added, changed, renamed and deleted files read as in `git diff`, but for object ids and similarity."""
    git(tmp_path, "init", "--quiet")
    path = tmp_path / name.decode()
    versions: list[tuple[bytes, str | None]] = [
        (name, "1\n2\n3\n4\n5\n"),
        (name, "1\n2\nx\n4\n5"),
        (b"new", "1\n2\nx\n4\n"),
    ]
    before: tuple[bytes, str | None] = (name, None)
    for now in [*versions, (b"new", None)]:
        path.unlink(missing_ok=True)
        path = tmp_path / now[0].decode()
        if now[1] is not None:
            path.write_text(now[1])
        git(tmp_path, "add", "--all")
        theirs = git(tmp_path, "-c", "core.quotePath=false", "diff", "--cached", "-M20%").decode()
        git(tmp_path, "-c", "user.name=x", "-c", "user.email=y", "commit", "--quiet", "-m", "x")
        kept = [
            line for line in theirs.splitlines(keepends=True) if not line.startswith(("index ", "similarity index "))
        ]
        assert unified(before[1], now[1], before[0], now[0]) == "".join(kept)
        before = now


def test_coarse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where looking closer would take too long, the rest is replaced as a whole, and the difference is still right."""
    lines = [f"{n}\n" for n in range(20)]
    old, new = "".join(lines), "".join([*lines[:5], "x\n", *lines[6:15], "y\n", *lines[16:]])
    (tmp_path / "f").write_text(old)
    assert changed(unified(old, new, b"f", b"f")) == 4
    monkeypatch.setattr(diff, "WORK", 1)
    patch = unified(old, new, b"f", b"f")
    assert changed(patch) == 22
    applied(tmp_path, patch)
    assert (tmp_path / "f").read_text() == new


def changed(patch: str) -> int:
    """Return how many lines a patch takes away or adds."""
    return sum(line[:1] in "+-" for line in patch.split("\n")[4:] if line)


def test_as_small_as_git(tmp_path: Path) -> None:
    """Edits of a source file cost no more lines than by `git diff --patience`."""
    generator = random.Random(5)
    lines = Path(random.__file__).read_text().splitlines(keepends=True)
    ours, theirs = 0, 0
    for _ in range(25):
        edited = lines.copy()
        for _ in range(generator.randrange(1, 9)):
            start = generator.randrange(len(edited))
            edited[start : start + generator.randrange(6)] = generator.choices(lines, k=generator.randrange(6))
        old, new = "".join(lines), "".join(edited)
        (tmp_path / "a").write_text(old)
        (tmp_path / "b").write_text(new)
        diff = ["git", "diff", "--no-index", "--patience", "--numstat", "a", "b"]
        said = subprocess.run(diff, cwd=tmp_path, capture_output=True, env=ENVIRONMENT, check=False).stdout.split()
        theirs += int(said[0]) + int(said[1])
        ours += changed(unified(old, new, b"a", b"a"))
    assert ours <= theirs * 1.03


@pytest.mark.parametrize("kind", ["no line alike", "every line alike", "shuffled", "lines alike in pairs", "two lines"])
def test_bounded_time(kind: str, tmp_path: Path) -> None:
    """A generated file of 50,000 lines takes a second or so, not a quadratic while, and the difference is right."""
    count = 50_000
    generator = random.Random(1)
    old = {
        "no line alike": [f"{n}\n" for n in range(count)],
        "every line alike": ["0,\n"] * count,
        "shuffled": [f"{n}\n" for n in range(count)],
        "two lines": generator.choices(["0,\n", "1,\n"], k=count),
        "lines alike in pairs": [f"{n % (count // 2)}\n" for n in range(count)],
    }[kind]
    new = [f"x{line}" for line in old] if kind == "no line alike" else old.copy()
    if kind in {"shuffled", "lines alike in pairs", "two lines"}:
        generator.shuffle(new)
    if kind == "every line alike":
        new[100:40_000] = ["1,\n"] * 30_000
    start = time.process_time()
    patch = unified("".join(old), "".join(new), b"f", b"f")
    seconds = time.process_time() - start
    (tmp_path / "f").write_text("".join(old))
    applied(tmp_path, patch)
    assert (tmp_path / "f").read_text() == "".join(new)
    assert seconds < 4
