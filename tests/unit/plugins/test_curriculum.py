"""Phases, a growing window and a changing mixture, against orders and figures worked out by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from ctxkit.errors import DataError
from ctxkit.spec import Context, Phase, RowTable, TrainingPlan
from ctxkit_curriculum import GrowOptions, MixtureOptions, PhasesOptions
from ctxkit_curriculum.grow import growth
from ctxkit_curriculum.passes import passes


def table(lengths: Sequence[int], difficulty: Sequence[str] = (), documents: Sequence[int] = ()) -> RowTable:
    """Return rows of so many tokens; all easy, and of one document each, unless stated."""
    return RowTable(
        np.array(lengths), np.array(documents or lengths), np.zeros(len(lengths), dtype=np.int64),
        np.array(difficulty or ["easy"] * len(lengths)),
    )  # fmt: skip


def phases(rows: RowTable, *stated: dict[str, Any], rows_per_step: int = 1, seed: int = 0, **more: Any) -> list[Phase]:
    """Return what the curriculum `phases` makes of rows."""
    named = [{"name": f"p{number}", **phase} for number, phase in enumerate(stated)]
    options = PhasesOptions(kind="phases", phases=named, **more)
    return list(options.build(Context(seed=seed))(rows, TrainingPlan(rows_per_step)))


LENGTHS = [600, 900, 1024, 1025, 1535, 1536, 2048, 2049, 4000]
SEED_002 = (
    {"epochs": 5, "most": 1024},
    {"epochs": 8, "least": 1536, "most": 2048, "learning_rate": 0.5},
    {"epochs": 8, "least": 3072, "most": 4096, "learning_rate": 0.1},
)


def test_later_phases_keep_short_rows() -> None:
    """No length between the ranges vanishes: what is shorter than a phase is trained in it as well."""
    made = phases(table(LENGTHS), *SEED_002)
    served = {
        name: sorted({row for phase in made if phase.name == name for row in phase.order})
        for name in ("p0", "p1", "p2")
    }
    assert served == {"p0": [0, 1, 2], "p1": [0, 1, 2, 3, 4, 5, 6], "p2": list(range(9))}
    assert [(phase.name, phase.epoch, phase.learning_rate) for phase in made] == [
        *(("p0", epoch, 1.0) for epoch in range(1, 6)),
        *(("p1", epoch, 0.5) for epoch in range(1, 9)),
        *(("p2", epoch, 0.1) for epoch in range(1, 9)),
    ]
    # One row a step: each pass has each row once.
    assert all(Counter(phase.order) == Counter(sorted(set(phase.order))) for phase in made)
    assert len({tuple(phase.order) for phase in made if phase.name == "p1"}) == 8


def test_rows_between_the_ranges_are_an_error_or_allowed() -> None:
    """Without shorter rows, those that fit no phase are counted with their lengths, and refused unless allowed."""
    strict = [{**phase, "keep_shorter": False} for phase in SEED_002]
    with pytest.raises(DataError, match=r"3 of 9 rows, of 1,025 to 2,049 tokens, fit no phase"):
        phases(table(LENGTHS), *strict)
    made = phases(table(LENGTHS), *strict, allow_unused=True)
    assert {row for phase in made for row in phase.order} == {0, 1, 2, 5, 6, 8}


def test_difficulty_chooses_own_rows_and_not_the_kept_ones() -> None:
    """Groups choose among the rows of a phase; shorter rows are kept whatever their group."""
    rows = table([10, 20, 30, 40], ["easy", "hard", "easy", "hard"])
    (phase,) = phases(rows, {"epochs": 1, "least": 20, "difficulty": ["hard", "very_hard"]}, allow_unused=True)
    assert sorted(phase.order) == [0, 1, 3]


def test_passes_end_with_whole_steps_and_nothing_is_cut() -> None:
    """5 rows, 3 passes, 4 rows a step: 15 rows end in step 4, whose last place another pass fills."""
    made = phases(table([9] * 5), {"epochs": 3}, rows_per_step=4)
    assert [len(phase.order) for phase in made] == [8, 4, 4]  # ceil(5/4), ceil(10/4), ceil(15/4) = 2, 3, 4 steps
    counts = Counter(row for phase in made for row in phase.order.tolist())
    assert sorted(counts.values()) == [3, 3, 3, 3, 4]


def test_fewer_rows_than_a_step() -> None:
    """A pass within a step that another has begun has no line of its own."""
    made = phases(table([9] * 2), {"epochs": 3}, rows_per_step=4)
    assert [(phase.epoch, len(phase.order)) for phase in made] == [(1, 4), (3, 4)]
    assert set(Counter(np.concatenate([phase.order for phase in made]).tolist()).values()) == {4}


def test_steps_instead_of_epochs() -> None:
    """So many steps, whatever the rows come to."""
    (phase,) = phases(table([9] * 3), {"steps": 5}, rows_per_step=2)
    assert sorted(Counter(phase.order.tolist()).values()) == [3, 3, 4]


def test_optional_phase_is_skipped_without_rows_of_its_own() -> None:
    """Rows that would only be kept do not make a phase; one that is not optional is an error then."""
    rows = table([10, 20])
    said: list[tuple[str, str]] = []
    stated = [{"name": "p0", "epochs": 1}, {"name": "p1", "epochs": 1, "least": 30, "optional": True}]
    context = Context(skipped=lambda name, reason: said.append((name, reason)))
    made = PhasesOptions(kind="phases", phases=stated).build(context)(rows, TrainingPlan(1))
    assert {phase.name for phase in made} == {"p0"}
    assert said == [("phase p1", "no row of 30 tokens or more")]
    with pytest.raises(DataError, match=r"phase p1 of the curriculum has no row of 30 tokens or more"):
        phases(rows, {"epochs": 1}, {"epochs": 1, "least": 30})


def test_order_depends_on_the_seed_alone() -> None:
    """The same seed gives the same order, another another."""
    orders = [phases(table([9] * 50), {"epochs": 1}, seed=seed)[0].order.tolist() for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    assert passes(np.arange(3), 0, (0,)).tolist() == []


def test_length_of_documents() -> None:
    """`by: document` measures the longest document, whole, of which a row has a part."""
    rows = table([64, 64, 64], documents=[30, 64, 500])
    (phase,) = phases(rows, {"epochs": 1, "most": 64}, by="document", allow_unused=True)
    assert sorted(phase.order) == [0, 1]


@pytest.mark.parametrize(
    ("phase", "message"),
    [
        ({}, "exactly one of epochs and steps"),
        ({"epochs": 1, "steps": 1}, "exactly one of epochs and steps"),
        ({"epochs": 1, "least": 9, "most": 8}, "`most` of at least `least`"),
        ({"epochs": 1, "learning_rate": 0}, "greater than 0"),
        ({"epochs": 1, "difficulty": ["harder"]}, "easy"),
    ],
)
def test_impossible_phase(phase: dict[str, Any], message: str) -> None:
    """What a phase cannot be is refused with the reason."""
    with pytest.raises(ValidationError, match=message):
        PhasesOptions(kind="phases", phases=[{"name": "p", **phase}])


def test_impossible_list_of_phases() -> None:
    """Names differ."""
    with pytest.raises(ValidationError, match="names of their own"):
        phases(table([1]), {"name": "a", "epochs": 1}, {"name": "a", "epochs": 1})


def windows(**stated: Any) -> list[int]:
    """Return the window of each of 10 steps over rows of up to 1,024 tokens."""
    options = GrowOptions(kind="grow", **{"start": 64, "share": 0.8, **stated})
    made = options.build(Context())(table([1024, 100, 7]), TrainingPlan(2, steps=10))
    assert sum(len(phase.order) for phase in made) == 20
    return [phase.window or 0 for phase in made for _ in range(len(phase.order) // 2)]


def test_window_grows_by_each_rule() -> None:
    """The lengths of ten steps by hand: growth over eight of them, rounded down to 64 tokens."""
    assert windows() == [64, 128, 256, 384, 512, 640, 768, 896, 1024, 1024]  # 64 + 120 a step
    assert windows(rule="sqrt") == [64, 384, 512, 640, 704, 768, 832, 960, 1024, 1024]  # 64 + 960 sqrt(n/8)
    assert windows(rule="exponential") == [64, 64, 128, 128, 256, 320, 512, 704, 1024, 1024]  # 64 * 2^(n/2)
    assert windows(rule="steps") == [64, 64, 128, 128, 256, 256, 512, 512, 1024, 1024]
    assert windows(end=512, multiple=1, start=100)[:3] == [100, 151, 203]
    assert windows(share=0.01) == [64, *[1024] * 9]


@pytest.mark.parametrize("rule", ["linear", "sqrt", "exponential", "steps"])
def test_growth_has_both_ends(rule: str) -> None:
    """Every rule begins at the start, ends at the end, and never shrinks."""
    made = [growth(rule, 100, 1000, part / 99) for part in range(100)]
    assert (made[0], made[-1]) == (100, pytest.approx(1000))
    assert made == sorted(made)


def test_windows_of_one_doubling_share_a_line() -> None:
    """Phases of the metrics are doublings of the window."""
    options = GrowOptions(kind="grow", start=64, multiple=32)
    made = options.build(Context())(table([512]), TrainingPlan(1, steps=40))
    assert list(dict.fromkeys(phase.name for phase in made)) == [
        "window 64 to 127", "window 128 to 255", "window 256 to 511", "window 512 to 1023",
    ]  # fmt: skip


def test_epochs_of_the_training_count_for_a_window() -> None:
    """Without `max_steps`, so many passes: 5 rows, 2 epochs, 4 rows a step are 3 steps."""
    made = GrowOptions(kind="grow", start=8).build(Context())(table([9] * 5), TrainingPlan(4, None, 2.0))
    assert sum(len(phase.order) for phase in made) == 12


def mixture(rows: RowTable, points: list[tuple[float, tuple[float, ...]]], steps: int, **more: Any) -> list[Phase]:
    """Return what the curriculum `mixture` makes of rows, in bands up to and from 100 tokens."""
    stated = [{"at": at, "shares": shares} for at, shares in points]
    options = MixtureOptions(kind="mixture", bands=(0, 100), points=stated, **more)
    return list(options.build(Context(seed=1))(rows, TrainingPlan(2, steps=steps)))


def test_mixture_keeps_its_shares_of_the_tokens() -> None:
    """At every step the tokens of a band are within one row of its share."""
    rows = table([10] * 40 + [100] * 4)
    (phase,) = mixture(rows, [(0.0, (1, 3))], steps=200)
    tokens = rows.lengths[phase.order]
    long = np.cumsum(np.where(tokens == 100, tokens, 0))
    assert np.abs(long - 0.75 * np.cumsum(tokens)).max() <= 100


def test_mixture_changes_linearly() -> None:
    """From all short to all long: of equal rows, the n-th hundredth has n hundredths long ones."""
    rows = table([100] * 50, documents=[50] * 25 + [200] * 25)
    first, second = mixture(rows, [(0.0, (1, 0)), (0.5, (0, 1))], steps=1000)
    assert (first.name, second.name) == ("0% to 50%", "50% to 100%")
    assert (len(first.order), len(second.order)) == (1000, 1000)
    long = first.order >= 25
    assert long[:250].sum() == pytest.approx(31, abs=2)  # the integral of n/1000 up to 250
    assert long.sum() == pytest.approx(500, abs=2)
    assert (second.order >= 25).all()
    # Pass after pass: each row comes equally often, but for a pass that the first half began and one that is begun.
    counts = Counter(second.order.tolist()).values()
    assert max(counts) - min(counts) <= 2


def test_mixture_refuses_a_band_that_cannot_be() -> None:
    """A share without rows, and rows without a share, are said."""
    with pytest.raises(DataError, match="band from 100 tokens has a share of the curriculum and no rows"):
        mixture(table([10, 10]), [(0.0, (1, 1))], steps=1)
    with pytest.raises(DataError, match="band from 0 tokens has 1 rows and no share"):
        mixture(table([10, 100]), [(0.0, (0, 1))], steps=1)
    (phase,) = mixture(table([10, 100]), [(0.0, (0, 1))], steps=1, allow_unused=True)
    assert set(phase.order.tolist()) == {1}
    served = mixture(table([10, 10]), [(0.0, (1, 1)), (0.5, (0, 1))], steps=4, skip_empty=True)
    assert {row for phase in served for row in phase.order.tolist()} == {0, 1}


@pytest.mark.parametrize(
    "options",
    [
        PhasesOptions(kind="phases", phases=[{"name": "a", "epochs": 1, "most": 9}, {"name": "b", "epochs": 1}]),
        MixtureOptions(
            kind="mixture", bands=(0, 100), points=[{"at": 0, "shares": (1, 0)}, {"at": 1, "shares": (0, 1)}]
        ),
        GrowOptions(kind="grow", start=64),
    ],
)
def test_rehearsal_needs_no_row_of_every_length(options: PhasesOptions | MixtureOptions | GrowOptions) -> None:
    """With what a rehearsal lays over it, a curriculum takes rows of any lengths."""
    values = options.model_dump(mode="json")
    for path, value in options.rehearsed().items():
        *parents, last = path.split(".")
        place: Any = values
        for part in parents:
            place = place[int(part) if part.isdigit() else part]
        place[last] = value
    small = type(options).model_validate(values)
    for lengths in ([50], [200], [50, 200]):
        assert small.build(Context())(table(lengths), TrainingPlan(2, steps=3))


@pytest.mark.parametrize(
    ("bands", "points", "message"),
    [
        ([1], [{"at": 0, "shares": [1]}], "bands from 0 upwards"),
        ([0], [{"at": 0.5, "shares": [1]}], "points from `at: 0` upwards"),
        ([0], [{"at": 0, "shares": [1, 2]}], "points with 1 shares"),
        ([0], [{"at": 0, "shares": [0]}], "one above 0"),
    ],
)
def test_impossible_mixture(bands: list[int], points: list[dict[str, Any]], message: str) -> None:
    """What a mixture cannot be is refused with the reason."""
    with pytest.raises(ValidationError, match=message):
        MixtureOptions(kind="mixture", bands=bands, points=points)
