"""Histories as chains: every version is the one that git has, and every chain of diffs leads to it."""

from __future__ import annotations

import io
import random
import subprocess
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ctxkit.errors import DataError
from ctxkit.spec import Document
from ctxkit_sources.git.blobs import Blob, OneByOne
from ctxkit_sources.git.changes import text_changes
from ctxkit_sources.git.recent import KEPT_BYTES, Recent
from ctxkit_sources.git.repository import opened
from ctxkit_sources.git.texts import Texts
from tests.unit.plugins.git_repositories import ENVIRONMENT, Files, Repo, Told, groups


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    """Return an empty repository."""
    return Repo(tmp_path / "tools")


def history(repo: Repo, **options: Any) -> Told:
    """Return the documents of a history, single versions included."""
    return Told(repo.path, "git_history", **{"min_versions": 1, **options})


ENDS = ["", "\n", "\r\n", "\n\n"]


def wander(repo: Repo, commits: int, seed: int) -> None:
    """Commit random edits, renames, deletions and additions, with every kind of line end."""
    generator = random.Random(seed)
    files: dict[str, str] = {}
    repo.commit_all([dict(steps(files, number, generator)) for number in range(commits)])


def steps(files: dict[str, str], number: int, generator: random.Random) -> Iterator[tuple[str, str | None]]:
    """Yield what one commit writes, each file once, and keep count of the files."""
    for name in generator.sample(sorted(files), min(len(files), generator.randrange(1, 4))):
        action = generator.random()
        if action < 0.1:
            del files[name]
            yield name, None
        elif action < 0.3:
            moved = f"moved/{number} {name[-1]}"
            files[moved] = files.pop(name) + "moved\n" * generator.randrange(2)
            yield from ((name, None), (moved, files[moved]))
        else:
            files[name] = edited(files[name], generator)
            yield name, files[name]
    if len(files) < 5:
        name = f"d{number % 3}/{number}"
        files[name] = edited("", generator)
        yield name, files[name]


def edited(text: str, generator: random.Random) -> str:
    """Return a text with some lines replaced and another end."""
    lines = text.splitlines(keepends=True) or [f"line {n}\n" for n in range(generator.randrange(30))]
    for _ in range(generator.randrange(4)):
        start = generator.randrange(len(lines) + 1)
        lines[start : start + generator.randrange(4)] = [
            f"{generator.randrange(50)} x\x0cy{generator.choice(ENDS[1:])}" for _ in range(generator.randrange(5))
        ]
    return "".join(lines).rstrip("\r\n") + generator.choice(ENDS)


def tree(repo: Repo, commit: str) -> dict[str, bytes]:
    """Return every file of a commit, as git has it."""
    with tarfile.open(fileobj=io.BytesIO(repo.git("archive", "--format=tar", commit))) as archive:
        return {m.name: opened.read() for m in archive if m.isfile() and (opened := archive.extractfile(m))}


