"""A figure shows the values it was given, in the drawing, in words and in its table, whatever they are."""

from __future__ import annotations

import math
from typing import Any

from ctxkit.spec import Measurement
from ctxkit_report.figures import BarChart, Bars, HeatChart, LineChart, Marker, Point, Series
from ctxkit_report.gallery import embedded, policy
from ctxkit_report.notation import NONE, SPACE
from ctxkit_report.plots import draw

LENGTHS = (128, 256, 512, 1024)
WINDOWS = (Marker(128, "original"), Marker(512, "extended"))


def chart(**changes: Any) -> LineChart:
    """Return a chart of two lines with intervals."""
    lines = (("base", "before", (5.0, 6.0, 8.0, 9.0)), ("yarn", "extended", (5.0, 4.5, 4.0, 6.0)))
    series = tuple(
        Series(name, style, tuple(Point(x, y, y - 0.5, y + 1, 32) for x, y in zip(LENGTHS, values, strict=True)))
        for name, style, values in lines
    )
    given: dict[str, Any] = {"series": series, "axis": "length", "markers": WINDOWS}
    return LineChart("Perplexity", "context length (tokens)", "perplexity", **{**given, **changes})


def test_values_and_intervals_are_those_given() -> None:
    """Of each line: its values, the distances to its bounds, and a colour of the style sheet."""
    base, yarn = draw(chart()).spec["data"]
    assert base["y"] == [5.0, 6.0, 8.0, 9.0]
    assert base["error_y"]["array"] == [1.0] * 4
    assert base["error_y"]["arrayminus"] == [0.5] * 4
    assert (base["line"]["color"], yarn["line"]["color"]) == ("var(--before)", "var(--extended)")
    assert base["marker"]["symbol"] != yarn["marker"]["symbol"]
    assert yarn["hovertext"][2] == f"yarn, 512 tokens: 4.00{SPACE}[3.50,{SPACE}5.00], n{SPACE}={SPACE}32"


def test_lines_stand_at_their_lengths_side_by_side() -> None:
    """Intervals at one length do not cover one another; the ticks are the lengths themselves."""
    spec = draw(chart()).spec
    base, yarn = (trace["x"] for trace in spec["data"])
    assert all(left < length < right < 1.05 * left for left, length, right in zip(base, LENGTHS, yarn, strict=True))
    assert spec["layout"]["xaxis"]["tickvals"] == list(LENGTHS)
    assert spec["layout"]["xaxis"]["type"] == "log"


def test_windows_stand_at_their_lengths() -> None:
    """A line takes a length, its label the logarithm: so plotly wants it on a log axis."""
    layout = draw(chart()).spec["layout"]
    assert [shape["x0"] for shape in layout["shapes"]] == [128, 512]
    assert [round(10 ** note["x"]) for note in layout["annotations"]] == [128, 512]


def test_the_table_holds_every_value() -> None:
    """In the words of the chart, with interval and count; a column that says nothing is left out."""
    figure = draw(chart())
    assert len(figure.rows) == 8
    assert figure.rows[6] == ("yarn", "512", "4.00", f"[3.50,{SPACE}5.00]", "32")
    plain = Series("loss", "extended", (Point(10, 2.0), Point(20, 1.0)))
    assert draw(chart(series=(plain,), axis="linear")).head == ("Line", "context length (tokens)", "perplexity")


def test_a_screen_reader_is_told_where_each_line_ends() -> None:
    """The words of a line chart."""
    spoken = draw(chart()).spoken
    assert spoken.startswith("Perplexity, perplexity against context length (tokens)")
    assert spoken.endswith("base ends at 9.00; yarn ends at 6.00")


def test_values_that_differ_a_lot_are_drawn_on_a_log_axis() -> None:
    """From a ratio of 12 on; never where a value is 0, nor a rate that falls towards 0."""
    wide = (Series("base", "before", (Point(128, 5.0), Point(512, 600.0))),)
    zero = (Series("base", "before", (Point(128, 0.0), Point(512, 600.0))),)
    assert draw(chart(series=wide)).spec["layout"]["yaxis"]["type"] == "log"
    assert "type" not in draw(chart(series=zero)).spec["layout"]["yaxis"]
    assert "type" not in draw(chart(series=wide, axis="linear")).spec["layout"]["yaxis"]
    assert draw(chart(series=wide, axis="linear", ratios=True)).spec["layout"]["yaxis"]["type"] == "log"


