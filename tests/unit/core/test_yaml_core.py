"""YAML as recipes read it, held against the YAML 1.2 core schema and against PyYAML where the two agree."""

from __future__ import annotations

import math
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ctxkit import yaml_core
from ctxkit.errors import RecipeError


def plain(parsed: yaml_core.Parsed) -> Any:
    """Return a parsed value without places."""
    value = parsed.value
    if isinstance(value, dict):
        return {key: plain(child) for key, child in value.items()}
    return [plain(child) for child in value] if isinstance(value, list) else value


def refused(text: str) -> str:
    """Return what is said of a text that must be refused; one that were expanded would run into the timeout."""
    with pytest.raises(RecipeError) as caught:
        yaml_core.parse(text, "r.yaml")
    return caught.value.message


# By the tables of section 10.3 of the YAML 1.2.2 specification, not by what the code does.
SCALARS = {
    "1e-5": 1e-5,
    "1E5": 1e5,
    "5e+3": 5e3,
    "1.e3": 1e3,
    ".5": 0.5,
    "5.": 5.0,
    "+.5": 0.5,
    "-0.0": 0.0,
    "010": 10,
    "+5": 5,
    "-7": -7,
    "0x1F": 31,
    "0o17": 15,
    "0b11": "0b11",
    "1_000": "1_000",
    "12:30:45": "12:30:45",
    "2001-01-01": "2001-01-01",
    "no": "no",
    "on": "on",
    "Yes": "Yes",
    "tRue": "tRue",
    "true": True,
    "FALSE": False,
    "null": None,
    "~": None,
    "": None,
    ".inf": math.inf,
    "-.INF": -math.inf,
    "+.Inf": math.inf,
    "inf": "inf",
    "nan": "nan",
    "'1e-5'": "1e-5",
    '"5"': "5",
    "\uff11\uff12": "\uff11\uff12",
    "0x": "0x",
    "0o8": "0o8",
    "-0x1": "-0x1",
    "e5": "e5",
}


@pytest.mark.parametrize(("text", "value"), SCALARS.items())
def test_scalar(text: str, value: object) -> None:
    """A scalar has the type and value that the YAML 1.2 core schema gives it."""
    found = plain(yaml_core.parse(f"key: {text}", "r.yaml"))["key"]
    assert (type(found), found) == (type(value), value)


def test_nan() -> None:
    """`.nan` is a number that is none."""
    assert math.isnan(plain(yaml_core.parse("x: .NaN", "r.yaml"))["x"])


def test_pyyaml_alone_would_not_do() -> None:
    """PyYAML still differs from YAML 1.2 in what this module exists for; should this fail, it may be retired."""
    theirs = yaml.safe_load("{a: 1e-5, b: no, c: 010, d: 12:30:45, e: 1, e: 2}")
    assert theirs == {"a": "1e-5", "b": False, "c": 8, "d": 45045, "e": 2}


def test_structure_is_what_pyyaml_reads() -> None:
    """Blocks, flows, folded text, comments and aliases read as PyYAML reads them."""
    text = (
        "# comment\na: &x {b: [1, 2.5, true], c: 'it''s'}\nd:\n  - *x\n  - >\n    folded\n    text\n"
        '  - |\n    kept\n    lines\n"e f": "\\u00e9\\n"\n'
    )
    assert plain(yaml_core.parse(text, "r.yaml")) == yaml.safe_load(text)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs", "Cc"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab1e5. ", min_size=1), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text("abc", min_size=1), JSON))
def test_dump_is_read_back_unchanged(value: dict[str, Any]) -> None:
    """What `dump` writes, `parse` reads back with the same types, and PyYAML itself too."""
    text = yaml_core.dump(value)
    assert plain(yaml_core.parse(text, "r.yaml")) == value
    assert yaml.safe_load(text) == value


@pytest.mark.parametrize("text", ["12345e67", "1e5", "no", "0o17", "null", "~", "010", "12:30", "2001-01-01", "", "<<"])
def test_dump_keeps_text(text: str) -> None:
    """A text that looks like a number, such as a commit, stays a text."""
    assert plain(yaml_core.parse(yaml_core.dump({"revision": text}), "r.yaml")) == {"revision": text}


def test_places() -> None:
    """Every key and value knows line, column and length, counted from 1."""
    parsed = yaml_core.parse("name: demo\ndata:\n  sources: [{kind: files}]\n", "r.yaml")
    kind = parsed.value["data"].value["sources"].value[0].value["kind"]
    assert (kind.origin.line, kind.origin.column, kind.origin.length) == (3, 20, 5)
    assert (kind.key_origin.line, kind.key_origin.column, kind.key_origin.length) == (3, 14, 4)
    assert str(kind.origin) == "r.yaml:3:20"
    assert kind.origin.text == "  sources: [{kind: files}]"


