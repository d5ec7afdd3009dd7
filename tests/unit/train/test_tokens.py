"""The token store: what was committed comes back to the byte, what was not is cut off, and damage is never read."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxkit.errors import DataError
from ctxkit.spec import Context, Document
from ctxkit.train import documents as documents_module
from ctxkit.train.documents import Reading, SourceDocuments, Tokenisation
from ctxkit.train.tokens import FILES, LeftOut, TokenStore, read_ids
from tests.unit.train.builders import Texts, byte_tokenizer, contents

pytestmark = pytest.mark.torch

INT32, UINT16 = np.dtype("<i4"), np.dtype("<u2")
HUNDRED = Texts(lengths=tuple(range(100)), bad=(0, 3, 3, 50, 100))
TOKENISATION = Tokenisation(byte_tokenizer())


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Batches of seven documents, each committed, so that a kill can come between many."""
    monkeypatch.setattr(documents_module, "BATCH_DOCUMENTS", 7)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # thousands of them take minutes
    monkeypatch.setattr(documents_module, "COMMIT_SECONDS", -1)
    monkeypatch.setattr(Texts, "given", [])
    monkeypatch.setattr(Texts, "fewer", 0)
    yield
    monkeypatch.undo()


def drop_tenth(document: Document) -> str | None:
    """A filter."""
    return "is a tenth" if document.order % 10 == 5 else None


def source(folder: Path, options: Texts = HUNDRED, **reading: object) -> SourceDocuments:
    """Open the documents of a source on a store in a folder."""
    how = Reading(Context(tokenizer=byte_tokenizer()), (drop_tenth,), **reading)
    return SourceDocuments(options, TokenStore(folder, UINT16), TOKENISATION, how)


def read_all(folder: Path, options: Texts = HUNDRED, **reading: object) -> dict[str, bytes]:
    """Read a source to its end; return the files of its store."""
    documents = source(folder, options, **reading)
    for _ in documents.read_all():
        pass
    documents.close()
    return contents(folder)


