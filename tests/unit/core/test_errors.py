"""How a fault looks to the person who reads it."""

from __future__ import annotations

import pytest

from ctxkit.errors import (
    CtxkitError,
    DataError,
    DiskError,
    ExitCode,
    Fault,
    NotFiniteError,
    Origin,
    RecipeError,
    ResumeError,
    said,
)


def test_full_fault() -> None:
    """A fault is `file:line:column: path: message; hint`, the source line, and carets under the very characters."""
    origin = Origin("r.yaml", 3, 8, 4, "train: lrrr: 5")
    fault = Fault(("train", 0, "lrrr"), "unknown key", "did you mean `lr`?", origin)
    assert fault.render() == (
        "r.yaml:3:8: train.0.lrrr: unknown key; did you mean `lr`?\n    train: lrrr: 5\n           ^^^^"
    )


def test_fault_without_place() -> None:
    """Without place, path and hint, a fault is its message."""
    assert Fault((), "no").render() == "no"
    assert Fault(("a",), "no", origin=Origin("--set a=1")).render() == "--set a=1: a: no"


def test_caret_after_a_tab() -> None:
    """The caret's line repeats tabs, so that it stands right whatever the terminal makes of them."""
    text = "x: {a: '\t', b: 1}"
    origin = Origin("r.yaml", 1, text.index("b") + 1, 1, text)
    assert Fault((), "no", origin=origin).render().splitlines()[2] == "    " + " " * 8 + "\t" + " " * 3 + "^"


def test_caret_after_wide_characters() -> None:
    """Characters that take two columns in a terminal move the caret by two, combining ones not at all."""
    text = "{漢字: 1, e\u0301: 2}"
    origin = Origin("r.yaml", 1, text.index("2") + 1, 1, text)
    columns = {"漢": 2, "字": 2, "\u0301": 0}
    width = sum(columns.get(char, 1) for char in text[: text.index("2")])
    assert Fault((), "no", origin=origin).render().splitlines()[2] == "    " + " " * width + "^"


def test_long_line_is_cut_around_the_place() -> None:
    """Of a line too long for any terminal, the part around the place is shown, the caret beneath it."""
    text = "x" * 5000 + "HERE" + "y" * 5000
    _, line, caret = Fault((), "no", origin=Origin("r.yaml", 1, 5001, 4, text)).render().splitlines()
    assert len(line) < 200
    assert line[caret.index("^") : caret.rindex("^") + 1] == "HERE"


def test_place_beyond_the_end_of_a_line() -> None:
    """A place after the last character, as for a missing bracket, still gets its caret."""
    assert Fault((), "no", origin=Origin("r.yaml", 1, 6, 1, "a: [1")).render().endswith("\n    a: [1\n         ^")


def test_recipe_error_counts() -> None:
    """The message holds every fault, and the last line counts them."""
    error = RecipeError([Fault(("a",), "one"), Fault(("b",), "two")])
    assert str(error) == "a: one\nb: two\n2 faults found"
    assert str(RecipeError([Fault((), "one")])).endswith("1 fault found")
    assert error.exit_code == ExitCode.RECIPE


def test_recipe_error_says_nothing_twice() -> None:
    """A value that several stages inherit is blamed once; two keys missing at one place are two faults."""
    origin = Origin("r.yaml", 2, 1)
    shared = [Fault(("stages", n, "train", "x"), "unknown key", origin=origin) for n in range(3)]
    missing = [Fault(("data", key), "this key is required", origin=origin) for key in ("sources", "chunker")]
    assert RecipeError([*shared, *missing]).faults == (shared[0], *missing)


@pytest.mark.parametrize(
    ("kind", "code"), [(DataError, 3), (ResumeError, 4), (NotFiniteError, 5), (DiskError, 6), (CtxkitError, 1)]
)
def test_exit_codes(kind: type[CtxkitError], code: int) -> None:
    """Each kind of error ends with the exit status that the documentation promises."""
    error = kind("what", "how")  # type: ignore[call-arg]
    assert error.exit_code == code
    assert str(error) == "what\nhow"


@pytest.mark.parametrize(
    ("value", "text"), [(None, "null"), (True, "true"), (False, "false"), (1, "1"), ("a", "'a'"), ("x" * 99, None)]
)
def test_said(value: object, text: str | None) -> None:
    """A value is shown as YAML has it, and cut where it is long."""
    assert said(value) == (text or f"'{'x' * 59}...")
