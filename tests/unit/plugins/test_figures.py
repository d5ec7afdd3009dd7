"""The figures are well-formed, readable and true to the numbers."""

from __future__ import annotations

import math
from itertools import pairwise
from xml.etree.ElementTree import Element, fromstring

import pytest

from ctxkit.spec import Measurement
from ctxkit_report.figures import LineChart, Marker, Point, Series, heat_scale, heatmap, line_chart
from ctxkit_report.notation import compact, duration, estimate, number, rope, tokens
from ctxkit_report.scales import length_scale, nice_ticks, value_scale
from ctxkit_report.svg import clean

HOSTILE = '</text><script>alert("1")</script>&\x07'


def drawn(markup: str) -> Element:
    """Parse a picture, which fails where it is not well formed."""
    return fromstring(markup)  # noqa: S314 - our own markup


def cell(length: int, depth: float | None, value: float, count: int = 20) -> Measurement:
    """Return the accuracy of one cell."""
    return Measurement("accuracy", length, value, max(value - 0.1, 0), min(value + 0.1, 1), count, depth)


def texts(picture: Element) -> list[str]:
    """Return every label of a picture."""
    return [element.text or "" for element in picture.iter("text")]


def titles(picture: Element) -> list[str]:
    """Return every tooltip of a picture."""
    return [(element.text or "").replace("\u00a0", " ") for element in picture.iter("title")]


def perplexity(*series: Series) -> LineChart:
    """Return a chart over lengths with markers."""
    markers = (Marker(128, "original"), Marker(512, "extended"), Marker(9999, "outside"))
    return LineChart("Perplexity", "context length", "perplexity", series, "length", markers)


BASE = Series("base", "series before", tuple(Point(x, y, y - 1, y + 1, f"{x}: {y}") for x, y in ((128, 5), (512, 9))))
YARN = Series("yarn", "series extended", (Point(128, 5, 4, 6), Point(256, 4.5), Point(512, 4, 3, 5)))


def test_line_chart_is_well_formed_and_labelled() -> None:
    """A chart parses as XML, has a spoken label, a legend, axis names and a tick for each length."""
    picture = drawn(line_chart(perplexity(BASE, YARN)))
    assert picture.get("role") == "img"
    assert "yarn ends at 4" in str(picture.get("aria-label"))
    assert {"base", "yarn", "128", "256", "512", "context length", "perplexity", "original"} <= set(texts(picture))
    assert "outside" not in texts(picture)


def test_each_interval_is_drawn() -> None:
    """Every point with an interval has a bar and a tooltip."""
    picture = drawn(line_chart(perplexity(BASE, YARN)))
    assert len([path for path in picture.iter("path") if path.get("class") == "whisker"]) == 4
    assert {"128: 5", "512: 9", "yarn: 4.5"} <= set(titles(picture))


def test_series_differ_in_shape_too() -> None:
    """Two series never share a mark, so colour is not the only sign."""
    picture = drawn(line_chart(perplexity(BASE, YARN)))
    groups = {group.get("class"): group for group in picture.iter("g") if group.get("class")}
    shapes = {
        name: {mark.tag for mark in group.iter() if mark.get("class") == "mark"} for name, group in groups.items()
    }
    assert shapes == {"series before": {"circle"}, "series extended": {"polygon"}}


def test_values_that_are_not_finite_are_left_out() -> None:
    """NaN and infinite values draw nothing, and a chart of nothing else says so."""
    odd = Series("odd", "series other-0", (Point(128, math.nan), Point(512, math.inf), Point(0, 1.0)))
    assert "Nothing finite to draw yet" in texts(drawn(line_chart(perplexity(odd))))
    mixed = Series("mixed", "series other-0", (Point(128, 5.0, 4.0, math.inf), *odd.points))
    markup = line_chart(perplexity(mixed))
    assert "nan" not in markup
    assert "inf" not in markup


def test_points_lie_within_the_picture() -> None:
    """No coordinate of a line leaves the picture, whatever the range of the values."""
    for values in ((1e-9, 2e-9), (5.0, 5.0), (1.0, 5000.0), (-3.0, 4.0), (0.0, 0.0)):
        points = tuple(Point(step, value) for step, value in enumerate(values))
        chart = LineChart("loss", "steps", "loss", (Series("base", "series before", points),))
        line = next(drawn(line_chart(chart, 460, 320)).iter("polyline"))
        for place in str(line.get("points")).split():
            x, y = map(float, place.split(","))
            assert 0 <= x <= 460
            assert 0 <= y <= 320


