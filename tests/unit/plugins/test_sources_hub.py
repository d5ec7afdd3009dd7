"""Documents from datasets: every row is read as it stands, or named with its file and line."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxkit.errors import DataError
from ctxkit.registry import Registry
from ctxkit.spec import Context, Document
from ctxkit_sources import csv_rows, decoding
from ctxkit_sources.decoding import lines
from ctxkit_sources.hub import Hub
from ctxkit_sources.rows import Reading
from ctxkit_sources.standing_in import write_rows

pytestmark = pytest.mark.torch  # datasets is a part of it

Skipped = list[tuple[str, str]]
LOADERS = {".jsonl": "json", ".json": "json", ".txt": "text", ".csv": "csv", ".tsv": "csv"}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder of its own, and keep datasets' copies there."""
    from datasets import config

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path / ".cache")


def loader(name: str) -> str:
    """Return the loader for a file."""
    suffix = next(suffix for suffix in Path(name).suffixes if suffix)
    return LOADERS.get(suffix, suffix[1:])


def hub(*names: str, **options: Any) -> list[Document]:
    """Return the documents of local files."""
    return list(Hub(loader(names[0]), data_files=names, **options))


def texts(*names: str, **options: Any) -> list[str]:
    """Return the texts of local files."""
    return [document.text for document in hub(*names, **options)]


def left_out(*names: str, **options: Any) -> tuple[list[str], Skipped]:
    """Return the texts of local files and what is reported, where bad rows are left out."""
    reported: Skipped = []
    skipped = lambda *said: reported.append(said)  # noqa: E731 - one line
    return texts(*names, on_bad_row="skip", skipped=skipped, **options), reported


def write(name: str, content: str | bytes) -> str:
    """Write a file and return its name."""
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return name


def jsonl(name: str, *values: Any, column: str = "text") -> str:
    """Write JSON lines with one column."""
    return write(name, "".join(json.dumps({column: value}) + "\n" for value in values))


# Rows that are broken -------------------------------------------------------------------------------------------------

GOOD = b'{"text": "good"}\n'
BAD = {
    "null text": (b'{"text": null}', "null", "holds null in text, not text"),
    "int": (b'{"text": 7}', "no text", "holds 7 in text, int and not text"),
    "list": (b'{"text": ["a"]}', "no text", r"holds \['a'\] in text, list and not text"),
    "no column": (b'{"body": "a", "id": 1}', "no column text", "has no column text; its columns: body, id"),
    "broken": (b'{"text": "a', "broken JSON", 'is broken JSON: Unterminated string starting at near \'{"text": "a\''),
    "invalid UTF-8": (b'{"text": "\xff"}', "not utf-8", "is not utf-8: byte 0xff at 10 of the line"),
    "surrogate in UTF-8": (b'{"text": "\xed\xa0\x80"}', "not utf-8", "is not utf-8: byte 0xed at 10 of the line"),
    "lone surrogate": (rb'{"text": "ab\ud800"}', "lone surrogate", r"holds a lone surrogate, \\ud800 at 2"),
    "duplicate key": (b'{"text": "a", "text": "b"}', "key twice", "has the key 'text' twice"),
    "nested duplicate key": (b'{"text": "a", "m": {"k": 1, "k": 2}}', "key twice", "has the key 'k' twice"),
    "no object": (b'["a"]', "no object", "is not an object with columns but list"),
    "two objects": (b'{"text": "a"}{"text": "b"}', "broken JSON", "is broken JSON: Extra data"),
    "NUL bytes": (b"\0\0\0\0", "broken JSON", "is broken JSON: Expecting value"),
    "endless number": (b'{"text": "a", "n": ' + b"9" * 5000 + b"}", "broken JSON", "is JSON that cannot be read"),
    "deep": (b'{"text": ' + b"[" * 200_000, "broken JSON", "is JSON that cannot be read"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_row(name: str) -> None:
    """A bad row stops the source with file, row, line and what it holds, or is left out alone and reported."""
    content, reason, detail = BAD[name]
    write("rows.jsonl", GOOD + b"\n" + content + b"\n" + GOOD)
    with pytest.raises(DataError, match=rf"^row 1 \(line 3\) of rows\.jsonl {detail}") as caught:
        hub("rows.jsonl")
    assert "on_bad_row: skip" in caught.value.hint
    assert str(caught.value).encode()
    assert left_out("rows.jsonl") == (["good", "good"], [("rows.jsonl#1", reason)])


def test_broken_last_line() -> None:
    """A file that was cut off while it was written gives all rows before."""
    write("rows.jsonl", GOOD * 3 + GOOD[:9])
    with pytest.raises(DataError, match=r"^row 3 \(line 4\) of rows\.jsonl is broken JSON"):
        hub("rows.jsonl")
    assert left_out("rows.jsonl") == (["good"] * 3, [("rows.jsonl#3", "broken JSON")])


def test_string_then_int() -> None:
    """A number is refused wherever it stands, though it be thousands of rows behind the first text."""
    jsonl("rows.jsonl", *["a" * 100] * 5000, 7)
    with pytest.raises(DataError, match=r"row 5000 \(line 5001\) of rows\.jsonl holds 7 in text, int and not text"):
        hub("rows.jsonl")


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.txt"])
def test_texts_that_look_like_something_else(name: str) -> None:
    """Dates, numbers, and what other readers take for null, stay text."""
    values = ["2024-01-01", "2024-01-01T00:00:00Z", "12", "1e5", "NA", "null", "true", "007"]
    if name == "rows.jsonl":
        jsonl(name, *values)
    else:
        write(name, "".join(f"{value}\n" for value in ["text"] * (name == "rows.csv") + values))
    assert texts(name, **({"sample_by": "line"} if name == "rows.txt" else {})) == values


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.txt", "rows.parquet", "rows.arrow"])
def test_missing_column(name: str) -> None:
    """A column that is not there is named with those that are, also where bad rows are left out."""
    table(name, [{"text": "a"}, {"text": "b"}])
    expected = rf"^row 0.* of {name} has no column body; its columns: text"
    for options in ({"text_column": "body"}, {"id_column": "body"}):
        with pytest.raises(DataError, match=expected):
            hub(name, **options)
    with pytest.raises(DataError, match=r"has no column body; its columns: text\nno other row has that column"):
        left_out(name, text_column="body")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'\xef\xbb\xbf{"text": "a"}\r\n\r\n  \n{"text": "b\\r\\nc\\rd\\u0000"}', ["a", "b\nc\nd\0"]),
        (b'{"text": "\\ufeffa"}\n{"text": "\\ud83d\\ude00"}\n', ["a", "\U0001f600"]),
        (b'\r{"text":\r"a"}\n', ["a"]),
        (b'{"text": "\xe2\x80\xa8\xc2\x85"}\n', ["\u2028\x85"]),
        (b' [{"text": "a"},\r\n {"text": "b"}\n]\n', ["a", "b"]),
    ],
)
def test_json_marks_and_line_ends(content: bytes, expected: list[str]) -> None:
    """Byte order marks go, blank lines are no rows, only a line feed ends a line, line ends in a text are unified."""
    assert texts(write("rows.json", content)) == expected


