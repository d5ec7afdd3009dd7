"""Repositories that the tests of the git sources make, with git itself as the judge of what they hold."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ctxkit.host import Host
from ctxkit.registry import collect
from ctxkit.spec import Context, Document

ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "LC_ALL": "C",
}
JO = "Jo <jo@example.com>"
Files = Mapping[str | bytes, str | bytes | None]


def git(folder: Path, *arguments: str | bytes, given: bytes | None = None) -> bytes:
    """Run git in a folder and return what it prints."""
    done = subprocess.run(
        ["git", "-C", folder, *arguments], input=given, capture_output=True, env=ENVIRONMENT, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


class Repo:
    """A bare repository that grows by fast-import, so that any file name and any mode can be had."""

    def __init__(self, path: Path, object_format: str = "sha1") -> None:
        self.path = path
        self.seconds = 1_600_000_000
        path.parent.mkdir(parents=True, exist_ok=True)
        init = [
            "git",
            "init",
            "--quiet",
            "--bare",
            "--initial-branch=main",
            f"--object-format={object_format}",
            str(path),
        ]
        subprocess.run(init, check=True, env=ENVIRONMENT)

    def git(self, *arguments: str | bytes, given: bytes | None = None) -> bytes:
        return git(self.path, *arguments, given=given)

    def commit(
        self,
        files: Files,
        message: str = "change",
        *,
        branch: str = "main",
        author: str = JO,
        start: str = "",
        merge: str = "",
        modes: Mapping[str | bytes, str] = {},
    ) -> str:
        """Write files (None deletes) on top of a branch, or of `start`; return the commit."""
        ref = f"refs/heads/{branch}"
        start = start or self.git("for-each-ref", "--format=%(objectname)", ref).decode().strip()
        parents = f"from {start}\n" * bool(start) + f"merge {merge}\n" * bool(merge)
        written = b"".join(_written(name, content, modes.get(name, "100644")) for name, content in files.items())
        self.grow(self.head(ref, message, author) + parents.encode() + written)
        return self.git("rev-parse", ref).decode().strip()

    def commit_all(self, commits: Iterable[Files]) -> None:
        """Begin the main branch with several commits at once, which is much quicker."""
        stream = b""
        for number, files in enumerate(commits):
            stream += self.head("refs/heads/main", f"commit {number}", JO)
            stream += b"".join(_written(name, content, "100644") for name, content in files.items())
        self.grow(stream)

    def head(self, ref: str, message: str, author: str) -> bytes:
        """Return the head of a commit as fast-import reads it, a minute after the one before."""
        self.seconds += 60
        people = f"author {author} {self.seconds} +0200\ncommitter {JO} {self.seconds} +0000\n"
        return f"commit {ref}\n{people}data {len(message.encode())}\n{message}\n".encode()

    def grow(self, stream: bytes) -> None:
        """Let git import a stream."""
        self.git("fast-import", "--quiet", "--force", "--date-format=raw-permissive", given=stream)

    def show(self, commit: str, path: str | bytes) -> bytes:
        """Return what `git show commit:path` prints."""
        name = path.encode() if isinstance(path, str) else path
        return self.git("show", commit.encode() + b":" + name)


def _written(name: str | bytes, content: str | bytes | None, mode: str) -> bytes:
    raw = name.encode() if isinstance(name, str) else name
    quoted = b'"' + b"".join(b"\\%03o" % byte for byte in raw) + b'"'
    if content is None:
        return b"D " + quoted + b"\n"
    data = content.encode() if isinstance(content, str) else content
    if mode == "160000":
        return b"M 160000 " + data + b" " + quoted + b"\n"
    return b"M %s inline %s\ndata %d\n%s\n" % (mode.encode(), quoted, len(data), data)


class Told:
    """Documents of a source, and what it told that it left out."""

    def __init__(self, source: Path | str, kind: str = "git", **options: Any) -> None:
        self.skipped: list[tuple[str, str]] = []
        context = Context(skipped=lambda id_, reason: self.skipped.append((id_, reason)))
        cls: Any = collect(Host()).components["source"][kind]
        self.options = cls.model_validate({"kind": kind, "path": str(source), **options})
        self.documents: list[Document] = list(self.options.build(context))

    @property
    def texts(self) -> dict[str, str]:
        """Text by id."""
        return {document.id: document.text for document in self.documents}

    @property
    def reasons(self) -> Counter[str]:
        """How often each reason was told."""
        return Counter(reason for _, reason in self.skipped)


def groups(documents: Iterable[Document]) -> list[list[Document]]:
    """Return the documents of each group, and make sure that they came together and in order."""
    found: dict[str, list[Document]] = {}
    last = ""
    for document in documents:
        assert document.group == last or document.group not in found, f"{document.group} was interrupted"
        last = document.group
        found.setdefault(last, []).append(document)
    for chain in found.values():
        assert [document.order for document in chain] == list(range(len(chain)))
    return list(found.values())
