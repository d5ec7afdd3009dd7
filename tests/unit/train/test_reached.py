"""What the recipe asks of each part of the mix and what is trained, by hand: documents of 19 letters have 20 tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ctxkit.recipe import LengthBand
from tests.unit.train.builders import Texts, prepare, section

pytestmark = pytest.mark.torch

BANDS = (LengthBand(least=0, share=40), LengthBand(least=50, share=60))
WHOLE = "the last chunk is used whole"


def texts(count: int, letters: int = 19, **more: object) -> Texts:
    """So many documents of a length."""
    return Texts(lengths=(letters,) * count, **more)


def mix(folder: Path, *sources: Texts, **more: object) -> dict[str, Any]:
    """Return the account of the mix."""
    made = prepare(section(*sources, length=100, **more), folder).manifest
    trained = [ledger["tokens_trained"] for ledger in made["sources"]]
    assert [part["tokens"] for part in made["mix"]["sources"]] == trained
    assert made["mix"]["tokens"] == sum(trained) == made["train"]["tokens_trained"]
    if made["mix"]["length_bands"]:
        assert sum(part["tokens"] for part in made["mix"]["length_bands"]) == sum(trained)
    return made["mix"]


def rows(parts: list[dict[str, Any]]) -> list[tuple[object, ...]]:
    """Return parts without their names, shares in whole percent."""
    return [
        (
            part["asked_tokens"],
            None if part["asked_share"] is None else round(100 * part["asked_share"]),
            part["tokens"],
            round(100 * part["share"]),
            part["why"],
        )
        for part in parts
    ]


def test_weights_of_a_budget_are_met(tmp_path: Path) -> None:
    """3 to 1 of 400 tokens: 300 and 100, both met exactly, and nothing to explain."""
    found = mix(tmp_path, texts(50, weight=3), texts(50, weight=1), max_tokens=400)
    assert rows(found["sources"]) == [(300, 75, 300, 75, ""), (100, 25, 100, 25, "")]
    assert (found["asked_tokens"], found["tokens"], found["why"]) == (400, 400, "")
    assert [part["name"] for part in found["sources"]] == ["texts (1)", "texts (2)"]
    assert found["length_bands"] == []


def test_source_that_has_no_more_keeps_the_others_back(tmp_path: Path) -> None:
    """Of 4,000 tokens half each is asked; one source has 100, so the other gives 100 too."""
    found = mix(tmp_path, texts(500, weight=1), texts(5, weight=1), max_tokens=4000)
    why = "texts (2) has no more"
    assert rows(found["sources"]) == [
        (2000, 50, 100, 50, f"in proportion, up to a whole chunk: {why}"),
        (2000, 50, 100, 50, why),
    ]
    assert (found["asked_tokens"], found["tokens"], found["why"]) == (4000, 200, why)


def test_weights_without_a_budget_ask_for_the_largest_mix(tmp_path: Path) -> None:
    """What there is least of decides how large the mix is, and is named though it is met."""
    found = mix(tmp_path, texts(50, weight=3), texts(5, weight=1))
    assert rows(found["sources"]) == [(300, 75, 300, 75, ""), (100, 25, 100, 25, "texts (2) has no more")]
    assert (found["asked_tokens"], found["why"]) == (None, "")


def test_max_tokens_of_a_weighted_source(tmp_path: Path) -> None:
    """A source that may give no more says so, rather than that it had no more."""
    found = mix(tmp_path, texts(50, weight=1), texts(50, weight=1, max_tokens=60), max_tokens=400)
    why = "max_tokens of texts (2) allows no more"
    assert rows(found["sources"]) == [
        (200, 50, 60, 50, f"in proportion, up to a whole chunk: {why}"),
        (200, 50, 60, 50, why),
    ]


def test_last_chunk_is_used_whole(tmp_path: Path) -> None:
    """50 of 100 tokens each is two and a half documents: three are trained, and it is said why."""
    found = mix(tmp_path, texts(50, weight=1), texts(50, weight=1), max_tokens=100)
    assert rows(found["sources"]) == [(50, 50, 60, 50, WHOLE)] * 2
    assert (found["asked_tokens"], found["tokens"], found["why"]) == (100, 120, WHOLE)


@pytest.mark.parametrize("limit", [1, 59, 60, 61])
def test_max_tokens_of_a_source_holds_to_one_chunk(limit: int, tmp_path: Path) -> None:
    """Without weights: the chunk that reaches it is the last, and is used whole."""
    found = mix(tmp_path, texts(50, max_tokens=limit))
    tokens = -(-limit // 20) * 20
    assert rows(found["sources"]) == [(limit, None, tokens, 100, WHOLE if tokens > limit else "")]


def test_sources_in_order(tmp_path: Path) -> None:
    """One is used up, one gives what it may, one is cut short by the budget of all, one is not needed."""
    sources = [texts(5, max_tokens=200), texts(50, max_tokens=60), texts(50), texts(50, max_tokens=40)]
    found = mix(tmp_path, *sources, max_tokens=300)
    assert rows(found["sources"]) == [
        (200, None, 100, 33, "there is no more"),
        (60, None, 60, 20, ""),
        (None, None, 140, 47, "data.max_tokens is reached"),
        (40, None, 0, 0, "data.max_tokens is reached"),
    ]


def test_less_than_the_budget(tmp_path: Path) -> None:
    """Sources that give less than `data.max_tokens` all together."""
    found = mix(tmp_path, texts(5), texts(5), max_tokens=300)
    assert rows(found["sources"]) == [(None, None, 100, 50, "")] * 2
    assert found["why"] == "there is no more"


def test_length_bands(tmp_path: Path) -> None:
    """40 % short and 60 % long of 1,000 tokens; with three long documents it is 500, and it is said which are few."""
    found = mix(tmp_path, Texts(lengths=(19,) * 200 + (99,) * 50), length_bands=BANDS, max_tokens=1000)
    assert rows(found["length_bands"]) == [(400, 40, 400, 40, ""), (600, 60, 600, 60, "")]
    assert [part["name"] for part in found["length_bands"]] == [
        "documents of 0 to 49 tokens",
        "documents of 50 or more tokens",
    ]
    few = mix(tmp_path / "few", Texts(lengths=(19,) * 200 + (99,) * 3), length_bands=BANDS, max_tokens=1000)
    why = "there are no more documents of 50 or more tokens"
    assert rows(few["length_bands"]) == [
        (400, 40, 200, 40, f"in proportion, up to a whole chunk: {why}"),
        (600, 60, 300, 60, why),
    ]
    assert few["why"] == why
    assert rows(few["sources"]) == [(None, None, 500, 100, "the mix of lengths takes no more")]


def test_weights_and_length_bands(tmp_path: Path) -> None:
    """Four cells; the scarce one, long documents of the second source, is named for its source and its lengths."""
    sources = [
        Texts(lengths=(19,) * 200 + (99,) * 50, weight=1),
        Texts(lengths=(19,) * 200 + (99,) * 3, weight=1),
    ]
    found = mix(tmp_path, *sources, length_bands=BANDS)
    why = "texts (2) has no more documents of 50 or more tokens"
    assert rows(found["sources"]) == [(500, 50, 500, 50, ""), (500, 50, 500, 50, why)]
    assert rows(found["length_bands"]) == [(400, 40, 400, 40, ""), (600, 60, 600, 60, why)]


def test_overlap_is_not_counted(tmp_path: Path) -> None:
    """Trained tokens are asked for, and masked ones are none of them."""
    found = mix(tmp_path, Texts(lengths=(9999,)), max_tokens=1000, overlap=50)
    assert rows(found["sources"]) == [(None, None, 1000, 100, "data.max_tokens is reached")]


CAPPED = "max_tokens of texts allows no more"


@pytest.mark.parametrize(
    ("weight", "bands", "why"),
    [
        (None, (), CAPPED),
        (1, (), CAPPED),
        (None, (LengthBand(least=0, share=1),), f"{CAPPED} documents of 0 or more tokens"),
    ],
    ids=["nothing is mixed", "one weight", "one class of length"],
)
def test_max_tokens_of_the_only_source(
    weight: int | None, bands: tuple[LengthBand, ...], why: str, tmp_path: Path
) -> None:
    """A source of 1,000 tokens that may give 60 has more: its limit is named, in whatever way 400 are asked."""
    found = mix(tmp_path, texts(50, weight=weight, max_tokens=60), max_tokens=400, length_bands=bands)
    assert (found["asked_tokens"], found["tokens"], found["why"]) == (400, 60, why)
    assert rows(found["sources"]) == [(60, None, 60, 100, "") if weight is None else (400, 100, 60, 100, why)]
    assert rows(found["length_bands"]) == [(400, 100, 60, 100, why)] * len(bands)


def test_one_source_at_its_limit_and_one_at_its_end(tmp_path: Path) -> None:
    """In order: the first may give no more, the second has no more, and both are said."""
    found = mix(tmp_path, texts(50, max_tokens=60), texts(3), max_tokens=4000)
    assert found["why"] == "max_tokens of texts (1) allows no more, and the others have no more"
    assert rows(found["sources"]) == [(60, None, 60, 50, ""), (None, None, 60, 50, "")]


def test_halves_of_an_odd_budget(tmp_path: Path) -> None:
    """1,001 tokens by halves are 501 and 500; no source has a limit, so none is named."""
    found = mix(tmp_path, texts(100, weight=1), texts(100, weight=1), max_tokens=1001)
    assert rows(found["sources"]) == [(501, 50, 520, 51, WHOLE), (500, 50, 500, 49, "")]
    assert (found["asked_tokens"], found["tokens"], found["why"]) == (1001, 1020, WHOLE)


def test_shares_of_lengths_of_an_odd_budget(tmp_path: Path) -> None:
    """501 tokens as 40 to 60 are 200 and 301; there is enough of both."""
    found = mix(tmp_path, Texts(lengths=(19,) * 200 + (99,) * 50), max_tokens=501, length_bands=BANDS)
    assert rows(found["length_bands"]) == [(200, 40, 200, 33, ""), (301, 60, 400, 67, WHOLE)]
    assert found["why"] == WHOLE
    assert rows(found["sources"]) == [(None, None, 600, 100, "data.max_tokens is reached")]


def test_limit_of_a_source_that_was_read_to_its_end(tmp_path: Path) -> None:
    """Of 4,000 short tokens a source may give 160; it was read on for long ones, of which it has too few."""
    sources = [Texts(lengths=(19,) * 200 + (99,), max_tokens=400), Texts(lengths=(99,) * 50)]
    found = mix(tmp_path, *sources, length_bands=BANDS)
    why = "max_tokens of texts (1) allows no more documents of 0 to 49 tokens, and the others have no more"
    assert rows(found["length_bands"]) == [(160, 40, 160, 35, why), (240, 60, 300, 65, WHOLE)]
    assert rows(found["sources"]) == [
        (400, None, 260, 57, "there are no more documents of 50 or more tokens"),
        (None, None, 200, 43, "the mix of lengths takes no more"),
    ]