def test_newlines_kept() -> None:
    """`newlines: keep` leaves the line ends as they are."""
    jsonl("rows.jsonl", "a\r\nb\rc")
    assert texts("rows.jsonl", newlines="keep") == ["a\r\nb\rc"]
    write("rows.txt", b"a\r\nb\rc\n")
    assert texts("rows.txt", newlines="keep") == ["a\r\nb\rc\n"]


def test_long_line() -> None:
    """A line of megabytes is a row like another, and one longer than `max_bytes` a bad row."""
    jsonl("rows.jsonl", "a", "b" * 3_000_000, "c")
    assert list(map(len, texts("rows.jsonl"))) == [1, 3_000_000, 1]
    assert left_out("rows.jsonl", max_bytes=100) == (["a", "c"], [("rows.jsonl#1", "more than max_bytes")])
    with pytest.raises(DataError, match=r"row 1 \(line 2\) of rows\.jsonl is a line of more than max_bytes"):
        hub("rows.jsonl", max_bytes=100)


def test_long_line_is_never_held() -> None:
    """What is longer than the limit is read past in pieces."""
    held = []

    class Watched(io.BytesIO):
        def readline(self, size: int | None = -1, /) -> bytes:
            line = super().readline(size)
            held.append(len(line))
            return line

    assert list(lines(Watched(b"x" * 10_000_000 + b"\nend"), 10)) == [None, b"end"]
    assert max(held) <= decoding.PIECE


def test_text_of_more_than_max_bytes() -> None:
    """The limit counts bytes of UTF-8, and exactly that many are allowed; the last line has no line feed."""
    table("rows.parquet", [{"text": "é" * 4}, {"text": "é" * 4 + "!"}])
    assert left_out("rows.parquet", max_bytes=8) == (["é" * 4], [("rows.parquet#1", "more than max_bytes")])
    write("rows.txt", "é" * 4 + "\r\n" + "é" * 4 + "!\n" + "é" * 4)
    assert left_out("rows.txt", max_bytes=8, sample_by="line")[0] == ["é" * 4] * 2


@given(st.lists(st.text(st.sampled_from("ab\r"), max_size=12)), st.integers(1, 8), st.booleans())
def test_lines(parts: list[str], limit: int, ended: bool) -> None:
    """Lines are what lies between line feeds, less those whose content is longer than the limit."""
    content = "\n".join(parts).encode() + b"\n" * ended
    expected = content.splitlines(keepends=True) if b"\r" not in content else None
    found = list(lines(io.BytesIO(content)))
    assert b"".join(line for line in found if line) == content
    assert expected is None or found == expected
    short = [
        None if len(line.removesuffix(b"\n").removesuffix(b"\r")) > limit else line
        for line in found
        if line is not None
    ]
    assert list(lines(io.BytesIO(content), limit)) == short


# Whole files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv", "rows.txt", "rows.parquet", "rows.arrow"])
def test_empty_file(name: str) -> None:
    """A file without a byte is named where there is no other, and reported where there is."""
    write(name, b"")
    with pytest.raises(DataError, match=rf"^there are no rows in {name} of the dataset .* \(split train\)"):
        hub(name)
    other = f"good{Path(name).suffix}"
    table(other, [{"text": "a"}])
    found, reported = left_out(name, other)
    assert ([text.strip() for text in found], reported) == (["a"], [(name, "no rows")])


@pytest.mark.parametrize(
    ("name", "content"), [("a.jsonl", "\n \n"), ("a.json", " [ ] "), ("a.csv", "text\n\n"), ("a.txt", "")]
)
def test_no_rows(name: str, content: str) -> None:
    """A file without rows is named."""
    write(name, content)
    with pytest.raises(DataError, match=rf"^there are no rows in {name}"):
        hub(name, **({"sample_by": "line"} if name == "a.txt" else {}))


