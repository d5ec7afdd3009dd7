"""Clones of URLs: made once, whole or not at all, and silent about credentials."""

from __future__ import annotations

import functools
import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctxkit.errors import DataError
from ctxkit_sources.git import clone, location
from tests.unit.plugins.git_repositories import Repo, Told, git


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder in which clones are kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / "cache/ctxkit/git"


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    """Return a repository with one commit."""
    repo = Repo(tmp_path / "far" / "tools.git")
    repo.commit({"f": "1\n"})
    return repo


def test_cloned_once(repo: Repo, cache: Path) -> None:
    """A URL is cloned at first and then read from the cache, even when it is no longer there, or has moved on."""
    url = f"file://{repo.path}"
    assert Told(url).texts == {"tools/f": "1\n"}
    repo.commit({"f": "2\n"})
    assert Told(url).texts == {"tools/f": "1\n"}
    repo.path.rename(repo.path.with_name("gone"))
    assert Told(url, "git_history", min_versions=1).documents[0].text == "1\n"
    (kept,) = cache.iterdir()
    assert kept.name.startswith("tools-")
    assert cache.stat().st_mode & 0o077 == 0


def test_fetched_where_a_revision_is_missing(repo: Repo, cache: Path) -> None:
    """A revision that the clone has not got is fetched, and a wrong one is named."""
    url = f"file://{repo.path}"
    Told(url)
    second = repo.commit({"f": "2\n"})
    repo.git("tag", "v2")
    assert Told(url, revision="v2").texts == {"tools/f": "2\n"}
    assert Told(url, revision=second).documents[0].metadata["commit"] == second
    with pytest.raises(DataError, match=rf"{url} has no commit nowhere"):
        Told(url, revision="nowhere")


def test_default_branch(repo: Repo, cache: Path) -> None:
    """HEAD is the default branch of the other side, whatever it is called."""
    repo.commit({"f": "side\n"}, branch="trunk")
    repo.git("symbolic-ref", "HEAD", "refs/heads/trunk")
    assert Told(f"file://{repo.path}").texts == {"tools/f": "side\n"}


def test_failed_clone_leaves_nothing(tmp_path: Path, repo: Repo, cache: Path) -> None:
    """A clone that fails is said so and leaves nothing that could be taken for a repository."""
    with pytest.raises(DataError, match=r"file://.*/nowhere cannot be cloned or fetched: .*nowhere"):
        Told(f"file://{tmp_path}/nowhere")
    assert list(cache.iterdir()) == []
    with pytest.raises(DataError, match="has no commits yet"):
        Told(f"file://{Repo(tmp_path / 'empty').path}")


def test_two_at_once(repo: Repo, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another process has made the clone meanwhile, that one is used."""
    url = f"file://{repo.path}"
    cloned = clone._cloned

    def slowly(address: str, folder: Path) -> Path:
        made = cloned(address, folder)
        git(cache, "clone", "--quiet", "--bare", url, location.key(url))
        (cache / location.key(url) / "theirs").touch()
        return made

    monkeypatch.setattr(clone, "_cloned", slowly)
    assert Told(url).texts == {"tools/f": "1\n"}
    (kept,) = cache.iterdir()
    assert (kept / "theirs").exists()


@pytest.fixture
def server(repo: Repo) -> Iterator[str]:
    """Serve the repository over HTTP, to whatever user and password; return the address behind them."""
    repo.git("update-server-info")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of its base class
            del format, args

    handler = functools.partial(Quiet, directory=str(repo.path.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{served.server_port}/tools.git"
        served.shutdown()


SECRET = "hunter2"


def test_credentials(server: str, cache: Path) -> None:
    """A password in a URL is used, and then stands in no document, file or message."""
    url = f"http://me:{SECRET}@{server}"
    told = Told(url, "git_history", min_versions=1)
    assert told.texts
    said = [repr(told.documents), repr(told.skipped)]
    for revision, address in (("nowhere", url), ("HEAD", f"http://me:{SECRET}@127.0.0.1:1/x.git?token={SECRET}")):
        with pytest.raises(DataError) as caught:
            Told(address, revision=revision)
        said.append(str(caught.value))
    assert "http://127.0.0.1:1/x.git cannot be cloned" in said[-1]
    assert not any(SECRET in text for text in said)
    written = [path for path in cache.rglob("*") if path.is_file()]
    assert written
    assert not any(SECRET in str(path) or SECRET.encode() in path.read_bytes() for path in written)
    # The same repository, whoever asks.
    assert location.key(url) == location.key(f"http://{server}")


@pytest.mark.parametrize(
    ("source", "url", "shown", "name"),
    [
        ("https://host/a/b.git", True, "https://host/a/b.git", "b"),
        ("https://me:secret@host/a/b/", True, "https://host/a/b/", "b"),
        ("https://me:se@cret@host/b?token=1#x", True, "https://host/b", "b"),
        ("ssh://git@host:22/~me/b.git", True, "ssh://host:22/~me/b.git", "b"),
        ("git@host:me/b.git", True, "git@host:me/b.git", "b"),
        ("git@host:b", True, "git@host:b", "b"),
        ("file:///srv/b/.git", True, "file:///srv/b/.git", "b"),
        ("git://host/b", True, "git://host/b", "b"),
        ("HTTP://host/b", True, "HTTP://host/b", "b"),
        ("./git@host:b", False, "./git@host:b", "git@host:b"),
        ("host:b", False, "host:b", "host:b"),
        ("/srv/b.git", False, "/srv/b.git", "b"),
        ("/", False, "/", "repository"),
    ],
)
def test_sources(source: str, url: bool, shown: str, name: str) -> None:
    """Folders and URLs are told apart, shown without secrets and named by their last part."""
    location.check(source)
    assert (location.is_url(source), location.shown(source), location.named(source)) == (url, shown, name)


def test_folder_that_looks_like_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is there is a folder, as git has it."""
    monkeypatch.chdir(tmp_path)
    Repo(Path("me@host:b")).commit({"f": "1"})
    assert Told("me@host:b").texts == {"me@host:b/f": "1"}


def test_keys() -> None:
    """Clones of different repositories are kept apart, though their last parts are alike."""
    urls = [
        "https://host/a/b",
        "https://host/c/b",
        "git@host:a/b",
        "you@host:a/b",
        "http://host/a/b",
        "https://host/../b",
    ]
    keys = {location.key(url) for url in urls}
    assert len(keys) == len(urls)
    assert all(key == os.path.basename(key) and not key.startswith(".") for key in keys)  # noqa: PTH119 - a name alone