@settings(max_examples=40, deadline=None)
@given(
    documents=st.lists(st.lists(st.lists(st.integers(0, 300), max_size=4), max_size=3), max_size=8),
    dtype=st.sampled_from([INT32, UINT16]),
    commits=st.sets(st.integers(0, 8)),
)
def test_what_is_appended_is_read_back(
    documents: list[list[list[int]]], dtype: np.dtype, commits: set[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever the pieces and wherever it was committed and opened anew, ids, names and places are those put in."""
    folder = tmp_path_factory.mktemp("store") / "store"
    store = TokenStore(folder, dtype)
    for number, pieces in enumerate(documents):
        for piece in pieces:
            store.append_ids(np.array(piece, dtype=np.int32))
        store.end(Document("", f"ü{number}\n", group="g", order=number, metadata={"n": number}), 2 * number)
        if number in commits:
            store.commit()
            store.close()
            store = TokenStore(folder, dtype)
    assert len(store) == len(documents)
    for number, pieces in enumerate(documents):
        ids = [index for piece in pieces for index in piece]
        found = store.read(number, lambda ids: str(ids.tolist()))
        assert found.input_ids.tolist() == ids
        assert found.input_ids.dtype == np.int32
        assert (found.document.id, found.document.group, found.document.order) == (f"ü{number}\n", "g", number)
        assert found.document.metadata == {"n": number}
        assert found.document.text == str(ids)
        assert store.read_span(store.start(number), store.length(number)).tolist() == ids
        assert store.position_of(number) == 2 * number
        assert [store.at(store.start(number) + place) for place in range(len(ids))] == [
            (f"ü{number}\n", place) for place in range(len(ids))
        ]
    everything = [index for pieces in documents for piece in pieces for index in piece]
    assert store.tokens == len(everything)
    assert store.largest_id == max(everything, default=0)
    store.close()
    # read by nothing of ours
    assert np.fromfile(folder / "ids.bin", dtype=dtype).tolist() == everything


def test_uncommitted_tail_is_cut_off(tmp_path: Path) -> None:
    """A kill leaves more in the files than the journal says: it goes, and the next document is whole."""
    store = TokenStore(tmp_path / "store", INT32)
    store.append_ids(np.arange(5, dtype=np.int32))
    store.end(Document("", "a"), 0)
    store.commit()
    store.append_ids(np.arange(9, dtype=np.int32))
    store.leave_out(LeftOut(1, "x", "why", "filter"))
    shutil.copytree(tmp_path / "store", tmp_path / "killed")
    store.end(Document("", "b"), 2)
    shutil.copytree(tmp_path / "store", tmp_path / "killed later")
    store.close()
    for name in ("killed", "killed later"):
        again = TokenStore(tmp_path / name, INT32)
        assert (len(again), again.tokens, list(again.left_out())) == (1, 5, [])
        again.append_ids(np.array([7], dtype=np.int32))
        again.end(Document("", "c"), 1)
        assert again.read(1, str).input_ids.tolist() == [7]
        again.commit()
        again.close()
        assert np.fromfile(tmp_path / name / "ids.bin", dtype=INT32).tolist() == [0, 1, 2, 3, 4, 7]


def test_killed_at_any_moment_the_files_end_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copied after every write, each copy read on to the end gives the files of an uninterrupted reading."""
    whole = read_all(tmp_path / "whole")
    moments = 0
    write = TokenStore._write

    def spied(self: TokenStore, name: str, data: bytes) -> None:
        nonlocal moments
        write(self, name, data)
        if moments % 9 == 0:  # of several hundred
            shutil.copytree(tmp_path / "observed", tmp_path / f"killed/{moments}")
        moments += 1

    with monkeypatch.context() as patch:
        patch.setattr(TokenStore, "_write", spied)
        read_all(tmp_path / "observed")
    killed = sorted((tmp_path / "killed").iterdir())
    assert len(killed) > 20
    for folder in killed:
        assert read_all(folder) == whole


def test_killed_while_the_journal_is_written(tmp_path: Path) -> None:
    """The new journal is beside the old one, whole or half: the old one counts, and nothing is read twice."""
    whole = read_all(tmp_path / "whole")
    documents = source(tmp_path / "store")
    documents.get(10)
    documents.store.close()
    (tmp_path / "store/.journal.json.tmp-1").write_text('{"format": 1, "pos')
    read = read_all(tmp_path / "store")
    read.pop(".journal.json.tmp-1", None)
    assert read == whole


@pytest.mark.parametrize("moment", [1, 2, 20, 40])
def test_interrupted_in_the_middle_of_a_batch(moment: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C or an error inside a batch: closing keeps the batches before it, and no half of this one."""
    whole = read_all(tmp_path / "whole")
    documents = source(tmp_path / "store")
    count, end = 0, TokenStore.end

    def stopped(self: TokenStore, document: Document, position: int) -> None:
        nonlocal count
        count += 1
        if count == moment:
            raise KeyboardInterrupt
        end(self, document, position)

    with monkeypatch.context() as patch:
        patch.setattr(TokenStore, "end", stopped)
        with pytest.raises(KeyboardInterrupt):
            documents.get(99)
    documents.close()
    assert read_all(tmp_path / "store") == whole


def test_resumed_reading_tokenises_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in the store is not encoded again."""
    documents = source(tmp_path)
    documents.get(50)
    documents.close()
    known = len(documents.store)
    encoded: list[int] = []
    append = TokenStore.end
    monkeypatch.setattr(TokenStore, "end", lambda self, *args: (encoded.append(1), append(self, *args)))
    read_all(tmp_path)
    assert len(encoded) == 90 - known


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 2)  # the last byte of a journal is a mere line end


def _flip_at(share: float) -> Callable[[Path], None]:
    def flip(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[int(share * (len(data) - 1))] ^= 1
        path.write_bytes(data)

    return flip


DAMAGE: dict[str, Callable[[Path], None]] = {
    "cut": _cut,
    "emptied": lambda path: os.truncate(path, 0),
    "missing": Path.unlink,
    "first byte": _flip_at(0),
    "middle byte": _flip_at(0.5),
    "last byte": _flip_at(1),
}


@pytest.mark.parametrize("damage", list(DAMAGE))
@pytest.mark.parametrize("name", [*FILES, "journal.json"])
def test_damaged_store_is_made_anew(name: str, damage: str, tmp_path: Path) -> None:
    """Whatever is missing, cut or altered in whichever file: the store is thrown away and made again, the same."""
    whole = read_all(tmp_path)
    DAMAGE[damage](tmp_path / name)
    assert read_all(tmp_path) == whole
    assert len(Texts.given) == 200, "the source was read a second time"


@pytest.mark.parametrize("place", range(10, 400, 13))
def test_altered_journal_is_never_believed(place: int, tmp_path: Path) -> None:
    """A digit more or less in the journal leaves valid JSON; it is noticed all the same."""
    documents = source(tmp_path)
    documents.get(30)
    documents.close()
    journal = tmp_path / "journal.json"
    text = journal.read_text()
    digit = next((at for at in range(place, len(text)) if text[at].isdigit()), None)
    if digit is None:
        return
    journal.write_text(text[:digit] + str((int(text[digit]) + 1) % 10) + text[digit + 1 :])
    assert read_all(tmp_path) == read_all(tmp_path.with_name(f"{tmp_path.name}-whole"))


def test_store_of_another_width_is_made_anew(tmp_path: Path) -> None:
    """Two bytes are never read as four."""
    read_all(tmp_path)
    store = TokenStore(tmp_path, INT32)
    assert (len(store), store.tokens, store.position, store.exhausted) == (0, 0, 0, False)
    store.close()


def test_source_that_gives_fewer_documents_the_second_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its documents cannot be told apart from those of before: an error that says both numbers."""
    documents = source(tmp_path)
    documents.get(60)
    position = documents.store.position
    documents.close()
    monkeypatch.setattr(Texts, "fewer", 60)
    with pytest.raises(DataError, match=f"the source texts has 40 documents, and had {position} before"):
        read_all(tmp_path)


def test_left_out_documents_are_counted_up_to_where_reading_is(tmp_path: Path) -> None:
    """By source and by filter, those before a document, and all with the ones after the last document."""
    documents = source(tmp_path)
    for _ in documents.read_all():
        pass
    skipped, filtered = documents.left_out(101)
    assert skipped == {"is bad": 4, "is bad at the end": 1}
    assert filtered == {"is a tenth": 10}
    skipped, filtered = documents.left_out(16)
    assert (skipped, filtered) == ({"is bad": 3}, {"is a tenth": 2})
    documents.close()


@pytest.mark.parametrize("keep", [False, True])
def test_texts_left_out_are_kept_where_wanted(keep: bool, tmp_path: Path) -> None:
    """`left_out.jsonl` holds what a filter dropped with its text on request, and what the source skipped without."""
    read_all(tmp_path, keep_texts=keep)
    lines = [json.loads(line) for line in (tmp_path / "left_out.jsonl").read_text().splitlines()]
    dropped = [line for line in lines if line["by"] == "filter"]
    assert [line["id"] for line in dropped] == [f"text/{number}" for number in range(5, 100, 10)]
    assert [len(line.get("text", "")) for line in dropped] == ([*range(5, 100, 10)] if keep else [0] * 10)
    assert [line["id"] for line in lines if line["by"] == "source"] == ["bad/0", "bad/3", "bad/3", "bad/50", "bad/last"]
    assert [line["position"] for line in lines] == sorted(line["position"] for line in lines)


def test_texts_that_spell_special_tokens_are_counted(tmp_path: Path) -> None:
    """A number for a person to look at: those texts stay text."""
    documents = source(tmp_path, Texts(texts=("plain", "an <eos> here", "<bos>", "< eos>")))
    documents.get(3)
    assert documents.store.special_token_texts == 2
    documents.close()


def test_names_with_broken_unicode(tmp_path: Path) -> None:
    """A file name that is no valid Unicode names its document all the same."""
    store = TokenStore(tmp_path, INT32)
    store.end(Document("", "bad\udc80name"), 0)
    store.commit()
    assert "name" in store.read(0, str).document.id
    store.close()
    assert len(TokenStore(tmp_path, INT32)) == 1


def test_ids_beyond_two_bytes_are_never_wrapped(tmp_path: Path) -> None:
    """A vocabulary with a gap has larger ids than tokens; they must not come back as others."""
    store = TokenStore(tmp_path, UINT16)
    with pytest.raises((OverflowError, DataError)):
        store.append_ids(np.array([70_000], dtype=np.int32))


def test_ids_that_end_too_early_are_an_error(tmp_path: Path) -> None:
    """A file cut while it is in use is an error, not a row of other tokens."""
    file = tmp_path / "ids.bin"
    np.arange(10, dtype=INT32).tofile(file)
    with file.open("rb") as opened:
        assert read_ids(opened.fileno(), INT32, 3, 4).tolist() == [3, 4, 5, 6]
        with pytest.raises(OSError, match="token ids end after 16 of 24 bytes"):
            read_ids(opened.fileno(), INT32, 6, 6)
