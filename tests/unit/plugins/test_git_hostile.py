"""Repositories and URLs that want to run a program: each trap is shown to work on plain git, and to do nothing here."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ctxkit.errors import DataError
from ctxkit.spec import Context
from ctxkit_sources.git.changes import text_changes
from ctxkit_sources.git.clone import resolved
from tests.unit.plugins.git_repositories import ENVIRONMENT, Repo, Told, git

READERS: dict[str, Callable[[Path], object]] = {
    "git": Told,
    "git_history": lambda path: Told(path, "git_history", min_versions=1),
    "repository chain": lambda path: Told(path, "git_history", chain="repository"),
    "fingerprint": lambda path: Told(path, "git", include=["a.txt"]).options.fingerprint(Context()),
    "changes": lambda path: list(text_changes(str(path))),
}
"""All that reads a repository."""


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """Return a file that exists as soon as a trap has sprung."""
    return tmp_path / "sprung"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a repository with a working tree, two commits and an annotated tag."""
    repo = Repo(tmp_path / "origin")
    repo.commit({"a.txt": "1\n", "b.txt": "b\n" * 9, ".gitattributes": "*.txt diff=trap filter=trap\n"})
    repo.commit({"a.txt": "2\n", "b.txt": None, "c.txt": "b\n" * 8})
    git(tmp_path, "clone", "--quiet", str(repo.path), "tree")
    return tmp_path / "tree"


def script(path: Path, marker: Path) -> Path:
    """Write a program that leaves the marker."""
    path.write_text(f"#!/bin/sh\ntouch '{marker}'\n")
    path.chmod(0o755)
    return path


def plain(tree: Path, *arguments: str) -> None:
    """Run git as a careless reader would."""
    subprocess.run(["git", "-C", tree, *arguments], env=ENVIRONMENT, capture_output=True, check=False, timeout=30)


TRAPS = {
    "core.fsmonitor": (("status",), ("diff",)),
    "diff.trap.textconv": (("log", "-p"), ("show",)),
    "diff.external": (("diff", "HEAD~", "HEAD"),),
    "diff.trap.command": (("diff", "HEAD~", "HEAD"),),
    "filter.trap.smudge": (("checkout", "--force", "HEAD~"),),
    "core.pager": (("--paginate", "log"),),
}


@pytest.mark.parametrize("trap", TRAPS)
def test_configured_programs(trap: str, tree: Path, marker: Path) -> None:
    """No program that a repository configures is run, and what it holds is read all the same."""
    program = script(tree.parent / "trap.sh", marker)
    git(tree, "config", trap, str(program))
    if trap != "core.pager":  # It needs a terminal to spring.
        plain(tree, *TRAPS[trap][0])
        (tree / "a.txt").write_text("touched\n")
        plain(tree, *TRAPS[trap][-1])
        assert marker.exists(), "the trap is not armed"
        marker.unlink()
    for reader in READERS.values():
        reader(tree)
    assert Told(tree, include=["*.txt"], revision="origin/main").texts == {"tree/a.txt": "2\n", "tree/c.txt": "b\n" * 8}
    assert not marker.exists()


def test_hooks(tree: Path, marker: Path) -> None:
    """No hook of a repository is run."""
    hooks = tree / "hooks"
    hooks.mkdir()
    for name in ("post-checkout", "reference-transaction", "post-index-change", "post-rewrite", "fsmonitor-watchman"):
        script(hooks / name, marker)
    git(tree, "config", "core.hooksPath", str(hooks))
    plain(tree, "checkout", "--force", "--detach", "HEAD")
    assert marker.exists(), "the trap is not armed"
    marker.unlink()
    for reader in READERS.values():
        reader(tree)
    assert not marker.exists()


def test_attributes_of_the_repository(tree: Path) -> None:
    """Attributes that call text binary, or set an encoding, change nothing."""
    (tree / ".git/info/attributes").write_text("* -diff -text working-tree-encoding=UTF-16\n")
    assert "2\n" in Told(tree, "git_history", form="versions").texts.values()


