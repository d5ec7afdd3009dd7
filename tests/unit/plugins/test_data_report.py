"""The look at prepared data says what its files say, and obeys nothing that stands in a document."""

from __future__ import annotations

import json
import re
import unicodedata
from copy import deepcopy
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, fromstring

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

import ctxkit_report
from ctxkit.errors import DiskError
from ctxkit.host import Host
from ctxkit_report.manifest import look

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
HOSTILE = "</span><script>alert(1)</script>&amp;\x1b[31m\x9b2J\r\x00\u202egnp.exe\u2066\ud800\ue000\ufeff"


def bins(*filled: tuple[int, int, int]) -> list[dict[str, int]]:
    """Return lengths as a manifest holds them; each bin is its least tokens, how many, and their tokens."""
    return [
        {"least": least, "most": 2 * least - 1, "count": count, "tokens": tokens} for least, count, tokens in filled
    ]


def files_source(**changes: object) -> dict[str, Any]:
    """Return the ledger of a source of short files with repetition, a mix that cuts it, and an evaluation set."""
    return {
        "kind": "files",
        "documents_read": 1250,
        "skipped": {"not UTF-8": 4, "empty file": 2},
        "filtered_documents": {"shorter than 20 characters": 41, "repeated 50-grams above 0.3": 9},
        "documents": 1200,
        "tokens_read": 2_000_000,
        "dropped": {"near duplicate": 150_000, "shorter than min_tokens": 9_000},
        "dropped_documents": {"near duplicate": 88, "shorter than min_tokens": 31},
        "documents_cut": 140,
        "chunks": 1500,
        "tokens_kept": 1_700_000,
        "tokens_repeated": 300_000,
        "tokens_inserted": 12_000,
        "tokens_trained": 1_700_000,
        "tokens_masked": 312_000,
        "tokens_unused": 41_000,
        "tokens_eval": 100_000,
        "special_token_texts": 3,
        "document_lengths": bins((64, 80, 7_900), (256, 300, 110_000), (1024, 600, 820_000), (4096, 220, 1_062_100)),
        **changes,
    }


def git_source(**changes: object) -> dict[str, Any]:
    """Return the ledger of repositories: long documents, inserted separators, nothing repeated."""
    return {
        "kind": "git",
        "documents_read": 300,
        "skipped": {"binary file": 25},
        "filtered_documents": {},
        "documents": 300,
        "tokens_read": 10_000_000,
        "dropped": {},
        "dropped_documents": {},
        "documents_cut": 60,
        "chunks": 420,
        "tokens_kept": 9_900_000,
        "tokens_repeated": 0,
        "tokens_inserted": 38_000,
        "tokens_trained": 9_938_000,
        "tokens_masked": 0,
        "tokens_unused": 100_000,
        "tokens_eval": 0,
        "special_token_texts": 0,
        "document_lengths": bins((2048, 40, 120_000), (16384, 200, 4_880_000), (65536, 60, 5_000_000)),
        **changes,
    }


def split(**changes: object) -> dict[str, Any]:
    """Return what a manifest says of the training rows."""
    return {
        "rows": 370,
        "chunks": 1920,
        "tokens": 11_950_000,
        "tokens_trained": 11_638_000,
        "tokens_masked": 312_000,
        "longest": 32768,
        "efficiency": 0.9857,
        "lengths": bins((8192, 8, 90_000), (16384, 42, 1_192_000), (32768, 320, 10_668_000)),
        "longer_than": {"0.25": 1.0, "0.5": 0.978, "1.0": 0.865},
        "difficulty": {"easy": 40, "medium": 90, "hard": 180, "very_hard": 60},
        **changes,
    }


def asked(name: str, tokens: int | None, share: float | None, trained: int, why: str = "") -> dict[str, Any]:
    """Return a part of the mix, of 11,638,000 tokens trained."""
    return {
        "name": name,
        "asked_tokens": tokens,
        "asked_share": share,
        "tokens": trained,
        "share": trained / 11_638_000,
        "why": why,
    }