def test_empty_text() -> None:
    """A row without text is nobody's fault, but is reported."""
    jsonl("rows.jsonl", "a", "", "\ufeff")
    expected = [("rows.jsonl#1", "empty"), ("rows.jsonl#2", "empty")]
    assert left_out("rows.jsonl") == (["a"], expected)
    assert texts("rows.jsonl") == ["a"]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('[{"text": "a"},\n {"text": "b', 2),
        ('[{"text": "a"}\n {"text": "b"}]', 1),
        ('[{"text": "a"},\n]', 2),
        ("[", 1),
        ('[{"text": "a"}', 1),
    ],
)
def test_broken_array(content: str, line: int) -> None:
    """An array that breaks off cannot be read on, so it stops the source whatever is asked, with the line."""
    write("rows.json", content)
    for options in ({}, {"on_bad_row": "skip"}):
        with pytest.raises(
            DataError, match=rf"^rows\.json, line {line}: the JSON array is broken: .*\nwith one object"
        ):
            hub("rows.json", **options)


def test_array_with_bad_objects() -> None:
    """A bad object within a whole array is left out alone, and named by its line."""
    write("rows.json", '[\n{"text": "a"},\n7,\n{"text": "b", "text": "c"},\n{"text": "d"}\n]')
    assert left_out("rows.json") == (["a", "d"], [("rows.json#1", "no object"), ("rows.json#2", "key twice")])
    with pytest.raises(DataError, match=r"row 1 \(line 3\) of rows\.json is not an object"):
        hub("rows.json")


@given(st.lists(st.text(max_size=5)), st.sampled_from([None, 1, "\t"]))
def test_array_is_what_json_says(tmp_path_factory: pytest.TempPathFactory, values: list[str], indent: Any) -> None:
    """However an array is laid out, its rows are what Python's own reader gives."""
    file = tmp_path_factory.mktemp("array") / "rows.json"
    file.write_text(json.dumps([{"text": "x"}, *[{"text": value} for value in values]], indent=indent))
    expected = [row["text"].removeprefix("\ufeff") for row in json.loads(file.read_text())]
    assert texts(str(file), newlines="keep") == [text for text in expected if text]


PACKERS: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


def packed(suffix: str, content: bytes) -> bytes:
    """Return packed bytes."""
    import pyarrow as pa

    if suffix in PACKERS:
        return PACKERS[suffix](content)
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, {".zst": "zstd", ".lz4": "lz4"}[suffix]) as file:
        file.write(content)
    return bytes(sink.getvalue())


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst", ".lz4"])
def test_packed(suffix: str) -> None:
    """A packed file is unpacked as it is read, two packed files in one too; one that was cut off is named."""
    words = ["".join(random.Random(n).choices("abcdefgh", k=50)) for n in range(1000)]
    content = packed(suffix, "".join(json.dumps({"text": word}) + "\n" for word in words).encode())
    write(f"rows.jsonl{suffix}", content)
    assert texts(f"rows.jsonl{suffix}") == words
    write(f"rows.jsonl{suffix}", content + content)
    assert texts(f"rows.jsonl{suffix}") == words * 2
    write(f"rows.jsonl{suffix}", content[: len(content) // 2])
    with pytest.raises(DataError, match=rf"^rows\.jsonl\{suffix} cannot be read: .*\nit may be cut off or damaged"):
        hub(f"rows.jsonl{suffix}", on_bad_row="skip")
    write(f"rows.jsonl{suffix}", b"no such thing" * 9)
    with pytest.raises(DataError, match=rf"^rows\.jsonl\{suffix} cannot be read: "):
        hub(f"rows.jsonl{suffix}")


def test_csv() -> None:
    """Quotes, line ends within quotes, and long values are read as Python writes them; values stay text."""
    import csv

    values = ['a "quoted", value', "two\nlines", "x" * 1_000_000, " spaced ", "é"]
    with Path("rows.csv").open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([["key", "text"], *enumerate(values)])
    documents = hub("rows.csv", id_column="key")
    assert [(document.id, document.text) for document in documents] == [(str(n), v) for n, v in enumerate(values)]
    write("rows.tsv", "key\ttext\n1\ta, b\n")
    assert texts("rows.tsv") == ["a, b"]


@pytest.mark.parametrize(
    ("record", "reason", "detail"),
    [
        ("a,b,c", "broken CSV", "has 3 values for the 2 columns of the header"),
        ("a", "broken CSV", "has 1 values for the 2 columns of the header"),
        ('"a"b,c', "broken CSV", "is broken CSV: ',' expected after '\"'"),
        ("a\rb,c", "broken CSV", "is broken CSV: new-line character seen in unquoted field"),
        ("\udcff,c", "not utf-8", "is not utf-8: byte 0xff at 0 of the line"),
        (f"{'y' * 50},z", "more than max_bytes", "is a line of more than max_bytes"),
    ],
)
def test_csv_bad_row(record: str, reason: str, detail: str) -> None:
    """A record that does not fit its header is named by the line on which it begins, and left out alone."""
    content = f'key,text\n1,"good\none"\n{record}\n3,good\n'
    write("rows.csv", content.encode(errors="surrogateescape"))
    with pytest.raises(DataError, match=rf"^row 1 \(line 4\) of rows\.csv {detail}"):
        hub("rows.csv", max_bytes=40)
    assert left_out("rows.csv", max_bytes=40) == (["good\none", "good"], [("rows.csv#1", reason)])


def test_csv_quote_without_end() -> None:
    """A quote that never ends is a bad row that begins where the quote does."""
    write("rows.csv", 'text\na\n"b\nc\n')
    with pytest.raises(DataError, match=r"^row 1 \(line 3\) of rows\.csv is broken CSV: unexpected end of data"):
        hub("rows.csv")


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (b"text,text", "has the column text twice"),
        (b"\xff,text", "cannot be read: it is not utf-8"),
        (b'"a"b', "broken"),
    ],
)
def test_csv_header(header: bytes, said: str) -> None:
    """A header that cannot be read stops the source."""
    write("rows.csv", header + b"\na,b\n")
    with pytest.raises(DataError, match=rf"the header of rows\.csv .*{said}"):
        hub("rows.csv", on_bad_row="skip")


