"""The files of a revision: what is read, what is left out, wherever the repository is."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

from ctxkit.errors import DataError
from ctxkit.host import Host
from ctxkit.registry import collect
from ctxkit.spec import Context
from ctxkit_sources.files import Files
from ctxkit_sources.git import location, processes
from ctxkit_sources.git.changes import text_changes
from ctxkit_sources.git.globs import Globs
from ctxkit_sources.git.processes import Stream, environment
from tests.unit.plugins.git_repositories import Repo, Told, git

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1\nsize 12345\n"


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    """Return an empty repository."""
    return Repo(tmp_path / "r" / "tools.git")


def test_files_at_a_revision(repo: Repo) -> None:
    """Every file is a document with the text that `git show` prints, at the commit that was asked for."""
    first = repo.commit({"b.py": "b\n", "a/x.py": "x", "empty": ""})
    second = repo.commit({"b.py": "B\n", "a/x.py": None})
    told = Told(repo.path, revision=first)
    paths = repo.git("ls-tree", "-r", "--name-only", first).decode().split()
    assert [(d.id, d.text, d.group, d.order, d.metadata) for d in told.documents] == [
        (
            f"tools/{path}",
            repo.show(first, path).decode(),
            "tools",
            order,
            {"repository": "tools", "path": path, "commit": first},
        )
        for order, path in enumerate(paths)
    ]
    assert Told(repo.path, revision="main", name="mine").texts == {"mine/b.py": "B\n", "mine/empty": ""}
    assert Told(repo.path, revision="main~1").texts == told.texts
    assert Told(repo.path).documents[0].metadata["commit"] == second
    assert not told.skipped


def test_left_out(repo: Repo) -> None:
    """What is no text of a regular file is left out and told, each once, and the rest is whole."""
    head = repo.commit({"first": "1"})
    repo.commit(
        {
            "binary": b"a\0b",
            "late.bin": b"a" * 7999 + b"\0",
            "later.bin": b"a" * 8000 + b"\0",
            "big": "x" * 1_000_001,
            "full": "x" * 1_000_000,
            "latin": "é".encode("latin-1"),
            "link": "first",
            "module": head,
            "model.bin": LFS,
            "lfs.md": LFS + "x" * 1024,
            "z": "last",
        },
        modes={"link": "120000", "module": "160000"},
    )
    told = Told(repo.path)
    assert sorted(told.skipped) == [
        ("tools/big", "larger than max_bytes"),
        ("tools/binary", "binary"),
        ("tools/late.bin", "binary"),
        ("tools/latin", "not utf-8"),
        ("tools/link", "symlink"),
        ("tools/model.bin", "Git LFS pointer"),
        ("tools/module", "submodule"),
    ]
    assert [d.id for d in told.documents] == [f"tools/{n}" for n in ("first", "full", "later.bin", "lfs.md", "z")]
    assert [d.order for d in told.documents] == [0, 1, 2, 3, 4]
    assert told.texts["tools/z"] == "last"
    assert told.texts["tools/full"] == "x" * 1_000_000


def test_encodings(repo: Repo) -> None:
    """A file in another encoding is read, replaced, left out or named, as asked."""
    repo.commit({"latin": "é".encode("latin-1"), "ok": "ok"})
    assert Told(repo.path, encoding="latin-1").texts["tools/latin"] == "é"
    assert Told(repo.path, errors="replace").texts["tools/latin"] == "\ufffd"
    with pytest.raises(DataError, match=r"tools/latin is not utf-8: byte 0xe9 at 0"):
        Told(repo.path, errors="strict")
    repo.commit({"wide": "é\n".encode("utf-16"), "latin": None, "ok": None})
    assert Told(repo.path, encoding="utf-16").texts == {"tools/wide": "é\n"}


def test_same_text_as_files(repo: Repo, tmp_path: Path) -> None:
    """Line ends and byte order marks become what the source `files` makes of them."""
    content = "\ufeffa\r\nb\rc\n\r\nd".encode()
    repo.commit({"f.txt": content})
    (tmp_path / "f.txt").write_bytes(content)
    assert list(Told(repo.path).texts.values()) == [d.text for d in Files([str(tmp_path / "f.txt")])]


NAMES = [b"$(touch x)", b"-rf", b"new\nline", b"\xff\xfe", b"tab\t", b'"quoted"', b"--output=x", b"a b/c", "ä".encode()]


def test_names_are_data(repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a file is called, it is read, its name is printable, and nothing is made of it."""
    monkeypatch.chdir(tmp_path)
    repo.commit({name: f"text of {number}" for number, name in enumerate(NAMES)})
    before = sorted(tmp_path.rglob("*"))
    told = Told(repo.path)
    assert sorted(told.texts.values()) == sorted(f"text of {number}" for number in range(len(NAMES)))
    assert {"tools/$(touch x)", "tools/-rf", "tools/new\\nline", "tools/\\xff\\xfe"} <= told.texts.keys()
    assert all(d.id.isprintable() and d.id.encode() for d in told.documents)
    assert sorted(tmp_path.rglob("*")) == before