def test_single_point_is_visible() -> None:
    """A stage with one logged step is drawn as a dot."""
    chart = LineChart("loss", "steps", "loss", (Series("base", "series before", (Point(1, 2.0),)),))
    assert len(list(drawn(line_chart(chart)).iter("circle"))) == 1


def test_legend_wraps() -> None:
    """Many or long labels take several rows instead of leaving the picture."""
    series = tuple(Series(f"{place} {'x' * 60}", f"series other-{place % 4}", BASE.points) for place in range(6))
    picture = drawn(line_chart(perplexity(*series), 350, 400))
    rows = {element.get("y") for element in picture.iter("text") if element.get("class") == "legend"}
    assert len(rows) == 6
    assert all(len(text) <= 32 for text in texts(picture))


def test_hostile_labels_stay_text() -> None:
    """Labels that look like markup, or hold what XML cannot, are shown as text."""
    for markup in (
        line_chart(perplexity(Series(HOSTILE, HOSTILE, BASE.points))),
        heatmap(HOSTILE, [cell(128, 0.5, 0.5)], {128: HOSTILE}),
    ):
        drawn(markup)
        assert "<script" not in markup
    assert clean("a\x00b\ud800") == "a\ufffdb\ufffd"


def test_heatmap_prints_each_accuracy() -> None:
    """Every cell shows its percentage, and its tooltip the interval and n."""
    cells = [cell(512, 0.0, 0.35), cell(128, 0.0, 1.0), cell(128, None, 0.9, 100), cell(512, None, 0.4, 100)]
    picture = drawn(heatmap("Passkey of base", cells, {128: "original", 512: "extended"}))
    assert {"35", "100", "90", "40", "all", "0", "128", "512"} <= set(texts(picture))
    assert "512 tokens, depth 0 %: 35 % [25, 45], n = 20" in titles(picture)
    assert "128 tokens, all depths: 90 % [80, 100], n = 100" in titles(picture)
    label = str(picture.get("aria-label")).replace("\u00a0", " ")
    assert label == "Passkey of base: 90 % at 128 tokens, 40 % at 512 tokens"


def test_heatmap_runs_from_short_to_long_and_front_to_end() -> None:
    """Lengths ascend to the right and depths downwards, with the pooled row last."""
    cells = [cell(length, depth, 0.5) for length in (512, 128, 256) for depth in (1.0, None, 0.0, 0.5)]
    picture = drawn(heatmap("Passkey", cells, {}))
    ticks = [element for element in picture.iter("text") if element.get("class") == "tick"]
    rows = [element.text for element in ticks if element.get("text-anchor") == "end"]
    columns = sorted(
        (float(str(element.get("x"))), element.text) for element in ticks if element.get("text-anchor") == "middle"
    )
    assert rows == ["0", "50", "100", "all"]
    assert [text for _, text in columns] == ["128", "256", "512"]


def test_heatmap_tells_missing_from_zero() -> None:
    """A cell that was not measured, or is not a number, has a dash and no colour; zero has the first colour."""
    cells = [cell(128, 0.0, 0.0), cell(256, 0.0, math.nan), cell(128, 1.0, 1.0)]
    picture = drawn(heatmap("Passkey", cells, {}))
    classes = [rect.get("class") for rect in picture.iter("rect")]
    assert classes == ["heat heat-0", "heat heat-none", "heat heat-10", "heat heat-none"]


def test_heatmap_marks_the_windows() -> None:
    """A dashed line stands behind the last length within a window, and only between columns."""
    cells = [cell(length, 0.0, 0.5) for length in (128, 256, 512)]
    picture = drawn(heatmap("Passkey", cells, {128: "original", 512: "extended"}))
    lines = [line for line in picture.iter("line") if line.get("class") == "window"]
    assert [titles(line) for line in lines] == [["original: 128 tokens"]]


def test_wide_heatmap_grows() -> None:
    """Many lengths widen the picture instead of squeezing the numbers."""
    cells = [cell(1024 * place, 0.0, 0.5) for place in range(1, 21)]
    assert float(str(drawn(heatmap("Passkey", cells, {})).get("width"))) > 20 * 30