TEXT = b"\xef\xbb\xbfone\r\ntwo\rthree\n\n \nfour\nfive\0"


@pytest.mark.parametrize(
    ("sample_by", "expected", "numbers"),
    [
        ("document", ["one\ntwo\nthree\n\n \nfour\nfive\0"], [0]),
        ("paragraph", ["one\ntwo\nthree", "four\nfive\0"], [0, 1]),
        ("line", ["one", "two\nthree", "four", "five\0"], [0, 1, 2, 3]),
    ],
)
def test_text(sample_by: str, expected: list[str], numbers: list[int]) -> None:
    """A text file is one row, or its paragraphs or lines; a lone CR ends none, NUL is a character."""
    write("a.txt", TEXT)
    found = hub("a.txt", sample_by=sample_by)
    assert [document.text for document in found] == expected
    assert [document.id for document in found] == [f"a.txt#{number}" for number in numbers]


@pytest.mark.parametrize("sample_by", ["document", "paragraph", "line"])
def test_text_invalid(sample_by: str) -> None:
    """Text that is not UTF-8 is a bad row with the place of the byte."""
    write("a.txt", b"good\n\nx\xff\n\nend\n")
    place = {"document": r"row 0 \(line 1\)"}.get(sample_by, r"row 1 \(line 3\)")
    with pytest.raises(DataError, match=rf"{place} of a\.txt is not utf-8: byte 0xff at "):
        hub("a.txt", sample_by=sample_by)
    assert left_out("a.txt", sample_by=sample_by)[0] == ([] if sample_by == "document" else ["good", "end"])


def table(name: str, rows: list[dict[str, Any]]) -> str:
    """Write rows in the format that a name ends as, by libraries of others."""
    import pandas as pd
    import pyarrow as pa

    frame = pd.DataFrame(rows)
    if name.endswith(".jsonl"):
        frame.to_json(name, orient="records", lines=True)
    elif name.endswith(".json"):
        frame.to_json(name, orient="records")
    elif name.endswith(".csv"):
        frame.to_csv(name, index=False)
    elif name.endswith(".parquet"):
        frame.to_parquet(name)
    elif name.endswith(".arrow"):
        values = pa.Table.from_pylist(rows)
        with pa.ipc.new_stream(name, values.schema) as stream:
            stream.write_table(values, max_chunksize=2)
    else:
        write(name, "\n\n".join(row["text"] for row in rows))
    return name


ROWS = [{"text": text, "key": key} for text, key in [("one", "a"), ("two", "b"), ("three", "c"), ("four", "d")]]
TABLES = ["rows.jsonl", "rows.json", "rows.csv", "rows.parquet", "rows.arrow"]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name", TABLES)
def test_formats(name: str, streaming: bool) -> None:
    """A local file in any format gives one document a row, in order, named by file and number or by a column."""
    table(name, ROWS)
    found = hub(name, streaming=streaming)
    assert [(document.text, document.id) for document in found] == [
        (row["text"], f"{name}#{number}") for number, row in enumerate(ROWS)
    ]
    assert [document.id for document in hub(name, streaming=streaming, id_column="key")] == ["a", "b", "c", "d"]


@pytest.mark.parametrize("name", ["rows.parquet", "rows.arrow"])
def test_columnar_types(name: str) -> None:
    """What a column holds that is no text is named, a null too; a time is not turned into text."""
    from datetime import UTC, datetime

    for value, said in [(datetime(2024, 1, 1, tzinfo=UTC), "datetime"), (3, "int"), (b"x", "bytes")]:
        table(name, [{"text": value}])
        with pytest.raises(DataError, match=rf"row 0 of {name} holds .* in text, {said}.* and not text"):
            hub(name)
    table(name, [{"text": "a"}, {"text": None}, {"text": "b"}])
    assert left_out(name) == (["a", "b"], [(f"{name}#1", "null")])


@pytest.mark.parametrize("name", ["rows.parquet", "rows.arrow"])
def test_columnar_invalid_text(name: str) -> None:
    """A string that is not UTF-8, which these formats do not check, is a bad row."""
    import pyarrow as pa
    from pyarrow import parquet

    offsets, data = pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b"a\xff")
    values = pa.table({"text": pa.Array.from_buffers(pa.string(), 2, [None, offsets, data])})
    if name == "rows.parquet":
        parquet.write_table(values, name)
    else:
        with pa.ipc.new_file(name, values.schema) as file:
            file.write_table(values)
    assert left_out(name) == (["a"], [(f"{name}#1", "not utf-8")])


