"""Documents from files, from datasets' loaders, and made up."""

from __future__ import annotations

import json
import os
import random
import re
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxkit.errors import DataError
from ctxkit.registry import Registry
from ctxkit.spec import Context, Document
from ctxkit_sources.files import Files
from ctxkit_sources.hub import Hub
from ctxkit_sources.key_recall import STATEMENT_LENGTH, KeyRecall
from ctxkit_sources.repeats import Repeats

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
        (b"", ""),
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


ROWS = [{"text": "one", "key": "a"}, {"text": "two", "key": "b"}]


def hub(file: Path, **options: Any) -> list[Document]:
    """Return the documents of a local file through datasets' loaders."""
    given = {"split": "train", "text_column": "text", "id_column": None, "streaming": False, **options}
    arguments = {"data_files": str(file), "streaming": given.pop("streaming")}
    loader = {"jsonl": "json", "txt": "text"}.get(file.suffix[1:], file.suffix[1:])
    return list(Hub(loader, arguments=arguments, **given))


@pytest.fixture
def tables(tmp_path: Path) -> dict[str, Path]:
    """Write the same rows as JSON lines, CSV and parquet."""
    from datasets import Dataset

    paths = {name: tmp_path / f"rows.{name}" for name in ("jsonl", "csv", "parquet")}
    paths["jsonl"].write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    paths["csv"].write_text("text,key\none,a\ntwo,b\n")
    Dataset.from_list(ROWS).to_parquet(str(paths["parquet"]))
    return paths


@pytest.mark.torch
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name", ["jsonl", "csv", "parquet"])
def test_hub_local(tables: dict[str, Path], name: str, streaming: bool) -> None:
    """A local file in any format gives one document a row, in order, named by number or by a column."""
    found = hub(tables[name], streaming=streaming)
    assert [(document.text, document.id.rpartition("/")[2]) for document in found] == [("one", "0"), ("two", "1")]
    assert [document.id for document in hub(tables[name], streaming=streaming, id_column="key")] == ["a", "b"]


@pytest.mark.torch
def test_hub_slice(tables: dict[str, Path]) -> None:
    """A slice of a split gives its rows."""
    assert [document.text for document in hub(tables["jsonl"], split="train[1:]")] == ["two"]


@pytest.mark.torch
def test_hub_missing_column(tables: dict[str, Path]) -> None:
    """A column that is not there is named, with those that are."""
    with pytest.raises(DataError, match=r"json has no column body\nit has key, text"):
        hub(tables["jsonl"], text_column="body")
    with pytest.raises(DataError, match="json has no column number"):
        hub(tables["jsonl"], id_column="number")


@pytest.mark.torch
def test_hub_null_text(tmp_path: Path) -> None:
    """A row without text is named by its number."""
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n{"text": null}\n')
    with pytest.raises(DataError, match="row 1 of json: text holds NoneType, not text"):
        hub(tmp_path / "rows.jsonl")


@pytest.mark.torch
@pytest.mark.parametrize("content", ["", '{"text": "a"}\n{"text": '])
def test_hub_damaged(tmp_path: Path, content: str) -> None:
    """An empty or broken file is refused in one message."""
    (tmp_path / "rows.jsonl").write_text(content)
    with pytest.raises(DataError, match=r"the dataset json \(split train\) cannot be loaded: "):
        hub(tmp_path / "rows.jsonl")


@pytest.mark.torch
def test_hub_unknown_dataset_offline() -> None:
    """A dataset that cannot be reached is refused in one message that names it."""
    with pytest.raises(DataError, match=r"the dataset nobody/nothing \(split train\) cannot be loaded: "):
        list(Hub("nobody/nothing", "train", "text", None, {}))


def test_hub_loader_without_files(faults: Callable[..., Any], minimal: str) -> None:
    """A loader's name without `data_files` is a fault of the recipe."""
    (fault,) = faults(minimal, "data.sources.0={kind: hub, path: json}")
    assert fault.message == "the loader `json` needs `data_files`"


HAYSTACK = [Document("".join(random.Random(0).choices("abcdefgh \n", k=400)), id="h")]


def recalls(**options: int) -> list[Document]:
    """Return documents of the key-recall source."""
    return list(KeyRecall(HAYSTACK, **{"documents": 5, "length": 120, "mentions": 4, "seed": 0, **options}))


@given(st.integers(1, 6), st.integers(2, 6), st.integers(0, 200), st.integers())
def test_key_recall(documents: int, mentions: int, room: int, seed: int) -> None:
    """Every document has exactly its length, its one key exactly so often, and otherwise text of the haystack."""
    length = mentions * STATEMENT_LENGTH + room
    found = recalls(documents=documents, length=length, mentions=mentions, seed=seed)
    assert len(found) == documents
    for document in found:
        assert len(document.text) == length
        assert re.findall(r" key=(\d{5}); ", document.text) == [document.metadata["key"]] * mentions
        assert document.text.replace(f" key={document.metadata['key']}; ", "") in HAYSTACK[0].text
    assert len({document.id for document in found}) == documents


def test_key_recall_follows_the_seed() -> None:
    """The same seed gives the same documents, another one other keys and places."""
    assert recalls(seed=1) == recalls(seed=1)
    assert not {document.metadata["key"] for document in recalls(seed=1)} & {
        document.metadata["key"] for document in recalls(seed=2)
    }
    longer = recalls(seed=1, documents=9)
    assert [document.text for document in longer[:5]] == [document.text for document in recalls(seed=1)]


def test_key_recall_needs_a_haystack() -> None:
    """A haystack shorter than a document is refused with both lengths."""
    with pytest.raises(DataError, match="the haystack of key_recall has 400 characters, 953 are needed"):
        recalls(length=1000)


def test_key_recall_needs_room(faults: Callable[..., Any], minimal: str) -> None:
    """A length that cannot hold the mentions is a fault of the recipe."""
    source = "{kind: key_recall, haystack: {kind: files, paths: [a]}, documents: 1, length: 47}"
    (fault,) = faults(minimal, f"data.sources.0={source}")
    assert fault.message == "4 mentions need at least 48 characters"


@given(st.integers(1, 6), st.integers(1, 40), st.integers(0, 40), st.integers(0, 60), st.integers())
def test_repeats(documents: int, least: int, more: int, room: int, seed: int) -> None:
    """Every document has exactly its length and repeats with its period, which lies within the limits."""
    length = least + more + room
    found = list(Repeats(documents=documents, length=length, periods=(least, least + more), seed=seed))
    assert len(found) == len({document.id for document in found}) == documents
    for document in found:
        period = int(document.metadata["period"])
        assert least <= period <= least + more
        assert len(document.text) == length
        assert document.text[period:] == document.text[: -period or None][: length - period]


def test_repeats_follow_the_seed() -> None:
    """The same seed gives the same documents, another one others; all periods occur."""
    one, again, two = (
        [d.text for d in Repeats(documents=60, length=32, periods=(4, 9), seed=seed)] for seed in (1, 1, 2)
    )
    assert one == again
    assert not set(one) & set(two)
    periods = {d.metadata["period"] for d in Repeats(documents=60, length=32, periods=(4, 9), seed=1)}
    assert periods == {4, 5, 6, 7, 8, 9}


def test_repeats_wrong_periods(faults: Callable[..., Any], minimal: str) -> None:
    """Periods that cannot be are a fault of the recipe."""
    (fault,) = faults(minimal, "data.sources.0={kind: repeats, documents: 1, length: 15}")
    assert fault.message == "needs min_period <= max_period <= length"