PATHS = [
    "a.py",
    "b.txt",
    "src/a.py",
    "src/deep/a.py",
    "src/deep/b[1].txt",
    "x.py/inner",
    "docs/.hidden",
    "a-b",
    "src2/a",
    "src/x.py/inner",
]
PATTERNS = [
    *("*.py", "**/*.py", "src", "src/", "src/*", "src/**", "**/deep/*", "s??/a.py", "[ab].*", "[!a].txt", "docs/*"),
    *(
        "**",
        "src/**/a.py",
        "**/b[[]1].txt",
        "a[-]b",
        "*",
        "x.py",
        "nothing",
        "src/deep/a.p[!x]",
        "src?a.py",
        "src[!x]a.py",
    ),
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_globs(pattern: str, repo: Repo, tmp_path: Path) -> None:
    """Patterns choose what git's own pathspecs with `:(glob)` choose."""
    repo.commit(dict.fromkeys(PATHS, ""))
    repo.git("read-tree", "main")
    chosen = repo.git("ls-files", "--", f":(glob){pattern}").decode().split("\n")[:-1]
    globs = Globs((pattern,))
    assert [path for path in sorted(PATHS) if globs.matches(path.encode())] == sorted(chosen)


def test_include_and_exclude(repo: Repo) -> None:
    """Several patterns add up, exclusion wins, and a choice of nothing is an error."""
    repo.commit(dict.fromkeys(PATHS, ""))
    told = Told(repo.path, include=["src", "*.py"], exclude=["s*/de*", "a.py"])
    assert [d.metadata["path"] for d in told.documents] == ["src/a.py", "src/x.py/inner"]
    with pytest.raises(DataError, match=r"no file of tools at [0-9a-f]{12} is included"):
        Told(repo.path, include=["*.c"])


def worktree(repo: Repo) -> Path:
    """Return a clone of a repository with a working tree."""
    path = repo.path.parent / "tree"
    git(repo.path.parent, "clone", "--quiet", str(repo.path), str(path))
    return path


def test_places(repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository is read wherever git keeps it: bare, in `.git`, in a worktree, a submodule, borrowed objects."""
    head = repo.commit({"f": "text"})
    tree = worktree(repo)
    git(tree, "worktree", "add", "--quiet", "--detach", "../second")
    git(tmp_path / "r", "clone", "--quiet", "--shared", str(repo.path), str(tmp_path / 'od:d "n\\me'))
    git(tree, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(repo.path), "inside")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for place, name in {
        str(repo.path): "tools",
        str(tree): "tree",
        str(tree / ".git"): "tree",
        str(tmp_path / "r" / "second"): "second",
        str(tree / "inside"): "inside",
        str(tmp_path / 'od:d "n\\me'): 'od:d "n\\me',
        "r/tree": "tree",
        "~/r/tree": "tree",
    }.items():
        told = Told(place)
        assert (told.texts, told.options.fingerprint(Context())) == ({f"{name}/f": "text"}, head), place
    (tree / "sub").mkdir()
    with pytest.raises(DataError, match=r"tree/sub is not a git repository\nname the folder that holds \.git"):
        Told(tree / "sub")


def test_sha256(tmp_path: Path) -> None:
    """A repository with the longer object ids is read the same way."""
    repo = Repo(tmp_path / "long", "sha256")
    head = repo.commit({"f": "1\n"})
    repo.commit({"f": "2\n"})
    assert len(head) == 64
    assert Told(repo.path, revision=head).texts == {"long/f": "1\n"}
    assert [d.text for d in Told(repo.path, kind="git_history").documents][:1] == ["1\n"]


def test_detached_head(repo: Repo) -> None:
    """HEAD may name a commit instead of a branch."""
    first = repo.commit({"f": "1"})
    repo.commit({"f": "2"})
    repo.git("update-ref", "--no-deref", "HEAD", first)
    assert Told(repo.path).texts == {"tools/f": "1"}


def test_fingerprint(repo: Repo) -> None:
    """The fingerprint is the commit: it moves with a branch and stays for a commit; a tag counts as its commit."""
    first = repo.commit({"f": "1"})
    repo.git("-c", "user.name=x", "-c", "user.email=y", "tag", "-a", "-m", "release", "v1", first)

    def fingerprint(revision: str) -> str:
        cls = collect(Host()).components["source"]["git"]
        options: Any = cls.model_validate({"kind": "git", "path": str(repo.path), "revision": revision})
        return str(options.fingerprint(Context()))

    assert [fingerprint(revision) for revision in ("main", "v1", first[:10])] == [first] * 3
    second = repo.commit({"f": "2"})
    assert [fingerprint(revision) for revision in ("main", "v1", first[:10])] == [second, first, first]


@pytest.mark.parametrize("kind", ["git", "git_history"])
def test_bad_places(kind: str, tmp_path: Path) -> None:
    """No folder, no repository and an empty repository are told apart."""
    with pytest.raises(DataError, match="missing is not a git repository"):
        Told(tmp_path / "missing", kind)
    with pytest.raises(DataError, match="is not a git repository"):
        Told(tmp_path, kind)
    (tmp_path / ".git").write_text("gitdir: nowhere\n")
    with pytest.raises(DataError, match="is not a git repository"):
        Told(tmp_path, kind)
    with pytest.raises(DataError, match="empty has no commits yet"):
        Told(Repo(tmp_path / "empty").path, kind)
    broken = Repo(tmp_path / "broken")
    broken.commit({"f": "1"})
    (broken.path / "config").write_text("[core\n")
    with pytest.raises(DataError, match=r"git cannot read .*broken: bad config line 1"):
        Told(broken.path, kind)


@pytest.mark.parametrize("revision", ["nowhere", "HEAD:f", "main~7", "0" * 40, "main..main", "^main", "main^{tree}"])
def test_unknown_revisions(revision: str, repo: Repo) -> None:
    """What names no commit is an error that names it."""
    repo.commit({"f": "1"})
    with pytest.raises(DataError) as caught:
        Told(repo.path, revision=revision)
    assert f"has no commit {revision}\n" in str(caught.value)


@pytest.mark.parametrize("revision", ["--output=x", "-1", "", ":f", "a\nb", "a\0b"])
def test_revisions_that_are_none(revision: str, repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What git could take for something else never reaches it, through the recipe or without."""
    from ctxkit_sources.git.repository import opened

    monkeypatch.chdir(tmp_path)
    repo.commit({"f": "1"})
    with pytest.raises(ValueError, match="is no revision"):
        Told(repo.path, revision=revision)
    with pytest.raises(DataError, match="is no revision"), opened(str(repo.path), revision):
        pass
    assert not (tmp_path / "x").exists()


def test_shallow(repo: Repo, tmp_path: Path) -> None:
    """A shallow clone gives what it has, and says where its history ends."""
    commits = [repo.commit({"f": f"{n}\n", "g": "same\n"}) for n in range(4)]
    git(tmp_path, "clone", "--quiet", "--bare", "--depth=2", f"file://{repo.path}", "short")
    assert Told(tmp_path / "short").texts == {"short/f": "3\n", "short/g": "same\n"}
    told = Told(tmp_path / "short", "git_history", form="versions", min_versions=1)
    assert told.texts == {f"{commits[2]}:f": "2\n", f"{commits[3]}:f": "3\n", f"{commits[2]}:g": "same\n"}
    assert told.skipped == [(commits[2], "history before it: shallow clone")]
    with pytest.raises(DataError, match="a shallow clone has only its newest commits"):
        Told(tmp_path / "short", revision="main~2")


def test_partial(repo: Repo, tmp_path: Path) -> None:
    """A partial clone gives what it has; what it lacks is told and fetched from nowhere."""
    repo.commit({"f": "1\n" * 9, "g": "same\n"})
    repo.commit({"f": None, "h": "1\n" * 8, "g": None, "i": "same\n"})
    repo.git("config", "uploadpack.allowFilter", "true")
    git(tmp_path, "clone", "--quiet", "--no-checkout", "--filter=blob:none", f"file://{repo.path}", "part")
    told = Told(tmp_path / "part", "git_history", form="versions", min_versions=1)
    exact = "by rule: renames with changes: partial clone"
    assert (told.texts, told.reasons) == ({}, {"missing object": 4, "by rule: deletion": 1, exact: 1})
    head = git(tmp_path / "part", "rev-parse", "HEAD").decode().strip()
    bare = told.options.fingerprint(Context())
    assert bare.startswith(f"{head} pack-")
    git(tmp_path / "part", "reset", "--quiet", "--hard")
    assert bare != told.options.fingerprint(Context())  # it has more now
    whole = Told(repo.path, "git_history", form="versions", min_versions=1)
    assert (exact in whole.reasons, whole.options.fingerprint(Context())) == (False, head)
    assert Told(tmp_path / "part").texts == {"part/h": "1\n" * 8, "part/i": "same\n"}


def test_missing_tree(repo: Repo) -> None:
    """A repository that has lost a folder is an error in git's words, not fewer documents."""
    repo.commit({"f": "1", "sub/g": "2"})
    tree = repo.git("rev-parse", "main:sub").decode().strip()
    repo.git("repack", "-adq")
    pack = next((repo.path / "objects/pack").glob("*.pack"))
    held = pack.read_bytes()
    for file in (repo.path / "objects/pack").iterdir():
        file.unlink()
    repo.git("unpack-objects", "-q", given=held)
    (repo.path / "objects" / tree[:2] / tree[2:]).unlink()
    for kind in ("git", "git_history"):
        with pytest.raises(DataError, match=r"of tools failed: .*" + tree):
            Told(repo.path, kind)


def test_another_owner(repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository of another user is refused, unless the person's own git trusts the folder, or sudo was used."""
    repo.commit({"f": "1"})
    owner = repo.path.stat().st_uid
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(
        DataError, match=rf"tools.git belongs to another user \(number {owner}\)\nif you trust it"
    ) as caught:
        Told(repo.path)
    command = caught.value.hint.partition(": ")[2].split()
    subprocess.run(command, check=True, env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]})
    assert Told(repo.path).texts == {"tools/f": "1"}
    (tmp_path / ".gitconfig").unlink()
    monkeypatch.setattr(location, "_own_users", lambda: {owner})
    assert Told(repo.path).texts == {"tools/f": "1"}


@pytest.mark.parametrize(("user", "caller", "own"), [(0, "7", {0, 7}), (0, "x", {0}), (0, "", {0}), (5, "7", {5})])
def test_own_users(user: int, caller: str, own: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the superuser may act for the user that called sudo."""
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setenv("SUDO_UID", caller)
    assert location._own_users() == own


def test_no_git(repo: Repo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without git there is a message."""
    repo.commit({"f": "1"})
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match=r"git is not installed\ninstall git"):
        Told(repo.path)


def silent_git(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a git on the path that says nothing for ten minutes."""
    folder.mkdir()
    (folder / "git").write_text("#!/bin/sh\nexec sleep 600\n")
    (folder / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_git_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A git that says nothing is given up and killed."""
    silent_git(tmp_path / "bin", monkeypatch)
    monkeypatch.setattr(processes, "STALL_SECONDS", 0.05)
    with (
        pytest.raises(DataError, match=r"git log of x said nothing for 0 seconds and was given up"),
        Stream(["log"], environment(), "git log of x") as stream,
    ):
        stream.output.read()
    with pytest.raises(DataError, match="git did not finish within 0 seconds"):
        processes.run(["log"], environment(), 0.05)
    no_children()


def no_children() -> None:
    """Make sure that every git is gone, a zombie too; libraries of other tests may have left helpers of theirs."""
    assert [child for child in psutil.Process().children(recursive=True) if "git" in child.name()] == []


@pytest.mark.parametrize("kind", ["git", "git_history"])
def test_stopping_early(kind: str, repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who takes one document of many leaves no process, thread or folder behind."""
    import tempfile
    import threading

    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    for n in range(3):
        repo.commit({f"f{i}": f"{n}" * 300_000 for i in range(9)})
    cls: Any = collect(Host()).components["source"][kind]
    before = set(threading.enumerate())  # libraries that other tests loaded keep threads of their own
    documents = iter(cls.model_validate({"kind": kind, "path": str(repo.path)}).build(Context()))
    next(documents)
    assert list(scratch.iterdir())
    documents.close()
    changes: Any = text_changes(str(repo.path))
    next(changes)
    changes.close()
    no_children()
    assert set(threading.enumerate()) <= before
    assert not list(scratch.iterdir())


@pytest.mark.timeout(60)
def test_stopping_early_in_a_large_repository(repo: Repo) -> None:
    """Neither side waits for the other where both pipes are full when the reader stops."""
    repo.commit_all([{f"f{n}": f"{n}" * 100 for n in range(4000)}])
    cls: Any = collect(Host()).components["source"]["git"]
    documents = iter(cls.model_validate({"kind": "git", "path": str(repo.path)}).build(Context()))
    next(documents)
    documents.close()
    no_children()


def test_nothing_of_the_environment(repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables by which git is steered elsewhere do not change what is read."""
    repo.commit({"f": "1"})
    other = Repo(tmp_path / "other")
    other.commit({"f": "other"})
    for name in ("GIT_DIR", "GIT_COMMON_DIR", "GIT_WORK_TREE"):
        monkeypatch.setenv(name, str(other.path))
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(other.path / "objects"))
    monkeypatch.setenv("GIT_TRACE", str(tmp_path / "trace"))
    assert Told(repo.path).texts == {"tools/f": "1"}
    assert not (tmp_path / "trace").exists()