def test_promisor(tree: Path, marker: Path) -> None:
    """What is missing is fetched from nowhere, though the repository names a program to fetch it with."""
    program = script(tree.parent / "upload", marker)
    for blob in ("HEAD:a.txt", "HEAD~:b.txt"):
        name = git(tree, "rev-parse", blob).decode().strip()
        (tree / ".git/objects" / name[:2] / name[2:]).unlink(missing_ok=True)
    for key, value in {
        "core.repositoryformatversion": "1",
        "extensions.partialClone": "origin",
        "remote.origin.promisor": "true",
        "remote.origin.uploadpack": str(program),
    }.items():
        git(tree, "config", key, value)
    (tree / ".git/objects/pack").mkdir(exist_ok=True)
    (tree / ".git/objects/pack/pack-0.promisor").touch()
    plain(tree, "cat-file", "-p", "HEAD:a.txt")
    assert marker.exists(), "the trap is not armed"
    marker.unlink()
    for reader in READERS.values():
        reader(tree)
    assert Told(tree, include=["*.txt"]).skipped == [("tree/a.txt", "missing object")]
    assert not marker.exists()


def test_promised_commit(tree: Path, marker: Path) -> None:
    """Not even the commit itself is fetched where it is missing."""
    test_promisor(tree, marker)
    name = git(tree, "rev-parse", "HEAD").decode().strip()
    (tree / ".git/objects" / name[:2] / name[2:]).unlink()
    plain(tree, "log")
    assert marker.exists(), "the trap is not armed"
    marker.unlink()
    for kind in ("git", "git_history"):
        with pytest.raises(DataError, match="has no commit HEAD"):
            Told(tree, kind)
    assert not marker.exists()


def test_replaced_objects(tree: Path) -> None:
    """A replacement that a repository declares for an object does not change what a commit id stands for."""
    old, new = (git(tree, "rev-parse", f"HEAD{place}:a.txt").decode().strip() for place in ("~", ""))
    git(tree, "replace", new, old)
    assert Told(tree).texts["tree/a.txt"] == "2\n"
    git(tree, "replace", "--graft", "HEAD")
    assert Told(tree, revision="HEAD~").texts["tree/a.txt"] == "1\n"


URLS = [
    ("ext::sh -c touch% MARKER", "ext:: names a program that git would run"),
    ("fd::7", "fd:: names a program"),
    ("::x", ":: names a program"),
    ("ext+x::y", r"ext\+x:: names a program"),
    ("--upload-pack=touch MARKER", "is no path or URL"),
    ("-oProxyCommand=touch MARKER", "is no path or URL"),
    ("ssh://-oProxyCommand=touch MARKER/x", "has a host that reads like an option"),
    ("ssh://me@-oProxyCommand=touch/x", "has a host that reads like an option"),
    ("me@-oProxyCommand=touch:x", "has a host that reads like an option"),
    ("ftp://host/x", "repositories are not read over ftp://"),
    ("EXT://host/x", "repositories are not read over EXT://"),
    ("https://host/x\nhttps://other", "is no path or URL"),
    ("https://[::1/x", "is no URL"),
]


@pytest.mark.parametrize(("url", "said"), URLS, ids=[url for url, _ in URLS])
def test_refused_urls(url: str, said: str, tmp_path: Path, marker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could run a program is refused before git sees it: in a recipe, and by who calls the reader."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    url = url.replace("MARKER", str(marker))
    with pytest.raises(ValueError, match=said):
        Told(url)
    with pytest.raises(DataError, match=said):
        resolved(url, "HEAD")
    assert not marker.exists()
    assert not (tmp_path / "cache").exists()


def test_rewritten_transport(tmp_path: Path, marker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where the person's own configuration rewrites a URL to run a program, only the allowed transports work."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "config"))
    (tmp_path / "config").write_text(f'[url "ext::touch {marker} #"]\n\tinsteadOf = https://host/\n')
    with pytest.raises(DataError, match=r"https://host/x cannot be cloned or fetched: transport 'ext' not allowed"):
        Told("https://host/x")
    assert not marker.exists()


def test_url_of_a_hostile_repository(tree: Path, marker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cloning from a folder on this machine runs nothing that the folder configures."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tree.parent / "cache"))
    program = script(tree.parent / "trap.sh", marker)
    for key in ("core.fsmonitor", "uploadpack.packObjectsHook", "core.alternateRefsCommand", "core.sshCommand"):
        git(tree, "config", key, str(program))
    script(tree / ".git/hooks/post-checkout", marker)
    assert Told(f"file://{tree}", include=["a.txt"]).texts == {"tree/a.txt": "2\n"}
    assert not marker.exists()