def mix(**changes: object) -> dict[str, Any]:
    """Return what was asked of two sources and two classes of length: half of each, and 12 million tokens."""
    return {
        "asked_tokens": 12_000_000,
        "tokens": 11_638_000,
        "why": "files has no more",
        "sources": [
            asked("files", 6_000_000, 0.5, 1_700_000, "files has no more"),
            asked("git", 6_000_000, 0.5, 9_938_000, "in proportion"),
        ],
        "length_bands": [
            asked("documents of 0 to 16,383 tokens", 6_000_000, 0.5, 5_819_000),
            asked("documents of 16,384 or more tokens", 6_000_000, 0.5, 5_819_000),
        ],
        **changes,
    }


def manifest(**changes: object) -> dict[str, Any]:
    """Return a manifest of two sources, packed, without evaluation rows."""
    return {
        "format": 4,
        "length": 32768,
        "tokenizer": {"vocab_size": 49152},
        "chunker": "multi_file",
        "packing": {"strategy": "best_fit", "document_mask": True},
        "train": split(),
        "eval": None,
        "sources": [files_source(), git_source()],
        "mix": mix(),
        **changes,
    }


def segment(text: str = "", **changes: object) -> dict[str, Any]:
    """Return a segment of a sample: a whole document, trained, unless told."""
    return {
        "kind": "document",
        "document": "demo/app.py",
        "start": 0,
        "end": 120,
        "masked": False,
        "boundary": False,
        "tokens": 120,
        "text": text,
        "omitted": 0,
        "tail": "",
        **changes,
    }


CODE = '"""Add numbers."""\n\nimport sys\n\n\ndef add(a: int, b: int) -> int:\n\treturn a + b\n'


def packed_sample() -> dict[str, Any]:
    """Return a row of two packed examples with separators, the second with an overlap that is masked."""
    mark = {"kind": "inserted", "document": "", "start": None, "end": None, "tokens": 6}
    return {
        "split": "train",
        "row": 17,
        "tokens": 4096,
        "source": "git",
        "difficulty": "very_hard",
        "segments": [
            segment("<|FILE_START|> demo/util.py\n", **mark, boundary=True),
            segment(CODE, document="demo/util.py", end=60, tokens=60),
            segment("<|FILE_END|>\n<|FILE_START|> demo/app.py\n", **mark),
            segment("from demo.util import add\n", end=1500, tokens=1500, omitted=1400, tail="print(add(1, 2))\n"),
            segment("Der Anfang. ", document="buch/1.txt", start=812, end=912, masked=True, boundary=True),
            segment("你好世界。 Und weiter im Text.\n" * 12, document="buch/1.txt", start=912, end=3442),
        ],
    }


def plain_sample(**changes: object) -> dict[str, Any]:
    """Return a row that is one stretch of one document."""
    return {
        "split": "train",
        "row": 3,
        "tokens": 120,
        "source": "files",
        "difficulty": "easy",
        "segments": [segment("Call me Ishmael. " * 40, document="moby.txt", start=5, end=125)],
        **changes,
    }