def apply(folder: Path, patch: str) -> None:
    """Let git apply a patch to the files of a folder."""
    command = ["git", "apply", "--whitespace=nowarn", "-"]
    done = subprocess.run(command, cwd=folder, input=patch.encode(), capture_output=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 0, done.stderr.decode() + patch


def replayed(chain: list[Document], folder: Path) -> list[bytes]:
    """Return every version of a file, from the first and the diffs behind it."""
    folder.mkdir()
    path = folder / str(chain[0].metadata["path"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(chain[0].text.encode())
    versions = [path.read_bytes()]
    for document in chain[1:]:
        apply(folder, document.text)
        (path,) = [path for path in folder.rglob("*") if path.is_file()]
        assert str(path.relative_to(folder)) == document.metadata["path"]
        versions.append(path.read_bytes())
    return versions


@pytest.mark.parametrize("seed", range(2))
def test_diffs_lead_to_every_version(seed: int, repo: Repo, tmp_path: Path) -> None:
    """The first version and the diffs, applied in order by git, give every version of every file."""
    wander(repo, 14, seed)
    chains = groups(history(repo).documents)
    assert max(map(len, chains)) > 4
    for number, chain in enumerate(chains):
        expected = [repo.git("show", document.id) for document in chain]
        assert replayed(chain, tmp_path / str(number)) == expected


@pytest.mark.parametrize("chain", ["file", "repository"])
def test_versions_equal_git_show(chain: str, repo: Repo) -> None:
    """Every version is the text that `git show commit:path` prints, and no change of the log is missing."""
    wander(repo, 14, 7)
    told = history(repo, form="versions", chain=chain)
    for document in told.documents:
        assert document.text.encode() == repo.git("show", document.id)
    log = repo.git("log", "--format=", "--raw", "-M", "-z", "--no-abbrev").decode()
    assert len(told.documents) + told.reasons["by rule: deletion"] == log.count(":100644") + log.count(":000000")
    groups(told.documents)


@pytest.mark.parametrize("seed", range(2))
def test_commits_lead_to_every_tree(seed: int, repo: Repo, tmp_path: Path) -> None:
    """The documents of a repository, applied in order by git, give the whole tree of every commit."""
    wander(repo, 14, seed)
    told = history(repo, chain="repository")
    commits = repo.git("rev-list", "--reverse", "main").decode().split()
    assert [document.id for document in told.documents] == commits
    assert {document.group for document in told.documents} == {"tools"}
    (tmp_path / "tree").mkdir()
    for commit, document in zip(commits, told.documents, strict=True):
        apply(tmp_path / "tree", document.text)
        files = [path for path in (tmp_path / "tree").rglob("*") if path.is_file()]
        assert {str(path.relative_to(tmp_path / "tree")): path.read_bytes() for path in files} == tree(repo, commit)


def test_what_is_said(repo: Repo) -> None:
    """A document says where it comes from, with the author's date and without an address."""
    lines = "".join(f"{n}\n" for n in range(20))
    first = repo.commit({"old.py": lines}, "Add\n a thing\n\nWith a story.")
    second = repo.commit({"old.py": None, "new.py": lines + "more\n"}, "Move\x1b[31m", author="Ann <ann@example.com>")
    third = repo.commit({"new.py": lines})
    told = history(repo)
    common = {"repository": "tools", "origin": "tools/new.py"}  # as the source `git` names the file
    assert [document.metadata for document in told.documents] == [
        common
        | {"commit": first, "path": "old.py", "date": "2020-09-13T14:27:40+02:00", "subject": "Add  a thing"}
        | {"change": "added"},
        common
        | {"commit": second, "path": "new.py", "date": "2020-09-13T14:28:40+02:00", "subject": "Move\\x1b[31m"}
        | {"change": "renamed", "renamed_from": "old.py", "similarity": 90},
        common
        | {"commit": third, "path": "new.py", "date": "2020-09-13T14:29:40+02:00", "subject": "change"}
        | {"change": "modified"},
    ]
    assert [d.id for d in told.documents] == [f"{first}:old.py", f"{second}:new.py", f"{third}:new.py"]
    assert {d.group for d in told.documents} == {f"tools:{first}:old.py"}
    assert told.documents[1].text == (
        "diff --git a/old.py b/new.py\nrename from old.py\nrename to new.py\n--- a/old.py\n+++ b/new.py\n"
        "@@ -18,3 +18,4 @@\n 17\n 18\n 19\n+more\n"
    )
    commits = history(repo, chain="repository").documents
    assert [(d.metadata["files"], d.metadata.get("renamed"), d.order) for d in commits] == [
        (1, None, 0),
        (1, 1, 1),
        (1, None, 2),
    ]
    assert "example.com" not in repr(told.documents + commits)


def branches(repo: Repo) -> dict[str, str]:
    """Make two branches that change the same file, and a merge that changes it once more."""
    lines = [f"{n}\n" for n in range(12)]
    made = {"base": repo.commit({"f": "".join(lines)})}
    made["left"] = repo.commit({"f": "".join(["left\n", *lines])})
    made["right"] = repo.commit({"f": "".join([*lines, "right\n"])}, branch="side", start=made["base"])
    both = "".join(["left\n", *lines, "right\n"])
    made["merge"] = repo.commit({"f": both + "evil\n"}, merge=made["right"])
    made["after"] = repo.commit({"f": both + "after\n"})
    return made


def test_branches(repo: Repo, tmp_path: Path) -> None:
    """On branches a diff is against the version before it in the chain; merges are left out and told."""
    made = branches(repo)
    told = history(repo)
    order = [str(d.metadata["commit"]) for d in told.documents]
    assert sorted(order) == sorted(made[name] for name in ("base", "left", "right", "after"))
    assert order == [
        c for c in repo.git("rev-list", "--topo-order", "--reverse", "main").decode().split() if c in order
    ]
    assert replayed(told.documents, tmp_path / "f") == [repo.git("show", f"{c}:f") for c in order]
    assert told.skipped == [(made["merge"], "by rule: merge")]


def test_order_of_branches(repo: Repo) -> None:
    """The commits of one branch stay together, though another was worked on at the same time."""
    base = repo.commit({"f": "0"})
    for number in range(2):
        repo.commit({"f": f"left {number}"})
        side = repo.commit({"f": f"right {number}"}, branch="side", start=base if number == 0 else "")
    repo.commit({"f": "merged"}, merge=side)
    told = [document.text.split()[0] for document in history(repo, form="versions").documents]
    assert told in (["0", "left", "left", "right", "right"], ["0", "right", "right", "left", "left"])


def test_deleted_on_two_branches(repo: Repo) -> None:
    """A file that two branches delete is deleted once; one that they rename alike goes on."""
    text = "".join(f"{n}\n" for n in range(12))
    base = repo.commit({"f": text, "g": text + "g\n"})
    for branch, start in (("main", ""), ("side", base)):
        side = repo.commit({"f": None, "g": None, "h": text + "g\n"}, branch=branch, start=start)
    repo.commit({"h": text + "end\n"}, merge=side)
    told = history(repo)
    assert told.reasons == {"by rule: deletion": 1, "by rule: merge": 1, "by rule: unchanged": 1}
    repo.commit({"f": text + "back\n"})
    repo.commit({"f": None, "i": text + "back\n"})
    told = history(repo, include=["f", "i"])
    assert [d.metadata["path"] for d in told.documents] == ["f", "f", "i"]


def test_first_parent(repo: Repo, tmp_path: Path) -> None:
    """The main line alone, on which a merge is one commit with all it brings."""
    made = branches(repo)
    told = history(repo, merges="first_parent")
    order = [made[name] for name in ("base", "left", "merge", "after")]
    assert [d.metadata["commit"] for d in told.documents] == order
    assert replayed(told.documents, tmp_path / "f") == [repo.git("show", f"{c}:f") for c in order]
    assert "+right\n+evil\n" in told.documents[2].text
    assert not told.skipped


def test_branches_of_a_repository(repo: Repo, tmp_path: Path) -> None:
    """The chain of a repository holds together over branches that rename, delete and change the same files."""
    text = "".join(f"{n}\n" for n in range(12))
    base = repo.commit({"a": text, "b": text + "b\n", "c": "c\n"})
    repo.commit({"a": None, "moved": text})
    repo.commit({"b": None})
    repo.commit({"a": "another\n"})
    sides: list[Files] = [{"a": text + "side\n"}, {"b": text + "b\nside\n"}, {"c": None, "moved": "c\n"}]
    for files in sides:
        side = repo.commit(files, branch="side", start=base if "a" in files else "")
    repo.commit({"moved": text + "merged\n"}, merge=side)
    repo.commit({"moved": text + "end\n", "a": "end\n"})
    told = history(repo, chain="repository")
    folder = tmp_path / "tree"
    folder.mkdir()
    for document in told.documents:
        apply(folder, document.text)
        for path in (
            repo.git("diff-tree", "--root", "-r", "--diff-filter=d", "--name-only", "--no-commit-id", document.id)
            .decode()
            .split()
        ):
            assert (folder / path).read_bytes() == repo.git("show", f"{document.id}:{path}")
    assert told.reasons == {"by rule: merge": 1}
    for number, chain in enumerate(groups(history(repo).documents)):
        assert replayed(chain, tmp_path / str(number)) == [repo.git("show", d.id) for d in chain]


def test_bots(repo: Repo) -> None:
    """Commits of bots are left out by default, their renames are followed, and the next diff holds what they did."""
    text = "".join(f"{n}\n" for n in range(12))
    repo.commit({"f": text})
    bot = repo.commit(
        {"f": None, "g": text + "bot\n"}, author="dependabot[bot] <49699333+dependabot[bot]@users.example>"
    )
    repo.commit({"link": "f"}, author="x[bot] <>", modes={"link": "120000"})
    human = repo.commit({"g": text + "bot\nhuman\n"}, author="Abbott <robot-builder@example.com>")
    told = history(repo)
    assert told.skipped[0] == (bot, "by rule: excluded author")
    assert told.reasons == {"by rule: excluded author": 2}
    assert [d.metadata["change"] for d in told.documents] == ["added", "modified"]
    assert "rename from f\nrename to g\n" in told.documents[1].text
    assert told.documents[1].text.endswith(" 11\n+bot\n+human\n")
    assert len(groups(told.documents)) == 1
    assert history(repo, exclude_authors=["ABBOTT"]).reasons == {"by rule: excluded author": 1, "symlink": 1}
    assert history(repo, exclude_authors=[], form="versions").documents[2].id == f"{human}:g"
    with pytest.raises(ValueError, match=r"\( is no regular expression"):
        history(repo, exclude_authors=["("])


def test_renovate_without_a_mark(repo: Repo) -> None:
    """Accounts that are known bots need no mark."""
    repo.commit({"f": "1"})
    repo.commit({"f": "2"}, author="Renovate Bot <bot@renovateapp.com>")
    assert history(repo).reasons == {"by rule: excluded author": 1}


def test_min_versions(repo: Repo) -> None:
    """Chains of too few versions are left out and told, whether the log or the contents make them short."""
    repo.commit({"once": "1", "twice": "1", "broken": "1", "thrice": "1"})
    repo.commit({"twice": "2", "broken": b"\0", "thrice": "2"})
    repo.commit({"thrice": "3"})
    told = Told(repo.path, "git_history")
    assert [d.metadata["path"] for d in told.documents] == ["thrice"] * 3 + ["twice"] * 2
    assert told.reasons == {"by rule: fewer than min_versions": 2, "binary": 1}
    told = history(repo, min_versions=3, form="versions")
    assert [d.text for d in told.documents] == ["1", "2", "3"]
    assert told.reasons == {"by rule: fewer than min_versions": 4, "binary": 1}
    assert not history(repo, chain="repository", min_versions=4).documents


def test_left_out_of_a_chain(repo: Repo, tmp_path: Path) -> None:
    """What is no text is left out of a chain, which goes on from the version before it."""
    lines = "".join(f"{n}\n" for n in range(30))
    repo.commit({"f": lines, "g": "g\n"})
    repo.commit({"f": lines + "\0"})
    repo.commit({"f": lines + "x" * 1000})
    repo.commit({"f": lines + "\xe9"})
    repo.commit({"f": (lines + "\xe9").encode("latin-1")})
    repo.commit({"f": "g"}, modes={"f": "120000"})
    repo.commit({"f": lines + "end\n"})
    repo.commit({"f": lines + "end\n"}, modes={"f": "100755"})
    repo.commit({"sub": repo.git("rev-parse", "main").strip()}, modes={"sub": "160000"})
    told = history(repo, max_bytes=1000)
    chain = groups(told.documents)[0]
    assert replayed(chain, tmp_path / "f") == [repo.git("show", d.id) for d in chain]
    assert len(chain) == 3
    assert told.reasons == {
        "binary": 1,
        "larger than max_bytes": 1,
        "not utf-8": 1,
        "symlink": 1,
        "submodule": 1,
        "by rule: deletion": 1,
        "by rule: unchanged": 1,
    }
    whole = history(repo, max_bytes=1000, chain="repository")
    assert whole.reasons + Counter({"by rule: deletion": 1}) == told.reasons
    (tmp_path / "tree").mkdir()
    for document in whole.documents:
        apply(tmp_path / "tree", document.text)
    assert (tmp_path / "tree/f").read_text() == lines + "end\n"


def test_deleted_and_added_again(repo: Repo) -> None:
    """A file that comes back under its name goes on with its chain; in a repository's chain it is deleted and new."""
    repo.commit({"f": "1\n", "keep": "k\n"})
    gone = repo.commit({"f": None})
    back = repo.commit({"f": "1\n2\n"})
    told = history(repo)
    assert [len(chain) for chain in groups(told.documents)] == [2, 1]
    assert told.skipped == [(f"{gone}:f", "by rule: deletion")]
    repo.commit({"f": None})
    repo.commit({"f": "1\n2\n"})
    versions = history(repo, chain="repository", form="versions")
    assert [d.text for d in versions.documents if d.metadata["path"] == "f"] == ["1\n", "1\n2\n", "1\n2\n"]
    assert [d.order for d in versions.documents] == [0, 1, 2, 3]
    deleted, new = history(repo, chain="repository").documents[1:3]
    assert deleted.text == "diff --git a/f b/f\ndeleted file mode 100644\n--- a/f\n+++ /dev/null\n@@ -1 +0,0 @@\n-1\n"
    assert (deleted.metadata["deleted"], new.metadata["added"], new.id) == (1, 1, back)
    assert new.text.startswith("diff --git a/f b/f\nnew file mode 100644\n--- /dev/null\n+++ b/f\n@@ -0,0 +1,2 @@\n")


def test_include(repo: Repo) -> None:
    """A file that moves out of the chosen folders ends its chain, one that moves in begins one."""
    text = "".join(f"{n}\n" for n in range(12))
    repo.commit({"out": text, "src/in": text + "in\n"})
    repo.commit({"out": None, "src/came": text})
    repo.commit({"src/in": None, "went": text + "in\n"})
    told = history(repo, include=["src"])
    assert [(d.metadata["path"], d.metadata["change"]) for d in told.documents] == [
        ("src/in", "added"),
        ("src/came", "added"),
    ]
    assert told.reasons == {"by rule: deletion": 1}
    for chain in ("file", "repository"):
        with pytest.raises(DataError, match="no file in the history of tools is included"):
            history(repo, include=["*.c"], chain=chain)


def test_names_are_data(repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File names that are commands, options or no text stay names."""
    monkeypatch.chdir(tmp_path)
    names: list[bytes] = [b"$(touch x)", b"-rf", b"new\nline", b"\xff\xfe", b"a b"]
    repo.commit(dict.fromkeys(names, "1\n"))
    commit = repo.commit(dict.fromkeys(names, "2\n"))
    told = history(repo)
    assert {d.id for d in told.documents} >= {f"{commit}:$(touch x)", f"{commit}:new\\nline", f"{commit}:\\xff\\xfe"}
    for kind in ("file", "repository"):
        for document in history(repo, chain=kind).documents:
            assert document.text.encode()
            assert document.id.isprintable()
    folder = tmp_path / "tree"
    folder.mkdir()
    for document in history(repo, chain="repository").documents:
        apply(folder, document.text)
    assert sorted(Path(bytes(p).decode("latin-1")).name.encode("latin-1") for p in folder.iterdir()) == sorted(names)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("kept", [0, 2_000, KEPT_BYTES])
def test_changes_equal_git(repo: Repo, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before and after of every change are what git shows of the parent and of the commit, whatever is kept."""
    monkeypatch.setattr("ctxkit_sources.git.changes.KEPT_BYTES", kept)
    wander(repo, 14, 3)
    repo.commit({"bin": b"\0", "latin": b"\xe9", "big": "x" * 1001})
    made = branches(Repo(repo.path.parent / "branches"))
    found = list(text_changes(str(repo.path), "main", max_bytes=1000))
    for change in found:
        new = None if change.new_text is None else change.new_text.encode()
        old = None if change.old_text is None else change.old_text.encode()
        assert new == (tree(repo, change.commit).get(change.path) if new is not None else None)
        assert old == (tree(repo, f"{change.commit}~").get(change.old_path) if old is not None else None)
        assert old != new
    log = repo.git("log", "--format=%H", "--raw", "-M", "-z", "--no-abbrev", "main").decode().split("\0")
    raw = [entry.split() for entry in log if entry.lstrip("\n").startswith(":")]
    assert len(found) == sum(entry[2] != entry[3] for entry in raw) - 3
    skipped: list[tuple[str, str]] = []
    list(text_changes(str(repo.path), "main", max_bytes=1000, skipped=lambda *told: skipped.append(told)))
    assert sorted(reason for _, reason in skipped) == ["binary", "larger than max_bytes", "not utf-8"]
    commits = [change.commit for change in text_changes(str(repo.path.parent / "branches"), "main")]
    assert set(commits) == {made[name] for name in ("base", "left", "right", "after")}
    merged = list(text_changes(str(repo.path.parent / "branches"), "main", merges="first_parent"))
    assert [c.commit for c in merged] == [made[name] for name in ("base", "left", "merge", "after")]


def test_contents_are_asked_for_once(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a change writes is not read again as what the next one replaces."""
    sizes: list[int] = []
    read = Texts.read

    def counted(self: Texts, blob: Blob, id_: str) -> tuple[str, str]:
        sizes.append(blob.size)
        return read(self, blob, id_)

    monkeypatch.setattr(Texts, "read", counted)
    repo.commit_all([{"a.py": f"{number}\n" * 20, "b.py": f"b{number}\n"} for number in range(30)])
    found = list(text_changes(str(repo.path), "main"))
    assert len(found) == len(sizes) == 60
    assert [change.old_text for change in found[2::2]] == [change.new_text for change in found[:-2:2]]


def test_kept_within_a_limit(repo: Repo) -> None:
    """What came last stays, what was counted on stays longer, what is gone is read again."""
    repo.commit({f"{number}": f"{number}" * 1000 for number in range(10)})
    ids = [repo.git("rev-parse", f"main:{number}").decode().strip() for number in range(10)]
    texts = [(f"{number}" * 1000, "") for number in range(10)]
    with opened(str(repo.path), "main") as repository, OneByOne(repository, 10_000) as blobs:
        recent = Recent(Texts(10_000, "utf-8", "skip"), blobs, 5_000)

        def put(number: int) -> None:
            assert recent.put(recent.expect(ids[number]), blobs.read(ids[number])) == texts[number]

        for number in range(3):
            put(number)
        assert not recent.reserve(ids[3])
        tickets = [recent.reserve(ids[0]) for _ in range(2)]
        assert all(tickets)
        put(3)
        assert recent.get(ids[0], tickets[0]) == texts[0]
        assert not recent.reserve(ids[1]), "not used for long"
        put(4)
        assert not recent.reserve(ids[2])
        assert recent.get(ids[0], tickets[1]) == texts[0], "reserved twice"
        put(5)
        assert [bool(recent.reserve(id_)) for id_ in ids] == [number in {3, 4, 5} for number in range(10)]
        for _ in range(5):
            put(5)
        assert [recent.get(id_, 0) for id_ in ids] == texts
        assert [bool(recent.reserve(id_)) for id_ in ids] == [number in {3, 4, 5} for number in range(10)]


def test_small_pipes(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system grants no large pipes, the changes are the same."""
    wander(repo, 14, 4)
    expected = list(text_changes(str(repo.path), "main"))

    def refused(*arguments: object) -> int:
        raise PermissionError

    monkeypatch.setattr("fcntl.fcntl", refused)
    assert list(text_changes(str(repo.path), "main")) == expected