def test_what_is_not_finite_is_left_out_of_the_drawing() -> None:
    """And written in the table: JSON knows no infinity."""
    figure = draw(chart(series=(Series("base", "before", (Point(128, math.inf, 9.0, math.inf, 3), Point(256, 5.0))),)))
    assert figure.spec["data"][0]["y"] == [None, 5.0]
    assert figure.spec["data"][0]["error_y"]["array"] == [0.0, 0.0]
    assert figure.rows[0][2] == "∞"


def test_long_curves_have_short_tables_that_keep_the_last_value() -> None:
    """At most 40 rows a line."""
    curve = Series("loss", "extended", tuple(Point(step, 1 / (step + 1)) for step in range(600)))
    rows = draw(chart(series=(curve,), axis="linear")).rows
    assert len(rows) <= 40
    assert rows[-1][1] == "599"


def heat() -> HeatChart:
    """Return a heatmap of two lengths and two depths, one cell of which was not measured."""
    cells = [Measurement("accuracy", length, 0.5, 0.3, 0.7, 20, depth) for length in (512, 128) for depth in (1.0, 0.0)]
    pooled = Measurement("accuracy", 128, 0.75, 0.6, 0.9, 40)
    return HeatChart("Before: base", (*cells[:-1], pooled), (Marker(128, "original"), Marker(512, "extended")))


def test_cells_stand_at_their_length_and_depth() -> None:
    """Lengths across, depths down, all depths last; a cell that was not measured is empty."""
    figure = draw(heat())
    trace = figure.spec["data"][0]
    assert (trace["x"], trace["y"]) == (["128", "512"], ["0", "100", "all"])
    assert trace["z"] == [[None, 0.5], [0.5, 0.5], [0.75, None]]
    texts = {(note["x"], note["y"]): note["text"] for note in figure.spec["layout"]["annotations"]}
    assert texts == {(0, 0): NONE, (1, 0): "50", (0, 1): "50", (1, 1): "50", (0, 2): "75", (1, 2): NONE}
    assert trace["hovertext"][0] == [
        "not measured",
        f"512 tokens, depth 0{SPACE}%: 50{SPACE}%{SPACE}[30,{SPACE}70], n{SPACE}={SPACE}20",
    ]
    assert figure.spoken == f"Before: base: 75{SPACE}% at 128 tokens"
    assert len(figure.rows) == 4


def test_a_border_stands_between_the_lengths_within_a_window_and_the_others() -> None:
    """Categories count from 0, so behind the first column is 0.5; behind the last one stands none."""
    assert [shape["x0"] for shape in draw(heat()).spec["layout"]["shapes"]] == [0.5]


def test_bars_lie_where_they_are_stacked() -> None:
    """The names then stand at the left."""
    bars = (Bars("trained", "extended", (10, 5)), Bars("dropped", "control", (0, 7)))
    figure = draw(BarChart("Tokens", ("code", "books"), bars, "source", "tokens", stacked=True))
    assert figure.spec["data"][0]["x"] == [10, 5]
    assert figure.spec["data"][0]["y"] == ["code", "books"]
    assert figure.rows == (("code", "10", "0"), ("books", "5", "7"))
    assert figure.spoken == "Tokens: trained 15, dropped 7"


def test_hostile_names_stay_text() -> None:
    """Plotly takes tags in labels for markup, and a browser takes `</script>` for the end of the data."""
    bad = "</script><script>alert(1)</script><b>&amp;"
    spec = draw(chart(series=(Series(bad, "before", (Point(128, 1.0),)),))).spec
    assert spec["data"][0]["name"].startswith("&lt;/script&gt;&lt;script")
    assert "<" not in spec["data"][0]["hovertext"][0]
    assert "<" not in embedded({bad: spec})


def test_only_the_scripts_of_the_page_may_run() -> None:
    """The hash of the empty script is that of FIPS 180-4's empty message; without scripts none may run."""
    assert "script-src 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='" in policy([""])
    assert "script-src 'none'" in policy([])
