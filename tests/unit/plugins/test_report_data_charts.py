"""The charts of prepared data hold the counts of its ledger."""

from __future__ import annotations

from ctxkit_report.data_charts import ledger_chart, length_charts
from ctxkit_report.plots import draw
from ctxkit_report.prepared import Bin, Prepared, Source, Split

SOURCE = Source(
    "files",
    "files",
    read=100,
    trained=60,
    masked=5,
    dropped={"short": 20, "twice": 10},
    unused=5,
    evaluation=0,
    lengths=(Bin(16, 31, 2, 40), Bin(64, 127, 1, 60)),
)
SETS = (Prepared("k", ("base", "yarn"), sources=(SOURCE,), train=Split(lengths=(Bin(64, 127, 1, 65),))),)


def test_tokens_of_a_source_are_stacked() -> None:
    """Reasons for which tokens were dropped stand together; what there is none of has no colour."""
    chart = ledger_chart(SETS)
    assert chart is not None
    assert chart.categories == ("files (base, yarn)",)
    assert {bars.label: bars.values for bars in chart.bars} == {
        "trained": (60,),
        "masked: read, not trained": (5,),
        "dropped": (30,),
        "unused": (5,),
    }
    assert ledger_chart(()) is None


def test_lengths_are_shares_of_the_tokens() -> None:
    """Of documents 40 and 60 of 100 tokens, with an empty bin between them; the least of a bin stands below it."""
    (chart,) = length_charts(SETS)
    assert {bars.label: bars.values for bars in chart.bars} == {
        "documents": (40.0, 0.0, 60.0),
        "rows": (0.0, 0.0, 100.0),
    }
    axis = draw(chart).spec["layout"]["xaxis"]
    assert (axis["tickvals"], axis["ticktext"]) == (["16-31", "32-63", "64-127"], ["16", "32", "64"])