def put(path: Path, data: object) -> None:
    """Write text or JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")


def put_set(run_dir: Path, key: str, about: object, samples: object) -> None:
    """Write one prepared data set."""
    put(run_dir / "data" / key / "manifest.json", about)
    put(run_dir / "data" / key / "samples.json", {"samples": samples})


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """Build a run directory of two data sets, one shared by two stages."""
    put(tmp_path / "run.json", {"name": "starcoder2-repo", "status": "prepared"})
    put(tmp_path / "data.json", {"stages": {"8k": "aaa111", "16k": "aaa111", "short": "bbb222"}})
    put_set(tmp_path, "aaa111", manifest(), [plain_sample(), packed_sample(), plain_sample(row=9)])
    lengths = bins((256, 1000, 400_000), (512, 500, 350_000))
    short = split(rows=1500, chunks=1500, lengths=lengths, longer_than={"0.25": 0.4, "0.5": 0.0, "1.0": 0.0})
    held = split(rows=20, lengths=bins((512, 20, 15_000)))
    about = manifest(length=2048, chunker="overlap", packing=None, train=short, eval=held, sources=[files_source()])
    put_set(tmp_path, "bbb222", about, [plain_sample()])
    return tmp_path


def shown(run_dir: Path) -> str:
    """Return what the terminal shows, in colour."""
    text = ctxkit_report.ctxkit_data_report(run_dir)
    assert isinstance(text, str)
    return text


def plain(run_dir: Path) -> str:
    """Return what the terminal shows, without colour."""
    return ESCAPE.sub("", shown(run_dir))


class Page(HTMLParser):
    """What a browser makes of a page: tags, and the text of each element that has one of the noted classes."""

    void = frozenset({"meta", "link", "br"})

    def __init__(self, run_dir: Path) -> None:
        """Write the page, read it, and insist that it is well formed."""
        super().__init__()
        self.shown = shown(run_dir)
        self.markup = (run_dir / "data.html").read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        """The class of the element around, and the text."""
        self._open: list[tuple[str, str]] = []
        self.feed(self.markup)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.void:
            self._open.append((tag, dict(attrs).get("class") or ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1][0] != "style":
            self.texts.append((self._open[-1][1], data))

    def of(self, name: str) -> list[str]:
        """Return the texts directly in elements of a class."""
        return [text for style, text in self.texts if name in style.split()]

    @property
    def text(self) -> str:
        """Everything that is read, spaces flattened."""
        return " ".join(" ".join(text for _, text in self.texts).split())

    @property
    def pictures(self) -> list[Element]:
        """Every drawing, parsed as XML."""
        return [fromstring(found) for found in re.findall(r"<svg.*?</svg>", self.markup, flags=re.DOTALL)]  # noqa: S314


def harmful(text: str) -> set[str]:
    """Return the characters that a screen would obey or hide, by the Unicode categories."""
    kinds = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    return {each for each in text if unicodedata.category(each) in kinds} - set("\n\t\u200c\u200d")


def ledger_rows(text: str, source: str) -> list[tuple[str, str, int]]:
    """Return sign, name and count of each token row that the terminal shows of a source."""
    block = text.split(f"\n  {source} ", 1)[1].split("documents\n", 1)[0]
    found = re.findall(r"^    ([-+= ]) (.+?)  +([\d,]+)  ", block, flags=re.MULTILINE)
    return [(sign, name.strip(), int(count.replace(",", ""))) for sign, name, count in found]


@pytest.mark.parametrize("source", ["files", "git"])
def test_the_ledger_adds_up_as_it_is_read(run_dir: Path, source: str) -> None:
    """Going down the rows with their signs, what is read less what is left out is kept, and so on to the end."""
    rows = ledger_rows(plain(run_dir), source)
    sums = {name: count for sign, name, count in rows if sign in "= "}
    kept, whole = (next(count for sign, name, count in rows if name.startswith(start)) for start in ("kept", "in "))
    assert sums["read"] - sum(count for sign, _, count in rows if sign == "-") == kept
    assert kept + sum(count for sign, _, count in rows if sign == "+") == whole
    assert sum(count for name, count in sums.items() if name.startswith("of these")) == whole


def test_every_reason_is_shown_with_its_count(run_dir: Path) -> None:
    """Tokens and documents left out stand beside their reasons, in the terminal and on the page."""
    text, read = plain(run_dir), Page(run_dir).text
    for reason, count, share in (("near duplicate", "150,000", "7.5"), ("shorter than min_tokens", "9,000", "0.5")):
        assert re.search(rf"- dropped: {reason} +{count} +{share} %", text)
        assert re.search(rf"files dropped: {reason} {count} {share} % (88|31) ", read)
    for reason, count in (("not UTF-8", 4), ("empty file", 2), ("binary file", 25)):
        assert re.search(rf"- skipped by the source: {reason} +{count}\n", text)
        assert f"skipped by the source: {reason} \N{EN DASH} {count}" in read
    assert re.search(r"- filtered: repeated 50-grams above 0.3 +9\n", text)
    assert re.search(r"- dropped: near duplicate +88\n", text)
    assert re.search(r"of these cut +140\n", text)


def test_stages_that_share_data_are_shown_once(run_dir: Path) -> None:
    """A data set is shown once, under the names of all its stages, in the order of `data.json`."""
    text, read = plain(run_dir), Page(run_dir)
    assert re.findall(r"^(\S.*): 11.6M tokens to train on", text, flags=re.MULTILINE) == ["8k, 16k", "short"]
    assert [text for text in read.of("eyebrow") if text != "ctxkit prepared data"] == ["8k, 16k", "short"]
    assert [tag[1]["id"] for tag in read.tags if tag[0] == "section"] == ["data-1", "data-2"]
    assert [tag[1]["href"] for tag in read.tags if tag[0] == "a"] == ["#data-1", "#data-2"]


def test_rows_shares_and_difficulty(run_dir: Path) -> None:
    """Rows, their shares of the window, efficiency and difficulty are those of the manifest, with bars to scale."""
    text, read = plain(run_dir), Page(run_dir).text
    assert re.search(r"train +370 +1,920 +11,950,000 +11,638,000 +312,000 +32,768 +99 %", text)
    assert "train 370 1,920 11,950,000 11,638,000 312,000 32,768 99 %" in read
    bars = dict(re.findall(r"(25 %|50 %|whole) .*window +\d+ %  (█*)", text)[:3])
    assert [len(bars[share]) for share in ("25 %", "50 %", "whole")] == [20, 19, 17]
    assert re.search(r"very hard +60  ███▎\n", text)
    assert "very hard 60 (16 %)" in read
    assert "No row is set aside for evaluation." in read
    assert re.search(r"50 % of the window +0 % +98 %", text)


def test_what_was_asked_stands_beside_what_is_trained(run_dir: Path) -> None:
    """Tokens and shares of all, of each source and of each class of length, and why they differ."""
    text, read = plain(run_dir).split("short:")[0], Page(run_dir).text
    whys = {"all together": "files has no more", "files": "files has no more", "git": "in proportion"}
    for name, numbers in {
        "all together": "12,000,000 \N{EN DASH} 11,638,000 100 %",
        "files": "6,000,000 50 % 1,700,000 15 %",
        "git": "6,000,000 50 % 9,938,000 85 %",
        "documents of 0 to 16,383 tokens": "6,000,000 50 % 5,819,000 50 %",
        "documents of 16,384 or more tokens": "6,000,000 50 % 5,819,000 50 %",
    }.items():
        shown_why = f"\n    {whys[name]}\n" if name in whys else "\n"
        assert re.search(rf"\n  {name} +{numbers.replace(' ', ' +')}{shown_why}".replace(" +%", " %"), text)
        assert f"{name} {numbers} {whys.get(name, '')}" in read


@pytest.mark.parametrize(
    ("sources", "parts", "said"),
    [
        (1, mix(asked_tokens=None, sources=[asked("files", None, None, 11_638_000)], length_bands=[]), False),
        (1, mix(sources=[asked("files", None, None, 11_638_000)], length_bands=[]), True),
        (2, mix(asked_tokens=None, sources=[asked(n, None, None, 5_819_000) for n in "ab"], length_bands=[]), False),
        (2, mix(asked_tokens=None, sources=[asked(n, 9, None, 5_819_000) for n in "ab"], length_bands=[]), True),
        (2, {}, False),
    ],
    ids=["one source", "one source with a budget", "two sources", "two sources with a budget each", "not recorded"],
)
def test_nothing_is_said_where_nothing_was_asked(run_dir: Path, sources: int, parts: object, said: bool) -> None:
    """A recipe without weights, budgets and classes of length has no such table."""
    ledgers = [files_source(), git_source()][:sources]
    put(run_dir / "data" / "aaa111" / "manifest.json", manifest(sources=ledgers, mix=parts))
    assert ("part of the mix" in plain(run_dir).split("short:")[0]) == said
    (run_dir / "data.json").write_text('{"stages": {"8k": "aaa111"}}')
    assert ("What was asked, and what is trained" in Page(run_dir).text) == said


@pytest.mark.parametrize(("tokens", "warned"), [(10_799_999, True), (10_800_000, False)])
def test_much_less_than_max_tokens_is_a_warning(run_dir: Path, tokens: int, warned: bool) -> None:
    """Below nine tenths of what was asked in all, the reason stands at the top."""
    put(run_dir / "data" / "aaa111" / "manifest.json", manifest(mix=mix(tokens=tokens)))
    text = " ".join(plain(run_dir).split("short:")[0].split())
    assert ("only 90 % of the 12,000,000 tokens of max_tokens can be trained: files has no more" in text) == warned


def test_lengths_before_and_after(run_dir: Path) -> None:
    """Documents of all sources and training rows stand in one table, by the bins of the manifest."""
    text = plain(run_dir)
    assert re.search(r"4,096-8,191 +220  █▉ +0\n", text)
    assert re.search(r"32,768-65,535 +0 +320  █{17}▉\n", text)
    assert re.search(r"256-511 +300  ▎", text)
    captions = [found for found in Page(run_dir).text.split("length (tokens, log scale)") if "Documents of" in found]
    assert "Documents of git 300, 10,000,000 tokens" in " ".join(captions)


def test_examples_show_boundaries_masks_and_insertions_by_marks(run_dir: Path) -> None:
    """Without colour, two marks before each line and the rules above it say what it is."""
    text = plain(run_dir)
    assert "Example 2 of 3: train row 17, 4,096 tokens, source git, very hard" in text
    block = text.split("Example 2 of 3", 1)[1].split("Example", 1)[0]
    marks = [(line[2:4], line[5:].strip()) for line in block.splitlines() if line[2:4] in {"+│", " │", " ░", "+░"}]
    assert ("+│", "<|FILE_START|> demo/util.py") in marks
    assert (" │", "return a + b") in marks
    assert (" ░", "Der Anfang.") in marks
    assert ("+│", "<|FILE_END|>") in marks
    assert (" │", "… 1,400 tokens not shown …") in marks
    rules = [line.strip("─═ ") for line in block.splitlines() if line.startswith(("  ───", "  ═══"))]
    assert [" ".join(rule.replace("═", "").split()) for rule in rules] == [
        "attention starts anew",
        "demo/util.py, tokens 0 to 60",
        "demo/app.py, tokens 0 to 1,500",
        "buch/1.txt, tokens 812 to 3,442 attention starts anew",
    ]


def test_page_examples_keep_the_text_and_say_what_it_is(run_dir: Path) -> None:
    """On the page the texts of an example, joined, are those of the file; each says on hover what it is."""
    read = Page(run_dir)
    sample = packed_sample()
    for name, wanted in (("inserted", "inserted"), ("masked", "masked"), ("trained", "trained")):
        texts = [
            part["text"] + part["tail"]
            for part in sample["segments"]
            if ("inserted" if part["kind"] == "inserted" else "masked" if part["masked"] else "trained") == wanted
        ]
        found = "".join(text for style, text in read.texts if style.split() == ["s", name])
        assert all(text in found for text in texts)
    hovers = [attributes.get("title") for tag, attributes in read.tags if attributes.get("class") == "s masked"]
    assert "buch/1.txt, tokens 812 to 912; 120 tokens; masked: read, not trained" in hovers
    assert "buch/1.txt, tokens 812 to 3,442" in read.text
    assert [attributes["class"] for _, attributes in read.tags if "from" in (attributes.get("class") or "")].count(
        "from anew"
    ) == 2


def test_warnings_stand_in_both(run_dir: Path) -> None:
    """What a person would want to know is said in the terminal and on the page."""
    text, read = plain(run_dir), Page(run_dir).text
    for said in (
        "only git has documents of half the window or more",
        "files: 3 texts that spell a special token, kept as plain text that cannot act as one",
        "no training row fills even half of the window: it trains nothing at long range",
    ):
        assert f"  ! {said}\n" in text
        assert said in read


@pytest.mark.parametrize("wide", [False, True])
def test_terminal_text_fits(run_dir: Path, wide: bool) -> None:
    """No line is wider than 100 columns, by the measure of rich, whatever the names and numbers."""
    if wide:
        long = "很长的名字" * 60 + "y" * 300
        source = files_source(kind=long, dropped={long: 10**17}, filtered_documents={long: 10**12}, tokens_read=10**18)
        odd = packed_sample()
        odd["segments"] += [segment("x" * 1000 + long, document=long, boundary=True, masked=True)]
        rows = split(rows=10**17, tokens=10**18, longest=10**15, difficulty={long: 10**18})
        put(run_dir / "data.json", {"stages": {long: "aaa111", f"{long}2": "aaa111"}})
        about = manifest(sources=[source, git_source()], train=rows, eval=rows, chunker=long, length=10**15)
        put_set(run_dir, "aaa111", about, [odd, plain_sample(source=long, difficulty=long, split=long)])
    lines = plain(run_dir).split("\n\npage: ")[0].splitlines()
    assert [line for line in lines if cell_len(line) > 100] == []
    assert len(lines) > 50


def test_colour_is_left_out_where_it_is_not_wanted(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Colour adds to the text and changes none of it; it ends on its line; NO_COLOR and a dumb terminal have none."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    coloured = shown(run_dir)
    assert "\x1b[2;3m" in coloured
    for line in coloured.splitlines():
        codes = ESCAPE.findall(line)
        assert all(code == "\x1b[0m" for code in codes[1::2])
        assert len(codes) % 2 == 0
    monkeypatch.setenv("NO_COLOR", "1")
    assert shown(run_dir) == ESCAPE.sub("", coloured)
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in shown(run_dir)


def hostile_set(run_dir: Path) -> None:
    """Replace the data by one in which every text is hostile."""
    bad = files_source(kind=HOSTILE, dropped={HOSTILE: 1_999_999}, skipped={HOSTILE: 5000})
    parts = [
        segment(HOSTILE, document=HOSTILE, tail=HOSTILE, omitted=1),
        segment(HOSTILE, kind="inserted", document=HOSTILE, masked=True, boundary=True),
    ]
    rows = split(difficulty={HOSTILE: 4})
    put(run_dir / "run.json", {"name": HOSTILE})
    put(run_dir / "data.json", {"stages": {HOSTILE: "aaa111", "gone": "../aaa111", HOSTILE + "2": HOSTILE}})
    about = manifest(sources=[bad, git_source()], train=rows, chunker=HOSTILE, packing={"strategy": HOSTILE})
    put_set(run_dir, "aaa111", about, [plain_sample(segments=parts, source=HOSTILE, difficulty=HOSTILE, split=HOSTILE)])


def test_hostile_text_shows_harmlessly(run_dir: Path) -> None:
    """Markup, escape sequences, controls, lone surrogates and bidi characters are shown and never obeyed."""
    clean = Page(run_dir)
    hostile_set(run_dir)
    text, read = shown(run_dir), Page(run_dir)
    assert harmful(ESCAPE.sub("", text)) == set()
    assert harmful(read.markup) == set()
    assert {tag for tag, _ in read.tags} <= {tag for tag, _ in clean.tags}
    assert {name for _, attributes in read.tags for name in attributes} <= {
        name for _, attributes in clean.tags for name in attributes
    }
    assert len(read.pictures) > 3
    assert "</span><script>alert(1)</script>&amp;" in "".join(read.of("s"))
    assert {"ESC", "U+009B", "CR", "NUL", "U+202E", "U+2066", "U+D800", "U+E000", "U+FEFF"} <= set(read.of("code"))
    assert "RIGHT-TO-LEFT OVERRIDE" in {attributes.get("title") for _, attributes in read.tags}
    assert "⟨ESC⟩[31m⟨U+009B⟩2J⟨CR⟩⟨NUL⟩⟨U+202E⟩gnp.exe" in text
    assert "⟨ESC⟩" in json.dumps([dict(attributes) for _, attributes in read.tags], ensure_ascii=False)


def test_page_fetches_nothing(run_dir: Path) -> None:
    """Nothing names a place outside the page, there is no script, and a policy forbids both."""
    read = Page(run_dir)
    for _, attributes in read.tags:
        for name in ("src", "href", "xlink:href", "action", "data", "srcset"):
            assert (attributes.get(name) or "#").startswith(("data:", "#"))
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"@import|url\(|<script", read.markup)
    assert "default-src 'none'" in read.markup


def test_page_has_its_pictures(run_dir: Path) -> None:
    """A flow for two screen widths of each source, and a histogram of each source and split, each with a label."""
    labels = [picture.get("aria-label") or "" for picture in Page(run_dir).pictures]
    flows = [found for found in labels if found.startswith("Of ")]
    assert [found.split(":")[0] for found in flows] == [
        *["Of 2,000,000 tokens read from files"] * 2,
        *["Of 10,000,000 tokens read from git"] * 2,
        *["Of 2,000,000 tokens read from files"] * 2,
    ]
    assert [found.split(".")[0] for found in labels if "by length" in found] == [
        "Documents of files by length",
        "Documents of git by length",
        "Training rows by length",
        "Documents by length",
        "Training rows by length",
        "Evaluation rows by length",
    ]


def test_nothing_prepared_is_no_answer(tmp_path: Path) -> None:
    """A directory without data gives no text and no page."""
    assert ctxkit_report.ctxkit_data_report(tmp_path) is None
    assert ctxkit_report.ctxkit_data_report(tmp_path / "absent") is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("broken", ["{", "[]", "", '{"stages": 5', "\x00"])
def test_broken_manifest_is_a_clear_line(run_dir: Path, broken: str) -> None:
    """A data set that cannot be read is named with its file, and the others are shown."""
    put(run_dir / "data" / "aaa111" / "manifest.json", broken)
    text = plain(run_dir)
    assert "Could not be read: data/aaa111/manifest.json: " in text
    assert "short: 11.6M tokens" in text
    assert "Could not be read: data/aaa111/manifest.json: " in Page(run_dir).text
    put(run_dir / "data" / "bbb222" / "manifest.json", broken)
    (run_dir / "data.html").unlink()
    text = plain(run_dir)
    assert len(text.splitlines()) == 2
    assert "No prepared data can be shown" in text
    assert not (run_dir / "data.html").exists()


def test_missing_and_foreign_data_is_named(run_dir: Path) -> None:
    """A key without a folder, one that leads elsewhere and another format are each said."""
    stages = {"8k": "aaa111", "lost": "ccc333", "out": "../bbb222", "up": "..", "number": 5}
    put(run_dir / "data.json", {"stages": stages})
    put(run_dir / "data" / "aaa111" / "manifest.json", manifest(format=3))
    text = plain(run_dir)
    for said in (
        "data/ccc333/manifest.json: missing; prepare the data again",
        "data.json: stage out: not the name of a folder",
        "data.json: stage up: not the name of a folder",
        "data.json: stage number: not the name of a folder",
        "data/aaa111/manifest.json: not of format 4; prepare the data again",
    ):
        assert f"Could not be read: {said}\n" in text
    assert text.count("tokens to train on") == 1


def test_without_data_json_every_data_set_is_shown(run_dir: Path) -> None:
    """Where no stage is recorded yet, a data set goes by the name of its folder."""
    (run_dir / "data.json").unlink()
    text = plain(run_dir)
    assert "data/aaa111: 11.6M tokens to train on, in 370 rows of up to 32,768" in text
    assert "data/bbb222: " in text


@pytest.mark.parametrize("count", [10**30, -1, 1e300, "7", True, None])
def test_what_cannot_be_a_count_is_not_known(run_dir: Path, count: object) -> None:
    """A number that no disk could hold, a negative one and what is no number stand as a dash."""
    put(run_dir / "data" / "aaa111" / "manifest.json", manifest(train=split(chunks=count)))
    assert re.search("train +370 +\N{EN DASH} +11,950,000 ", plain(run_dir).split("short:")[0])


@pytest.mark.parametrize("name", sorted(manifest()))
def test_absent_fields_are_left_out(run_dir: Path, name: str) -> None:
    """A manifest that lacks a field loses what hangs on it, and nothing else."""
    put(run_dir / "data" / "aaa111" / "manifest.json", {key: item for key, item in manifest().items() if key != name})
    text = plain(run_dir)
    assert ("- dropped: near duplicate" in text.split("short:")[0]) == (name != "sources")
    assert ("1,920" in text.split("short:")[0]) == (name != "train")
    Page(run_dir)


@pytest.mark.parametrize("name", sorted(files_source()))
def test_absent_fields_of_a_source_are_left_out(run_dir: Path, name: str) -> None:
    """A source that lacks a field is shown with a dash, or without the row."""
    source = {key: item for key, item in files_source().items() if key != name}
    put(run_dir / "data" / "aaa111" / "manifest.json", manifest(sources=[source]))
    text = plain(run_dir)
    assert "does not add up" not in text or name == "dropped"
    Page(run_dir)


JUNK = st.sampled_from(
    [
        None,
        True,
        -1,
        0,
        1,
        1.5,
        10**30,
        -(10**400),
        float("nan"),
        float("inf"),
        "",
        "x",
        "\ud800\x1b\u202e",
        [],
        [1],
        {},
        {"a": 1},
    ]
)


def places(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the path of everything in nested JSON."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, item in items for found in places(item, (*path, key)))]


def altered(value: Any, path: tuple[str | int, ...], junk: object) -> Any:
    """Return nested JSON with junk at a path."""
    if not path:
        return junk
    copied = deepcopy(value)
    inner = copied
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = junk
    return copied


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_gives_a_traceback(run_dir: Path, data: st.DataObject) -> None:
    """Whatever stands wherever in the three files, there is an answer, and a page that is well formed."""
    files = {
        "data.json": {"stages": {"8k": "aaa111"}},
        "data/aaa111/manifest.json": manifest(eval=split(), sources=[files_source()]),
        "data/aaa111/samples.json": {"samples": [packed_sample()]},
    }
    for name, content in files.items():
        put(run_dir / name, content)
    for _ in range(data.draw(st.integers(1, 3))):
        name = data.draw(st.sampled_from(sorted(files)))
        path = data.draw(st.sampled_from(places(files[name])))
        put(run_dir / name, json.dumps(altered(files[name], path, data.draw(JUNK))))
    if look(run_dir).sets:
        assert Page(run_dir).shown.endswith("data.html")
    else:
        assert "Could not be read" in (ctxkit_report.ctxkit_data_report(run_dir) or "Could not be read")


def test_page_is_replaced_in_one_step(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure while writing keeps the old page, removes the draft and is a disk error."""
    old = Page(run_dir).markup
    files = set(run_dir.iterdir())

    def full(_self: object, _target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(DiskError, match="No space left on device"):
        shown(run_dir)
    assert set(run_dir.iterdir()) == files
    assert (run_dir / "data.html").read_text(encoding="utf-8") == old


def test_same_data_gives_the_same_page(run_dir: Path) -> None:
    """Looking twice gives the same bytes and leaves nothing else behind."""
    files = set(run_dir.iterdir())
    first = Page(run_dir).markup
    assert Page(run_dir).markup == first
    assert set(run_dir.iterdir()) - files == {run_dir / "data.html"}


def test_a_terminal_that_knows_few_characters(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where standard output cannot hold the marks, ASCII stands for them and the columns stay."""

    class Narrow:
        encoding = "ascii"

    before = plain(run_dir).splitlines()
    monkeypatch.setattr("sys.stdout", Narrow())
    text = plain(run_dir)
    assert text.isascii()
    assert "== buch/1.txt, tokens 812 to 3,442 ==" in text
    assert "\\u4f60\\u597d" in text
    for old, new in zip(before, text.splitlines(), strict=True):
        assert len(old) == len(new) or "你" in old


def test_the_hook_is_found(run_dir: Path, host: Host) -> None:
    """The installed plugin answers the hook, with the path of its page last."""
    answers = dict(host.ask("ctxkit_data_report", run_dir=run_dir))
    assert answers["report"].endswith(f"page:   {run_dir / 'data.html'}")