def test_heat_scale_is_well_formed() -> None:
    """The colour scale has all eleven colours and its ends are labelled."""
    picture = drawn(heat_scale())
    assert len(list(picture.iter("rect"))) == 11
    assert [text.replace("\u00a0", " ") for text in texts(picture)] == ["0 %", "50 %", "100 %"]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (1.57, 6.8), (-3, 7), (0, 1717452), (2.001, 2.002), (5, 5), (0, 0)])
def test_ticks_are_round_and_enclose(low: float, high: float) -> None:
    """Ticks are evenly spaced by 1, 2 or 5 times a power of ten, few, and enclose the range."""
    ticks = nice_ticks(low, high, 5)
    assert ticks[0] <= low
    assert ticks[-1] >= high
    assert 3 <= len(ticks) <= 11
    steps = {f"{after - before:.6e}" for before, after in pairwise(ticks)}
    assert len(steps) == 1
    assert steps.pop()[0] in "125"


def test_axes_suit_their_values() -> None:
    """Lengths are equally far apart when they double, and values far apart get a logarithmic axis."""
    scale = length_scale([128, 256, 512], 0, 400)
    assert scale(256) - scale(128) == pytest.approx(scale(512) - scale(256))
    assert len(length_scale([128 * 2**place for place in range(12)], 0, 200).ticks) <= 6
    assert value_scale([5.0, 9.0], 300, 0).log is False
    wide = value_scale([5.0, 4000.0], 300, 0)
    assert wide.log
    assert wide.ticks[0] <= 5.0
    assert wide.ticks[-1] >= 4000.0


@pytest.mark.parametrize(
    ("metric", "bounds", "written"),
    [
        ("accuracy", (0.02, 0.0024, 0.07), "2 % [0, 7]"),
        ("accuracy", (0.996, 0.98, 0.999), "99.6 % [98.0, 99.9]"),
        ("accuracy", (1.0, 0.963, 1.0), "100 % [96, 100]"),
        ("accuracy", (62.5, 60.0, 65.0), "62.5 [60.0, 65.0]"),
        ("perplexity", (7.64, 6.95, 8.4), "7.64 [6.95, 8.40]"),
        ("perplexity", (15.93, 14.1, 17.0), "15.9 [14.1, 17.0]"),
        ("perplexity", (1534.2, 1400.0, 1700.0), "1,534 [1,400, 1,700]"),
        ("score", (0.0, 0.0, 0.036), "0.000 [0.000, 0.036]"),
        ("score", (-0.25, -0.5, 0.1), "-0.250 [-0.500, 0.100]"),
        ("score", (math.nan, -math.inf, math.inf), "NaN [-∞, ∞]"),
        ("score", (2.5e-9, 0.0, 1.0), "2.5e-09 [0, 1]"),
    ],
)
def test_estimates_read_well(metric: str, bounds: tuple[float, float, float], written: str) -> None:
    """Digits suit the size of the value, and rounding never turns nearly all into all."""
    assert str(estimate(Measurement(metric, 512, *bounds, count=100))).replace("\u00a0", " ") == written


def test_quantities_read_well() -> None:
    """Lengths, counts, durations, axis labels and RoPE settings are written as a person would."""
    assert [tokens(length) for length in (512, 4096, 16384, 131072, 1048576, 100000)] == [
        "512",
        "4096",
        "16k",
        "128k",
        "1M",
        "100000",
    ]
    assert [number(value) for value in (None, 450560, 2.5, 0.0)] == ["\N{EN DASH}", "450,560", "2.50", "0"]
    assert [duration(value).replace("\u00a0", " ") for value in (None, math.inf, 25.1, 126.7, 40210.0)] == [
        "\N{EN DASH}",
        "\N{EN DASH}",
        "25.1 s",
        "2 min 7 s",
        "11 h 10 min",
    ]
    assert [compact(value) for value in (0, 0.2, 5000, 250000, 1.5e6, 2e9)] == [
        "0",
        "0.2",
        "5000",
        "250k",
        "1.5M",
        "2B",
    ]
    assert rope({"kind": "longrope", "factor": 4.0, "short": [1.0], "x": None}) == "longrope, factor 4, short [1.0]"
    assert rope({"kind": "yarn", "mode": "auto"}) == "yarn, mode auto"
    assert rope(None) == "\N{EN DASH}"