@pytest.mark.parametrize("name", ["rows.parquet", "rows.arrow"])
def test_columnar_damaged(name: str) -> None:
    """A file that is none, or was cut off, even between two batches, stops the source and is named."""
    content = Path(table(name, ROWS)).read_bytes()
    cuts = [8, len(content) // 2, len(content) - 1]
    if name == "rows.arrow":
        import pyarrow as pa

        cuts.append(len(content) - 8)
        assert pa.ipc.open_stream(content[:-8]).read_all().num_rows == 4  # it reads without a complaint
    for cut in cuts:
        write(name, content[:cut])
        with pytest.raises(DataError, match=rf"^{name} (cannot be read as parquet|is no whole Arrow file)"):
            hub(name, on_bad_row="skip")
    write(name, b"text")
    with pytest.raises(DataError, match=rf"^{name} "):
        hub(name)


# Ids and chats --------------------------------------------------------------------------------------------------------


def test_ids() -> None:
    """A row is named by its column, whatever its type; null is no name."""
    write("rows.jsonl", '{"text": "a", "id": 7}\n{"text": "b", "id": null}\n')
    assert [d.id for d in hub("rows.jsonl", id_column="id", on_bad_row="skip")] == ["7"]
    with pytest.raises(DataError, match=r"row 1 \(line 2\) of rows\.jsonl holds null in id, not a name"):
        hub("rows.jsonl", id_column="id")


TURNS = [{"role": "user", "content": "Hi\r\n"}, {"role": "assistant", "content": "Hello", "name": "B"}]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
def test_messages(name: str) -> None:
    """A chat becomes the turns of a document, its text their contents; a key that is null is none."""
    table(name, [{"chat": TURNS}, {"chat": TURNS[:1]}])
    one, two = hub(name, text_column=None, messages_column="chat")
    assert one.messages == ({"role": "user", "content": "Hi\n"}, {"role": "assistant", "content": "Hello", "name": "B"})
    assert (one.text, two.text) == ("Hi\n\nHello", "Hi\n")
    assert two.messages == ({"role": "user", "content": "Hi\n"},)


@pytest.mark.parametrize(
    ("turns", "detail"),
    [
        (None, "holds null in chat, not a list of turns"),
        ([], r"holds \[\] in chat, not a list of turns"),
        ("Hi", "holds 'Hi' in chat, not a list of turns"),
        (["Hi"], "holds 'Hi' as turn 0 of chat, not role and content"),
        ([{"from": "human", "value": "Hi"}], "has no role in turn 0 of chat, only from, value"),
        ([{"role": "user", "content": "a"}, {"role": "user"}], "has no content in turn 1 of chat, only role"),
        ([{"role": "user", "content": None}], "has no content in turn 0 of chat, only role"),
        ([{"role": "user", "content": 7}], "holds 7 as content in turn 0 of chat, int and not text"),
        ([{"role": "user", "content": "a", "tool_calls": [{}]}], r"holds \[\{\}\] as tool_calls in turn 0 of chat"),
        ([{"role": "user", "content": "\ud800"}], r"holds a lone surrogate, \\ud800 at 0"),
    ],
)
def test_malformed_messages(turns: Any, detail: str) -> None:
    """A turn that is not a role and a content in text makes a bad row."""
    jsonl("rows.jsonl", TURNS, turns, column="chat")
    options: dict[str, Any] = {"text_column": None, "messages_column": "chat"}
    with pytest.raises(DataError, match=rf"^row 1 \(line 2\) of rows\.jsonl {detail}"):
        hub("rows.jsonl", **options)
    assert len(left_out("rows.jsonl", **options)[0]) == 1


def test_silent_chat() -> None:
    """A chat in which nobody says anything is empty."""
    jsonl("rows.jsonl", TURNS, [{"role": "user", "content": ""}], column="chat")
    found = left_out("rows.jsonl", text_column=None, messages_column="chat")
    assert found == (["Hi\n\nHello"], [("rows.jsonl#1", "empty")])


# Splits and order -----------------------------------------------------------------------------------------------------


def test_several_files() -> None:
    """Files are read in the order of the patterns, each once; numbers begin anew in each."""
    jsonl("b1.jsonl", "b1")
    jsonl("b2.jsonl", "b2", "b3")
    jsonl("a.jsonl", "a")
    assert [d.id for d in hub("b*.jsonl", "*.jsonl")] == ["b1.jsonl#0", "b2.jsonl#0", "b2.jsonl#1", "a.jsonl#0"]
    with pytest.raises(DataError, match=r"no file matches c\*"):
        hub("c*.jsonl")


def test_links_and_pipes() -> None:
    """What is no file among the files is reported."""
    jsonl("a.jsonl", "a")
    os.mkfifo("b.jsonl")
    assert left_out("*.jsonl") == (["a"], [("b.jsonl", "a pipe, not a file")])


def split(spec: str, **options: Any) -> list[str]:
    """Return the texts of a split of two files."""
    files = {"train": ["a.jsonl"], "test": "b.jsonl"}
    return [document.text for document in Hub("json", data_files=files, split=spec, **options)]


@pytest.mark.parametrize(
    "spec", ["train", "test", "train[2:4]", "train[:50%]", "train[-3:]", "train+test[:1]", "test+train"]
)
def test_splits(spec: str) -> None:
    """A split, a slice or a sum gives the rows that datasets gives."""
    from datasets import load_dataset

    jsonl("a.jsonl", *[f"a{n}" for n in range(9)])
    jsonl("b.jsonl", *[f"b{n}" for n in range(3)])
    expected = load_dataset("json", data_files={"train": ["a.jsonl"], "test": "b.jsonl"}, split=spec)["text"]
    assert split(spec) == list(expected)
    assert sorted(split(spec, seed=1)) == sorted(expected)


def test_wrong_splits() -> None:
    """A split that is not there is named with those that are; a slice past the end has no rows."""
    jsonl("a.jsonl", "a")
    jsonl("b.jsonl", "b")
    for spec in ("valid", "valid[:1]", "train+valid"):
        with pytest.raises(DataError, match="there is no split valid\nthere is train, test"):
            split(spec)
    for spec in ("train[", "train[a:b]", "train[:200%]"):
        with pytest.raises(DataError, match=r"split train.* cannot be read"):
            split(spec)
    with pytest.raises(
        DataError, match=r"there are no rows in a\.jsonl, b\.jsonl of the dataset json \(split train\[1:\]\)"
    ):
        split("train[1:]")
    with pytest.raises(DataError, match="cannot be streamed in another order"):
        split("train[:1]", seed=1, streaming=True)


@pytest.mark.parametrize("options", [{}, {"streaming": True}, {"streaming": True, "buffer_size": 3}])
def test_shuffle(options: dict[str, Any]) -> None:
    """A seed gives an order of its own with the same documents and ids, whatever was read before."""
    jsonl("a.jsonl", *[f"a{n}" for n in range(40)])
    jsonl("b.jsonl", *[f"b{n}" for n in range(40)])
    plain = hub("a.jsonl", "b.jsonl")
    one, two = (hub("a.jsonl", "b.jsonl", seed=seed, **options) for seed in (1, 2))
    assert one == hub("a.jsonl", "b.jsonl", seed=1, **options)
    assert len({tuple(d.text for d in found) for found in (plain, one, two)}) == 3
    assert all(sorted(found, key=lambda d: d.id) == sorted(plain, key=lambda d: d.id) for found in (one, two))


@pytest.mark.parametrize("streaming", [False, True])
def test_shuffled_bad_rows(streaming: bool) -> None:
    """A bad row is as bad in another order, each time it is read; a broken file too."""
    write("rows.jsonl", GOOD * 9 + b"broken\n")
    for _ in range(2):
        assert left_out("rows.jsonl", seed=1, streaming=streaming) == (["good"] * 9, [("rows.jsonl#9", "broken JSON")])
        with pytest.raises(DataError, match=r"row 9 \(line 10\) of rows\.jsonl is broken JSON"):
            hub("rows.jsonl", seed=1, streaming=streaming)
    write("rows.json", '[{"text": "a"}')
    with pytest.raises(DataError, match=r"rows\.json, line 1: the JSON array is broken"):
        hub("rows.json", seed=1, streaming=streaming)


def test_shuffled_copy_is_never_stale() -> None:
    """A file that changed since it was copied is read anew, and so are other options."""
    jsonl("rows.jsonl", "a", "b")
    assert sorted(texts("rows.jsonl", seed=1)) == ["a", "b"]
    jsonl("rows.jsonl", "c\r", "d\r")
    assert sorted(texts("rows.jsonl", seed=1)) == ["c\n", "d\n"]
    assert sorted(texts("rows.jsonl", seed=1, newlines="keep")) == ["c\r", "d\r"]


def test_shuffled_messages() -> None:
    """The turns of a chat survive the copy, which is another one than that of the column as text."""
    jsonl("rows.jsonl", TURNS, TURNS, column="chat")
    assert left_out("rows.jsonl", seed=1, text_column="chat")[0] == []
    options: dict[str, Any] = {"text_column": None, "messages_column": "chat"}
    assert [d.messages for d in hub("rows.jsonl", seed=1, **options)] == [
        d.messages for d in hub("rows.jsonl", **options)
    ]


# Folders and names ----------------------------------------------------------------------------------------------------


def test_folder() -> None:
    """A folder written as a path is read with the splits that datasets finds in it."""
    jsonl("data/train.jsonl", "a", "2024-01-01")
    jsonl("data/test.jsonl", "b")
    found = list(Hub("./data"))
    assert [document.text for document in found] == ["a", "2024-01-01"]
    assert found[0].id.endswith("data/train.jsonl#0")
    assert [document.text for document in Hub(str(Path("data").absolute()), split="test")] == ["b"]
    assert [document.text for document in Hub("./data", data_files="test.jsonl")] == ["b"]


def test_folder_of_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A tilde is the home folder, for folders and files."""
    monkeypatch.setenv("HOME", str(tmp_path))
    jsonl("data/train.jsonl", "a")
    assert [document.text for document in Hub("~/data")] == ["a"]
    assert [document.text for document in Hub("json", data_files="~/data/*.jsonl")] == ["a"]


def test_saved_folder() -> None:
    """A folder that `save_to_disk` wrote is read, alone or with splits."""
    from datasets import Dataset, DatasetDict

    Dataset.from_list(ROWS).save_to_disk("one", num_shards=2)
    DatasetDict({"train": Dataset.from_list(ROWS[:1]), "test": Dataset.from_list(ROWS[1:])}).save_to_disk("two")
    assert [document.text for document in Hub("./one")] == ["one", "two", "three", "four"]
    assert [document.text for document in Hub("./two", split="test")] == ["two", "three", "four"]


def test_no_folder() -> None:
    """A path that is none of a folder says what to write instead; a folder without data is named."""
    jsonl("rows.jsonl", "a")
    Path("none").mkdir()
    with pytest.raises(DataError, match=r"\./rows\.jsonl is a file, not a folder\nfor files: path: json"):
        list(Hub("./rows.jsonl"))
    with pytest.raises(DataError, match=r"\./nothing is not there, not a folder"):
        list(Hub("./nothing"))
    with pytest.raises(DataError, match="the folder none cannot be loaded: "):
        list(Hub("./none"))


@pytest.mark.parametrize("name", ["squad", "someone/squad"])
def test_folder_never_shadows_the_hub(name: str) -> None:
    """A name means the hub though a folder be called so, which datasets alone would read; the message says it."""
    from datasets import load_dataset

    jsonl(f"{name}/train.jsonl", "local")
    assert load_dataset(name, split="train")["text"][0] == "local"
    refused = (
        rf"the dataset {name} .* cannot be (loaded: .*\nthe folder {name} is not meant|reached, and the cache knows)"
    )
    with pytest.raises(DataError, match=refused):
        list(Hub(name))
    assert [document.text for document in Hub(f"./{name}")] == ["local"]


def test_unknown_dataset_offline() -> None:
    """A dataset that cannot be reached is refused in one message that names it."""
    with pytest.raises(DataError, match=r"the dataset nobody/nothing \(split train\) cannot be loaded: ") as caught:
        list(Hub("nobody/nothing"))
    assert not caught.value.hint


@pytest.fixture
def on_the_hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Let datasets' own loading find a local file in the place of the hub, and keep what it was asked."""
    import datasets

    asked: dict[str, Any] = {}
    real = datasets.load_dataset_builder

    def load(path: str, **arguments: Any) -> Any:
        asked.update(path=path, **arguments)
        return real("parquet", data_files="hub.parquet")

    monkeypatch.setattr(datasets, "load_dataset_builder", load)
    table("hub.parquet", [{**row, "number": number} for number, row in enumerate([*ROWS, {"text": None, "key": "e"}])])
    return asked


@pytest.mark.parametrize("streaming", [False, True])
def test_hub_rows(on_the_hub: dict[str, Any], streaming: bool) -> None:
    """Rows of the hub are judged as local ones; what datasets is asked for is what was stated."""
    reported: Skipped = []
    source = Hub(
        "some/data",
        streaming=streaming,
        revision="v1",
        name="en",
        on_bad_row="skip",
        skipped=lambda *s: reported.append(s),
    )
    assert [(d.text, d.id) for d in source][1:3] == [("two", "some/data/train/1"), ("three", "some/data/train/2")]
    assert reported == [("some/data/train/4", "null")]
    assert on_the_hub == {"path": "hf://datasets/some/data", "name": "en", "revision": "v1"}
    with pytest.raises(DataError, match=r"row 4 of the dataset some/data \(split train\) holds null in text"):
        list(Hub("some/data", streaming=streaming))
    with pytest.raises(DataError, match="has no column body\nit has key, number, text"):
        list(Hub("some/data", streaming=streaming, text_column="body"))
    with pytest.raises(DataError, match=r"row 0 of the dataset some/data .* holds 0 in number, int and not text"):
        list(Hub("some/data", streaming=streaming, text_column="number"))


@pytest.mark.usefixtures("on_the_hub")
@pytest.mark.parametrize("streaming", [False, True])
def test_hub_shuffle(streaming: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of the hub in another order."""
    # datasets waits for five seconds when a stream ends, so that its threads do.
    monkeypatch.setattr(time, "sleep", lambda _: None)
    orders = {
        tuple(d.text for d in Hub("some/data", seed=seed, streaming=streaming, on_bad_row="skip")) for seed in range(5)
    }
    assert len(orders) > 1
    assert {tuple(sorted(order)) for order in orders} == {("four", "one", "three", "two")}


@pytest.mark.parametrize("streaming", [False, True])
def test_cache_holds_another_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streaming: bool) -> None:
    """Where the hub is out of reach, datasets offers whatever commit its cache holds; another one is refused."""
    from datasets import load_dataset_builder
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    table("hub.parquet", ROWS)
    builder = load_dataset_builder("parquet", data_files="hub.parquet")
    builder.dataset_name, commit = "data", "a" * 40
    builder.download_and_prepare(str(tmp_path / f".cache/some___data/default/0.0.0/{commit}"))
    for revision in (None, commit):
        found = list(Hub("some/data", revision=revision, streaming=streaming))
        assert [document.text for document in found] == ["one", "two", "three", "four"]
    for revision in ("b" * 40, "v1"):
        with pytest.raises(DataError, match=rf"the cache holds the commit {commit}, not {revision}\ngo online"):
            list(Hub("some/data", revision=revision, streaming=streaming))
    write("hub/datasets--some--data/refs/v1", commit)
    assert len(list(Hub("some/data", revision="v1", streaming=streaming))) == 4


def test_fingerprint_of_files() -> None:
    """Local files count by name, size and time; a folder by all that is in it."""
    jsonl("data/train.jsonl", "a")
    files, folder = Hub("json", data_files="data/*.jsonl"), Hub("./data")
    first = files.fingerprint(), folder.fingerprint()
    assert first == (files.fingerprint(), folder.fingerprint())
    os.utime("data/train.jsonl", ns=(1, 1))
    second = files.fingerprint(), folder.fingerprint()
    jsonl("data/test.jsonl", "b")
    third = files.fingerprint(), folder.fingerprint()
    assert len({first, second, third}) == len({*first[:1], *second[:1], *third[:1]}) == 3
    assert len({first[1], second[1], third[1]}) == 3


def test_fingerprint_of_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A name on the hub counts by the revision asked for, whatever the cache holds: it must not change under a run."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    write("hub/datasets--some--data/refs/main", "a" * 40)
    assert Hub("some/data").fingerprint() == ""
    assert Hub("some/data", revision="v1").fingerprint() == "v1"


# Options --------------------------------------------------------------------------------------------------------------


def test_options(registry: Registry) -> None:
    """The options reach the source, the seed and the report from the context."""
    cls: Any = registry.components["source"]["hub"]
    jsonl("rows.jsonl", "a", "b", "c", 7, "")
    reported: Skipped = []
    context = Context(seed=5, skipped=lambda *said: reported.append(said))
    given = {"kind": "hub", "path": "json", "data_files": ["*.jsonl"], "on_bad_row": "skip"}
    plain = cls.model_validate(given)
    assert [document.text for document in plain.build(context)] == ["a", "b", "c"]
    assert reported == [("rows.jsonl#3", "no text"), ("rows.jsonl#4", "empty")]
    assert plain.fingerprint(context) == Hub("json", data_files="rows.jsonl").fingerprint()
    shuffled = cls.model_validate({**given, "shuffle": True}).build(context)
    assert [document.text for document in shuffled] == texts("rows.jsonl", seed=5, on_bad_row="skip")
    chat = cls.model_validate({"kind": "hub", "path": "a/b", "messages_column": "chat"})
    assert (chat.text_column, chat.messages_column) == (None, "chat")
    assert cls.model_validate(chat.model_dump()) == chat


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("path: json", "`path: json` is a loader, which needs `data_files`"),
        ("path: json, data_files: []", "`path: json` is a loader, which needs `data_files`"),
        ("path: a/b, messages_column: chat, text_column: text", "needs one of text_column and messages_column"),
        ("path: a/b, text_column: null", "needs one of text_column and messages_column"),
        ("path: ./a, revision: main", "revision is for datasets on the hub; this one is local"),
        ("path: a/b, buffer_size: 9", "buffer_size needs shuffle and streaming"),
        ("path: a/b, buffer_size: 9, shuffle: true", "buffer_size needs shuffle and streaming"),
        ("path: a/b, sample_by: line", "sample_by is for text files"),
        ("path: json, data_files: a, sample_by: line", "sample_by is for text files"),
    ],
)
def test_options_that_do_not_fit(faults: Callable[..., Any], minimal: str, source: str, message: str) -> None:
    """What nothing would read, or what is missing, is a fault of the recipe."""
    (fault,) = faults(minimal, f"data.sources.0={{kind: hub, {source}}}")
    assert fault.message == message


@pytest.mark.parametrize(
    ("path", "fix"),
    [
        ("rows.jsonl", "path: json"),
        ("./rows.csv.gz", "path: csv"),
        ("data/**/*.parquet", "path: parquet"),
        ("someone/there.txt", "path: text"),
        ("https://example.org/rows.arrow", "path: arrow"),
        ("./plain", "path:"),
    ],
)
def test_a_file_is_no_dataset(path: str, fix: str, faults: Callable[..., Any], minimal: str) -> None:
    """A file where a loader or a dataset belongs is refused at its place, with what to write."""
    Path("someone").mkdir()
    for there in ("someone/there.txt", "plain"):
        Path(there).touch()
    (fault,) = faults(minimal, f"data.sources.0={{kind: hub, path: '{path}'}}")
    assert (fault.dotted, f"`data_files: {path}`" in fault.message) == ("data.sources.0.path", True)
    assert f"write `{fix}" in fault.message


@pytest.mark.parametrize(
    "path",
    ["someone/books.json", "someone/books", "squad", "./rows.json", "hf://datasets/a/b", "~nobody-is-called-so/x",
     pytest.param("./" + "x" * 300, id="too long")],
)  # fmt: skip
def test_datasets_that_look_like_files(path: str, load: Callable[..., Any], minimal: str) -> None:
    """Names on the hub may have a dot, a folder any name; a file called like a dataset is not meant.

    What cannot be looked at is not judged here.
    """
    Path("rows.json").mkdir()
    Path("squad").touch()
    load(minimal, f"data.sources.0={{kind: hub, path: '{path}'}}")


def test_long_fields_of_csv_in_this_process() -> None:
    """The limit of Python's csv module, 128 KB, is lifted by the reader itself."""
    import csv

    write("rows.csv", "text\n" + "x" * 200_000 + "\n")
    before = csv.field_size_limit(1000)
    try:
        (row,) = csv_rows.csv_rows("rows.csv", Reading("csv", ("text",)))
    finally:
        csv.field_size_limit(before)
    assert len(row.values["text"]) == 200_000  # noqa: PD011 - no table


@pytest.mark.parametrize("seed", [None, 0], ids=["in order", "shuffled"])
def test_more_columns_are_metadata(seed: int | None) -> None:
    """Texts and numbers are kept as they are, lists and mappings as JSON, null not at all."""
    rows = [
        {"text": "a", "question": "q\n", "answers": ["x", "y"], "n": 3, "spans": {"start": [1]}},
        {"text": "b", "question": None, "answers": "z", "n": 0.5, "spans": None},
    ]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = hub("rows.jsonl", metadata_columns=("question", "answers", "n", "spans"), seed=seed)
    assert {document.text: dict(document.metadata) for document in found} == {
        "a": {"question": "q\n", "answers": '["x", "y"]', "n": 3, "spans": '{"start": [1]}'},
        "b": {"answers": "z", "n": 0.5},
    }
    assert all(not document.metadata for document in hub("rows.jsonl"))


def test_a_metadata_column_that_is_not_there_is_named() -> None:
    """A row without the column is a bad row, as one without text is."""
    Path("rows.jsonl").write_text('{"text": "a", "question": "q"}\n')
    with pytest.raises(DataError, match="no column answers; its columns: question, text"):
        hub("rows.jsonl", metadata_columns=("question", "answers"))


def test_rows_that_stand_in_have_all_columns(tmp_path: Path) -> None:
    """What a rehearsal writes for a dataset that it cannot reach can be read with the same columns."""
    file = write_rows(tmp_path, ["one two three four five"], "text", None, None, ("question", "answers"))
    [document] = hub(str(file), metadata_columns=("question", "answers"))
    assert document.metadata == {"question": "one two three four", "answers": "one two three four"}
