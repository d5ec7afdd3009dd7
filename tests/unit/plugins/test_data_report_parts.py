"""The parts of the look at prepared data: harmless text, flows and pictures to scale, warnings, excerpts."""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise
from typing import Any
from xml.etree.ElementTree import Element, fromstring

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from ctxkit_report.excerpt import excerpt, pick
from ctxkit_report.findings import findings
from ctxkit_report.flow import Part, gaps, merged
from ctxkit_report.histogram import histogram
from ctxkit_report.lengths import histograms, pooled
from ctxkit_report.notation import percent, rough
from ctxkit_report.paint import Paint, bar, writable
from ctxkit_report.prepared import Bin, Prepared, Sample, Segment, Source, Split
from ctxkit_report.sankey import token_bars, token_flow
from ctxkit_report.stretches import placed, title
from ctxkit_report.visible import fit, fold, label, pad, pieces, visible, width

HARMFUL = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Categories of Unicode that a screen obeys, hides or has no sign for."""
KEPT = set("\n\t\u200c\u200d")
ANYTHING = st.text(st.characters(codec=None), max_size=60)

SOURCE = Source(
    kind="git",
    label="git",
    documents_read=12,
    documents=10,
    read=1000,
    dropped={"small": 50, "large": 150},
    unused=100,
    evaluation=100,
    kept=600,
    repeated=200,
    inserted=100,
    trained=650,
    masked=250,
    lengths=(Bin(64, 127, 8, 800), Bin(128, 255, 2, 200)),
)


def changed(**changes: Any) -> Source:
    """Return the source above with some fields replaced."""
    return Source(**{**vars(SOURCE), **changes})


def segment(text: str = "text", **changes: Any) -> Segment:
    """Return a trained stretch of a document unless told."""
    values = {
        "inserted": False,
        "document": "a.py",
        "start": 0,
        "end": 10,
        "masked": False,
        "boundary": False,
        "tokens": 10,
        "text": text,
        "omitted": 0,
        "tail": "",
    }
    return Segment(**{**values, **changes})


def sample(*segments: Segment, **changes: Any) -> Sample:
    """Return an example of some segments."""
    values = {"split": "train", "row": 1, "tokens": 10, "source": "git", "difficulty": "easy"}
    return Sample(**{**values, **changes}, segments=segments)


def drawn(markup: str) -> Element:
    """Parse a picture, which fails where it is not well formed."""
    return fromstring(markup)  # noqa: S314 - our own markup


# Harmless text


@given(ANYTHING)
def test_visible_text_has_nothing_harmful(text: str) -> None:
    """Nothing that a screen would obey or hide is left, by the categories of Unicode."""
    shown = visible(text)
    assert {each for each in shown if unicodedata.category(each) in HARMFUL} <= KEPT
    assert not {each for each in label(text) if unicodedata.category(each) in HARMFUL} - {"\u200c", "\u200d"}


@given(ANYTHING)
def test_harmless_text_stays_as_it_is(text: str) -> None:
    """What needs no care is not touched, and every character written out stands for exactly one."""
    harmless = "".join(each for each in text if unicodedata.category(each) not in HARMFUL or each in KEPT)
    assert visible(harmless) == harmless
    parts = list(pieces(text))
    assert "".join(part for part, name in parts if not name) == harmless
    assert sum(1 for _, name in parts if name) == len(text) - len(harmless)


@pytest.mark.parametrize(
    ("character", "shown", "name"),
    [
        ("\x1b", "ESC", "ESCAPE"),
        ("\x00", "NUL", "NULL"),
        ("\r", "CR", "CARRIAGE RETURN"),
        ("\x1f", "US", "UNIT SEPARATOR"),
        ("\x7f", "DEL", "character U+007F"),
        ("\x9b", "U+009B", "character U+009B"),
        ("\u202e", "U+202E", "RIGHT-TO-LEFT OVERRIDE"),
        ("\u2028", "U+2028", "LINE SEPARATOR"),
        ("\ud83d", "U+D83D", "character U+D83D"),
        ("\U000e0041", "U+E0041", "TAG LATIN CAPITAL LETTER A"),
    ],
)
def test_characters_are_written_out_by_name(character: str, shown: str, name: str) -> None:
    """Controls go by their ASCII names, all others by their code points; the full name stands beside."""
    assert list(pieces(f"a{character}b")) == [("a", ""), (shown, name), ("b", "")]
    assert visible(f"a{character}b") == f"a⟨{shown}⟩b"


def test_a_label_is_one_short_line() -> None:
    """A long name keeps its front and its end; line ends are written out."""
    assert label("a\nb") == "a⟨LF⟩b"
    cut = label("front" + "x" * 500 + "end.py", 40)
    assert len(cut) == 40
    assert cut.startswith("front")
    assert cut.endswith("end.py")
    assert len(label("\x1b" * 10_000)) == 120


@given(st.text(st.characters(codec="utf-8", exclude_categories=list(HARMFUL)), max_size=200), st.integers(4, 30))
def test_folding_loses_nothing(line: str, columns: int) -> None:
    """The parts of a folded line are the line again, and none is wider than asked for."""
    parts = fold(line, columns)
    assert "".join(parts) == line
    assert all(width(part) <= columns for part in parts)
    assert width(pad(line, columns)) == columns
    assert width(fit(line, columns)) <= columns


def test_folding_breaks_after_a_space() -> None:
    """Prose breaks between words, and one long word anywhere."""
    assert fold("one two three four", 10) == ["one two ", "three four"]
    assert fold("x" * 25, 10) == ["x" * 10, "x" * 10, "x" * 5]


def test_a_stack_of_combining_marks_ends() -> None:
    """Marks that take no column do not make an endless line."""
    assert max(len(part) for part in fold("a" + "\u0301" * 10_000, 20)) <= 80


@pytest.mark.parametrize(
    "text", ["plain", "你好世界", "한국어 텍스트", "naïve café", "e\u0301a\u0308", "\uff46\uff55", "🙂 ok"]
)
def test_width_is_that_of_a_terminal(text: str) -> None:
    """Columns are counted as rich counts them."""
    assert width(text) == cell_len(text)


# Numbers, bars and colour


@pytest.mark.parametrize(
    ("part", "total", "written"),
    [
        (0, 10, "0 %"),
        (10, 10, "100 %"),
        (1, 100_000, "<0.1 %"),
        (99_999, 100_000, ">99.9 %"),
        (29_100, 1_000_000, "2.9 %"),
        (2, 3, "67 %"),
        (994, 1000, "99.4 %"),
        (12, 10, "120.0 %"),
        (0, 0, "\N{EN DASH}"),
    ],
)
def test_percent(part: int, total: int, written: str) -> None:
    """Only nothing is 0 %, only all is 100 %, and a share of nothing is no number."""
    assert percent(part, total).replace("\u00a0", " ") == written


@pytest.mark.parametrize(
    ("value", "written"),
    [(0, "0"), (9_999, "9,999"), (12_345, "12.3k"), (999_499, "999k"), (999_600, "1M"), (11_638_000, "11.6M")],
)
def test_rough(value: int, written: str) -> None:
    """Three digits and a unit; small counts stay exact."""
    assert rough(value) == written


@given(st.floats(-1, 2), st.integers(1, 30))
def test_bars_are_to_scale(share: float, columns: int) -> None:
    """A bar is as long as its share, to an eighth of a column; what is more than nothing always shows."""
    drawn_ = bar(share, columns)
    eighths = sum("▏▎▍▌▋▊▉█".index(block) + 1 for block in drawn_)
    exact = min(max(share, 0), 1) * columns * 8
    assert exact <= eighths < exact + 1 + 1e-9
    assert len(drawn_) <= columns


def test_paint_and_what_a_terminal_cannot_hold() -> None:
    """Without colour text is untouched; ASCII stands for marks, and codes for other characters."""
    assert Paint(colour=True)("x", "strong") == "\x1b[1mx\x1b[0m"
    assert Paint(colour=False)("x", "strong") == "x"
    assert Paint(colour=True)("", "strong") == ""
    assert writable("█▏ │ 你", "utf-8") == "█▏ │ 你"
    assert writable("█▏ │ 你", "ascii") == "#. | \\u4f60"
    assert writable("█ ä 你", "latin-1") == "# ä \\u4f60"
    assert writable("█ 你", "no-such-encoding") == "# \\u4f60"


# Flows


def boxes(picture: Element) -> dict[str, tuple[float, float]]:
    """Return the height and the width of each node of a picture by the name in its tooltip."""
    found = {}
    for group in picture.iter("g"):
        name, rect = group.find("title"), group.find("rect")
        if name is not None and rect is not None:
            found[str(name.text).split(":")[0]] = (float(rect.get("height", 0)), float(rect.get("width", 0)))
    return found


def test_flow_is_to_scale() -> None:
    """The height of every node is its tokens, on one scale; every part is there with its share of what was read."""
    picture = drawn(token_flow(SOURCE))
    heights = {name: height for name, (height, _) in boxes(picture).items()}
    wanted = {
        "read": 1000,
        "kept": 600,
        "repeated": 200,
        "in chunks": 900,
        "trained": 650,
        "masked": 250,
        "unused": 100,
    }
    for name, tokens in wanted.items():
        assert heights[name] / heights["read"] == pytest.approx(tokens / 1000, abs=0.002)
    texts = ["".join(text.itertext()).replace("\u00a0", " ") for text in picture.iter("text")]
    assert "dropped: large  150  15 %" in texts
    assert "trained  650  65 %" in texts
    assert (
        (picture.get("aria-label") or "")
        .replace("\u00a0", " ")
        .startswith("Of 1,000 tokens read from git: dropped: large 15 %, dropped: small 5.0 %")
    )


def test_the_smallest_part_is_a_hair_and_seen() -> None:
    """A part too small for the scale is drawn as a thin line, and not as more than that."""
    heights = {name: height for name, (height, _) in boxes(drawn(token_flow(changed(inserted=1, unused=2)))).items()}
    assert 1 <= heights["inserted by the chunker"] <= 2
    assert 1 <= heights["unused"] <= 2


def test_flow_bands_fill_what_they_leave_and_enter() -> None:
    """The bands that leave a node are as high together as the node, and so are those that enter one."""
    picture = drawn(token_flow(SOURCE))
    edges = []
    for band in picture.iter("path"):
        numbers = [float(number) for number in re.findall(r"-?[\d.]+", band.get("d") or "")]
        left, top, below_right, right, bottom_left = numbers[0], numbers[1], numbers[8], numbers[6], numbers[-1]
        edges.append((left, bottom_left - top, right, below_right - numbers[7]))
    heights = {name: height for name, (height, _) in boxes(picture).items()}
    starts = sorted({left for left, *_ in edges})
    leaving = {left: sum(size for start, size, _, _ in edges if start == left) for left in starts}
    assert leaving[10.0] == pytest.approx(heights["read"], abs=1)
    assert leaving[max(starts)] == pytest.approx(heights["in chunks"], abs=1)
    entering = sum(size for _, _, right, size in edges if right == 560.0)
    assert entering == pytest.approx(heights["in chunks"], abs=1)


def test_narrow_bars_are_to_scale() -> None:
    """Each bar is as wide as the picture, divided by tokens."""
    picture = drawn(token_bars(SOURCE))
    bars = [rect for rect in picture.iter("rect") if rect.get("height") == "14"]
    rows: dict[str, list[float]] = {}
    for rect in bars:
        rows.setdefault(str(rect.get("y")), []).append(float(rect.get("width", 0)) + 1)
    assert [sum(widths) for widths in rows.values()] == pytest.approx([350] * 3, abs=0.5)
    assert list(rows.values())[2] == pytest.approx([350 * 650 / 900, 350 * 250 / 900], abs=0.1)


@pytest.mark.parametrize("absent", ["read", "kept", "trained", "masked"])
def test_no_flow_without_its_trunk(absent: str) -> None:
    """Where the ledger does not say what was read, kept or put into chunks, nothing is drawn."""
    assert token_flow(changed(**{absent: None})) == token_bars(changed(**{absent: None})) == ""


@given(st.lists(st.integers(1, 1000), max_size=20), st.integers(3, 8))
def test_merging_parts_keeps_the_sum(counts: list[int], most: int) -> None:
    """However many reasons there are, the parts shown are few and hold all tokens."""
    parts = [Part(f"dropped: {place}", count, "dropped") for place, count in enumerate(counts)]
    parts.append(Part("unused", 5, "unused"))
    found = merged(parts, most)
    assert len(found) <= most
    assert sum(part.tokens for part in found) == sum(counts) + 5
    assert found[-1].name == "unused"


def test_gaps_are_found_and_absent_fields_are_none() -> None:
    """An identity that does not hold is said with both sides; one that cannot be checked is not."""
    assert gaps(SOURCE) == ()
    assert gaps(changed(unused=101)) == ("the ledger does not add up: 1,000 tokens read, 1,001 kept or left out",)
    assert gaps(changed(masked=240)) == (
        "the ledger does not add up: 890 tokens in examples, 900 kept, repeated or inserted",
    )
    assert gaps(changed(unused=None, masked=None)) == ()


# Lengths


def test_histograms_share_their_bins() -> None:
    """Documents and rows stand on one axis of powers of two, and pooling adds them up."""
    other = changed(label="files", lengths=(Bin(1, 1, 3, 3),))
    train = Split(lengths=(Bin(512, 1023, 4, 2400),))
    axis, found = histograms(Prepared("k", sources=(SOURCE, other), train=train, evaluation=Split()))
    assert (axis.first, axis.count) == (0, 10)
    assert [axis.range(place) for place in (0, 1, 9)] == ["1", "2-3", "512-1,023"]
    assert [each.title for each in found] == ["Documents of git", "Documents of files", "Training rows"]
    together = pooled(found, "documents", "all")
    assert [column.count for column in together.columns] == [3, 0, 0, 0, 0, 0, 8, 2, 0, 0]
    assert together.total.tokens == 1003
    assert found[2].columns[9].tokens == 2400


def test_histogram_is_to_scale_and_marks_the_window() -> None:
    """Bars are as high as their shares, and the window stands where its length is."""
    axis, found = histograms(Prepared("k", sources=(SOURCE,)))
    picture = drawn(histogram(found[0], axis, 128))
    many = [float(rect.get("height", 0)) for rect in picture.iter("rect") if rect.get("class") == "many"]
    much = [float(rect.get("height", 0)) for rect in picture.iter("rect") if rect.get("class") == "much"]
    assert many[0] / many[1] == pytest.approx(4, rel=0.01)
    assert much[0] / much[1] == pytest.approx(4, rel=0.01)
    lefts = [float(rect.get("x", 0)) for rect in picture.iter("rect") if rect.get("class") == "reach"]
    window = [line for line in picture.iter("line") if line.get("class") == "window"]
    assert [float(line.get("x1", 0)) for line in window] == pytest.approx(lefts[1:2], abs=0.1)
    tooltips = [str(each.text).replace("\u00a0", " ") for each in picture.iter("title")]
    assert "64-127 tokens: 8 documents (80 %), 800 tokens (80 %)" in tooltips
    assert not [line for line in drawn(histogram(found[0], axis, 10**6)).iter("line") if line.get("class") == "window"]


def test_labels_of_lengths_do_not_touch() -> None:
    """However many bins there are, the labels below them keep their distance."""
    bins = tuple(Bin(2**power, 2 ** (power + 1) - 1, 1, 2**power) for power in range(25))
    axis, found = histograms(Prepared("k", sources=(changed(lengths=bins),)))
    picture = drawn(histogram(found[0], axis, None))
    places = [float(text.get("x", 0)) for text in picture.iter("text") if text.get("text-anchor") == "middle"][:-1]
    assert all(right - left >= 36 for left, right in pairwise(places))
    assert len(places) > 8


# Warnings


def said(**changes: Any) -> str:
    """Return the warnings about one source and its rows, in a line."""
    values: dict[str, Any] = {"key": "k", "window": 100, "sources": (SOURCE,), "train": Split(rows=5, tokens=900)}
    return " | ".join(findings(Prepared(**{**values, **changes}))).replace("\u00a0", " ")


def test_sound_data_gives_no_warning() -> None:
    """Where nothing is odd, nothing is said."""
    assert said() == ""


def test_what_is_left_out_by_rule_is_no_loss() -> None:
    """Merges are neither counted as lost nor among the documents that could have been."""
    merges = {"by rule: merge": 30}
    assert said(sources=(changed(documents_read=33, documents=3, skipped=merges),)) == ""
    mixed = changed(documents_read=40, documents=3, skipped={**merges, "binary": 7})
    assert "git: 70 % of the documents were never tokenised, most as “binary”" in said(sources=(mixed,))


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        (
            {"sources": (changed(dropped={"few": 1, "many": 550}, kept=249, inserted=451),)},
            "git: 55 % of the tokens read were dropped, most as “many”",
        ),
        (
            {"sources": (changed(documents_read=33, skipped={"both": 6}, filtered={"both": 8, "one": 9}),)},
            "git: 70 % of the documents were never tokenised, most as “both”",
        ),
        (
            {"sources": (changed(read=0, dropped={}, unused=0, evaluation=0, kept=0, inserted=700),)},
            "no token was read",
        ),
        ({"train": Split(longer_than={0.5: 0.0})}, "no training row fills even half of the window"),
        ({"train": Split(rows=0)}, "there is no row to train on"),
        ({"train": Split(efficiency=0.7), "packing": "best_fit"}, "packed rows are only 70 % full"),
        ({"train": Split(tokens=100, masked=51)}, "51 % of the tokens in training rows are masked"),
        ({"sources": (changed(special_token_texts=1),)}, "git: 1 text that spells a special token"),
        ({"sources": (changed(kept=601),)}, "git: the ledger does not add up"),
    ],
)
def test_warnings(changes: dict[str, Any], warning: str) -> None:
    """Each thing that is probably not meant is said in a sentence."""
    assert warning in said(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"sources": (changed(dropped={"many": 500}, kept=300, inserted=400),)},
        {"train": Split(longer_than={0.5: 0.01})},
        {"train": Split(efficiency=0.7)},
        {"train": Split(efficiency=0.9), "packing": "best_fit"},
        {"train": Split(tokens=100, masked=50)},
        {"sources": (changed(special_token_texts=0),)},
    ],
)
def test_warnings_end_at_their_bounds(changes: dict[str, Any]) -> None:
    """Half is not more than half, and what is a choice is no warning."""
    assert said(**changes) == ""


def test_only_one_source_has_long_documents() -> None:
    """It is said only where no document of another source can be long: a bin that reaches so far may hold one."""
    short = changed(label="files", lengths=(Bin(8, 15, 5, 60), Bin(32, 49, 5, 200)))
    reaching = changed(label="files", lengths=(Bin(32, 63, 5, 200),))
    unknown = changed(label="files", lengths=())
    warning = "only git has documents of half the window or more"
    assert said(sources=(SOURCE, short)) == warning
    assert said(sources=(SOURCE, reaching)) == ""
    assert said(sources=(SOURCE, unknown)) == ""
    assert said(sources=(SOURCE,)) == ""
    assert said(sources=(SOURCE, short), window=None) == ""


# Examples


def test_a_stretch_goes_on_through_masks_and_insertions() -> None:
    """A name is due where a stretch begins: not where only the mask ends, and again where attention starts anew."""
    found = placed(
        [
            segment(inserted=True),
            segment(start=0, end=10, masked=True),
            segment(start=10, end=20),
            segment(inserted=True, document="", start=None, end=None),
            segment(start=20, end=30),
            segment(start=40, end=50),
            segment(start=50, end=60, boundary=True),
            segment(document="b.py", start=60, end=70),
            segment(inserted=True, boundary=True),
            segment(document="b.py", start=70, end=None),
        ]
    )
    assert [name for _, name in found] == [
        "",
        "a.py, tokens 0 to 30",
        "",
        "",
        "",
        "a.py, tokens 40 to 50",
        "a.py, tokens 50 to 60",
        "b.py, tokens 60 to 70",
        "",
        "b.py",
    ]


def test_long_stretches_are_shortened_and_say_so() -> None:
    """A stretch shows its first and last lines, and how much stands between; nothing is hidden without a word."""
    lines = excerpt(sample(segment("".join(f"line {number}\n" for number in range(30)))), Paint(colour=False))
    assert [line[3:] for line in lines[1:]] == [
        *[f"line {number}" for number in range(6)],
        "… 22 lines not shown …",
        "line 28",
        "line 29",
    ]
    assert len(excerpt(sample(segment("x\n" * 9)), Paint(colour=False))) == 10
    cut = excerpt(sample(segment("head\n" * 7, omitted=1400, tail="a\nb\nc")), Paint(colour=False))
    assert [line[3:] for line in cut[-4:]] == ["head", "… 1,400 tokens and 2 lines not shown …", "b", "c"]
    assert excerpt(sample(segment("", tokens=3)), Paint(colour=False))[1:] == [" │ (3 tokens without text)"]


def test_many_pieces_are_shortened_and_say_so() -> None:
    """An example of many pieces shows the first and the last, and counts the others with their tokens."""
    parts = [segment(f"piece {number}", document=f"{number}.py", tokens=7) for number in range(40)]
    text = "\n".join(excerpt(sample(*parts), Paint(colour=False)))
    assert "… 29 more pieces with 203 tokens not shown …" in text
    assert [f"piece {number}" in text for number in (0, 8, 9, 37, 38, 39)] == [True, True, False, False, True, True]
    assert "not shown" not in "\n".join(excerpt(sample(*parts[:12]), Paint(colour=False)))


def test_marks_tell_the_four_kinds_apart() -> None:
    """Trained or masked, of a document or inserted: each has marks of its own, and a colour that adds nothing else."""
    kinds = [segment(str(place), inserted=place > 1, masked=place % 2 == 1) for place in range(4)]
    lines = excerpt(sample(*kinds), Paint(colour=False))
    assert [line for line in lines if not line.startswith("─")] == [" │ 0", " ░ 1", "+│ 2", "+░ 3"]
    coloured = excerpt(sample(*kinds), Paint(colour=True))
    assert [re.sub(r"\x1b\[[\d;]*m", "", line) for line in coloured] == lines
    assert [line for line in coloured if line.endswith("0m") and "─" not in line] == [
        " ░ \x1b[2;3m1\x1b[0m",
        "+│ \x1b[36m2\x1b[0m",
        "+░ \x1b[36m3\x1b[0m",
    ]


def test_the_examples_picked_show_the_most() -> None:
    """First the example with the most to see, then one of another source or difficulty."""
    plain, rich = sample(segment()), sample(segment(masked=True), segment(inserted=True), row=2)
    twin, other = sample(segment(masked=True), row=3), sample(segment(), source="files", row=4)
    assert pick([plain, twin, rich, other], 2) == [rich, other]
    assert pick([plain, twin, rich], 2) == [rich, twin]
    assert pick([plain], 2) == [plain]
    assert pick([], 2) == []


def test_titles_say_what_is_known() -> None:
    """What an example does not say is left out of its title."""
    assert title(sample(difficulty="very_hard")) == "train row 1, 10 tokens, source git, very hard"
    assert title(Sample("", None, None, "", "", ())) == "some"