def test_duplicate_keys_name_both_places() -> None:
    """A key written twice is refused, with the place of either."""
    message = refused("a: 1\nb:\n  c: 2\n  d: 3\n  c: 4\n")
    assert "r.yaml:5:3: the key `c` is written twice; first in r.yaml:3:3" in message
    assert message.endswith("      c: 4\n      ^")


def test_every_duplicate_is_named() -> None:
    """Two duplicates are two faults of one message."""
    assert refused("a: {b: 1, b: 2}\na: 3\n").count("is written twice") == 2


def bomb(levels: int, width: int) -> str:
    """Return a document of `levels` lines that expands to `width ** levels` values."""
    lines = [f"a0: &a0 [{', '.join(['x'] * width)}]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, levels)]
    return "\n".join(lines)


HOSTILE = {
    "alias bomb": (bomb(9, 9), "aliases are expanded"),
    "list that holds itself": ("a: &a [*a]", "aliases are expanded"),
    "mapping that holds itself": ("a: &a {b: *a}", "aliases are expanded"),
    "3000 brackets": ("a: " + "[" * 3000 + "]" * 3000, "50 levels"),
    "3000 brackets left open": ("a: " + "[" * 3000, "50 levels"),
    "indentation": ("\n".join(" " * n + "a:" for n in range(400)), "50 levels"),
    "more than 1 MB": ("a: " + "x" * 1_000_000, "more than 1000000 bytes"),
    "more than 1 MB of wide characters": ("a: " + "é" * 500_000, "more than 1000000 bytes"),
    "200,000 items": ("a: [" + "1," * 200_000 + "]", "more than 10000 values"),
    "a number of 5000 digits": ("a: " + "9" * 5000, "at most 64 bits"),
    "a hexadecimal number of 5000 digits": ("a: 0x" + "f" * 5000, "at most 64 bits"),
    "control character": ("ok: 1\na: \x01", "r.yaml:2:4: the character #x0001"),
}


@pytest.mark.parametrize(("text", "expected"), HOSTILE.values(), ids=HOSTILE)
def test_hostile(text: str, expected: str) -> None:
    """A document made to exhaust time, memory or the stack is refused within half a second, in a short message."""
    message = refused(text)
    assert expected in message
    assert len(message) < 600


def test_expanded_aliases_below_the_limits_are_fine() -> None:
    """Aliases used as in our own recipes are no bomb."""
    assert plain(yaml_core.parse(bomb(3, 9), "r.yaml"))["a2"] == [[["x"] * 9] * 9] * 9


def test_largest_number() -> None:
    """64 bits are allowed, one more is not."""
    assert plain(yaml_core.parse(f"a: {2**64 - 1}", "r.yaml")) == {"a": 2**64 - 1}
    assert "at most 64 bits" in refused(f"a: {2**64}")


TAGS = ["!!python/object:os.system x", "!!python/object/apply:os.system [x]", "!!set {a, b}", "!!int '5'", "!!str 5"]


@pytest.mark.parametrize("value", [*TAGS, "!custom 5", "!custom {a: 1}", "!!binary aGk=", "! 5"])
def test_tags_are_refused(value: str) -> None:
    """No tag has any meaning, neither Python's nor YAML's own; each is refused where it stands."""
    assert refused(f"a: 1\nb: {value}").startswith("r.yaml:2:4: ")


def test_tag_on_a_key_is_refused() -> None:
    """A key carries no tag either."""
    assert "a tag is not allowed" in refused("!!str a: 1")


def test_merge_keys_are_refused() -> None:
    """`<<` is refused with what to use instead."""
    assert "r.yaml:2:5: merge keys (`<<`) are not part of YAML 1.2; use `extends`" in refused(
        "a: &a {b: 1}\nc: {<<: *a}"
    )


def test_key_that_is_no_word() -> None:
    """A list as a key is refused at its place."""
    assert "r.yaml:2:5: a key must be a plain word" in refused("a:\n  ? [b, c]\n  : 1\n")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: [1, 2", "r.yaml:1:9"),
        ("a: 1\n b: 2", "r.yaml:2:3"),
        ("a: *b", "r.yaml:1:4"),
        ("a:\tb\n\tc: d", "r.yaml:1:3"),
    ],
)
def test_broken_syntax_names_its_place(text: str, place: str) -> None:
    """What is no YAML is refused with line and column."""
    assert refused(text).startswith(f"{place}: this cannot be read as YAML: ")


def test_two_documents_are_refused() -> None:
    """A file is one document."""
    assert "a single document" in refused("a: 1\n---\nb: 2\n")


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "---\n"])
def test_empty(text: str) -> None:
    """An empty document is null, and the caller says what that means."""
    assert yaml_core.parse(text, "r.yaml").value is None
