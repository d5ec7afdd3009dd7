"""`extends`, `--set` and the places of what comes of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxkit import layers
from ctxkit.errors import Origin, RecipeError
from ctxkit.layers import Node

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write files by name, and return the path of the last."""

    def written(**files: str) -> Path:
        path = tmp_path
        for name, text in files.items():
            path = tmp_path / f"{name.replace('__', '/')}.yaml"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        return path

    return written


def refused(path: Path, *sets: str) -> str:
    """Return what is said of a recipe that cannot be read."""
    with pytest.raises(RecipeError) as caught:
        layers.read(path, sets)
    return caught.value.message


def tree(value: object) -> Node:
    """Return plain values as a tree without places."""
    if isinstance(value, dict):
        value = {key: tree(child) for key, child in value.items()}
    elif isinstance(value, list):
        value = [tree(child) for child in value]
    return Node(value, Origin("here"))


def test_extends_one(write: Write) -> None:
    """What a recipe does not say comes from the one it extends, found beside it."""
    path = write(base__a="train: {lr: 1, steps: 2}\nname: a\n", top="extends: base/a.yaml\nname: b\ntrain: {lr: 3}\n")
    assert layers.read(path).plain() == {"train": {"lr": 3, "steps": 2}, "name": "b"}


def test_extends_many(write: Write) -> None:
    """Of several, the later wins, and the recipe itself over all."""
    path = write(a="x: 1\ny: 1\nz: 1\n", b="y: 2\nz: 2\n", top="extends: [a.yaml, b.yaml]\nz: 3\n")
    assert layers.read(path).plain() == {"x": 1, "y": 2, "z": 3}


def test_extends_through_folders(write: Write) -> None:
    """A path is relative to the file that names it, at every level."""
    path = write(base__a="x: 1\n", base__b="extends: a.yaml\ny: 2\n", top="extends: base/b.yaml\n")
    assert layers.read(path).plain() == {"x": 1, "y": 2}


def test_extends_the_same_twice(write: Write) -> None:
    """Two bases may share a base: that is no circle."""
    path = write(a="x: 1\n", b="extends: a.yaml\n", c="extends: a.yaml\n", top="extends: [b.yaml, c.yaml]\n")
    assert layers.read(path).plain() == {"x": 1}


def test_extends_in_a_circle(write: Write) -> None:
    """A circle is refused where it closes, with its whole way."""
    path = write(a="extends: b.yaml\n", b="name: b\nextends: top.yaml\n", top="extends: a.yaml\n")
    message = refused(path)
    assert message.startswith(f"{path.parent / 'b.yaml'}:2:10: extends: ")
    assert "top.yaml -> a.yaml -> b.yaml -> top.yaml" in message


def test_extends_a_missing_file(write: Write) -> None:
    """A missing base is named where it is asked for, with the path that was tried."""
    path = write(top="name: x\nextends:\n  - nowhere.yaml\n")
    assert refused(path).startswith(f"{path}:3:5: extends: {path.parent / 'nowhere.yaml'}: there is no such file\n")


def test_extends_a_broken_file(write: Write) -> None:
    """A fault in a base is shown in the base."""
    path = write(a="x: [\n", top="extends: a.yaml\n")
    assert refused(path).startswith(f"{path.parent / 'a.yaml'}:2:1: ")


@pytest.mark.parametrize("value", ["5", "{a: b}", "[[a]]", "null", "[5]"])
def test_extends_of_a_wrong_type(write: Write, value: str) -> None:
    """`extends` takes a path or a list of paths, nothing else."""
    assert "extends: needs a path or a list of paths" in refused(write(top=f"extends: {value}\n"))


def test_extends_too_deep(write: Write) -> None:
    """A chain without an end is refused before Python's own stack is."""
    files = {f"f{n}": f"extends: f{n + 1}.yaml\n" for n in range(40)}
    assert "more than 20 recipes extend each other" in refused(write(**files).with_name("f0.yaml"))


def test_extends_reads_each_file_once(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bases that extend the same base twice, level upon level, cost no exponential time."""
    calls = []
    monkeypatch.setattr(layers, "_mapping", lambda *a, real=layers._mapping: calls.append(a) or real(*a))
    files = {f"f{n}": f"extends: [f{n + 1}.yaml, f{n + 1}.yaml]\n" for n in range(15)}
    layers.read(write(f15="x: 1\n", **files).with_name("f0.yaml"))
    assert len(calls) == 16


def test_origins(write: Write) -> None:
    """Every value knows the file and line that it came from, or the `--set`."""
    path = write(base="train:\n  lr: 1\n  steps: 2\n", top="extends: base.yaml\ntrain:\n  lr: 3\n")
    node = layers.read(path, ["train.seed=7"])
    where = {key: str(child.origin) for key, child in node.value["train"].value.items()}
    base = path.parent / "base.yaml"
    assert where == {"lr": f"{path}:3:7", "steps": f"{base}:3:10", "seed": "--set train.seed=7"}


def test_kind_is_replaced_whole() -> None:
    """Another kind brings none of the options of the kind beneath it; the same kind is merged."""
    base = tree({"rope": {"kind": "yarn", "factor": 4, "beta_fast": 32}})
    other = tree({"rope": {"kind": "linear", "factor": 2}})
    same = tree({"rope": {"kind": "yarn", "factor": 8}})
    unnamed = tree({"rope": {"factor": 8}})
    assert layers.merge(base, other).plain() == {"rope": {"kind": "linear", "factor": 2}}
    assert layers.merge(base, same).plain() == {"rope": {"kind": "yarn", "factor": 8, "beta_fast": 32}}
    assert layers.merge(base, unnamed).plain() == {"rope": {"kind": "yarn", "factor": 8, "beta_fast": 32}}


def test_lists_are_replaced() -> None:
    """A list replaces the list beneath it, and null replaces anything."""
    base = tree({"a": [1, 2], "b": {"c": 1}})
    assert layers.merge(base, tree({"a": [3], "b": None})).plain() == {"a": [3], "b": None}


PLAIN = st.recursive(
    st.none() | st.integers() | st.lists(st.integers(), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
TREES = st.dictionaries(st.sampled_from("abc"), PLAIN, max_size=3).map(tree)


@given(TREES, TREES)
def test_merge_keeps_its_layers(one: Node, two: Node) -> None:
    """Merging changes neither layer, and a layer over itself is itself."""
    before = one.plain(), two.plain()
    layers.merge(one, two)
    assert (one.plain(), two.plain()) == before
    assert layers.merge(one, one).plain() == before[0]


RECIPE = """\
name: demo
data:
  sources: [{kind: files, paths: [a, b]}, {kind: hub}]
stages:
  - {name: short, train: {lr: 1}}
  - {name: long, train: {lr: 2}}
"""


@pytest.mark.parametrize(
    ("assignment", "path", "value"),
    [
        ("name=other", ("name",), "other"),
        ("train.lr=1e-5", ("train", "lr"), 1e-5),
        ("a.b.c=x", ("a", "b", "c"), "x"),
        ("data.sources.1.kind=files", ("data", "sources", 1, "kind"), "files"),
        ("data.sources.0.paths.1=c", ("data", "sources", 0, "paths", 1), "c"),
        ("stages.long.train.lr=3", ("stages", 1, "train", "lr"), 3),
        ("stages.0.train.seed=4", ("stages", 0, "train", "seed"), 4),
        ("rope={kind: yarn, factor: 8}", ("rope",), {"kind": "yarn", "factor": 8}),
        ("x=a=b", ("x",), "a=b"),
        ("x=", ("x",), None),
        ("x='5'", ("x",), "5"),
        ("data={}", ("data",), {}),
    ],
)
def test_set(write: Write, assignment: str, path: tuple[str | int, ...], value: object) -> None:
    """`--set` reaches any value: by key, by index, and in a list of named mappings by name; it reads YAML."""
    found = layers.read(write(top=RECIPE), [assignment]).plain()
    for part in path:
        found = found[part]
    assert found == value


def test_set_leaves_the_rest(write: Write) -> None:
    """One `--set` changes one value, and the later of two wins."""
    path = write(top=RECIPE)
    before, after = (
        layers.read(path).plain(),
        layers.read(path, ["stages.long.train.lr=3", "stages.1.train.lr=5"]).plain(),
    )
    assert after["stages"][1]["train"].pop("lr") == 5
    assert before["stages"][1]["train"].pop("lr") == 2
    assert before == after


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("train.lr", "--set train.lr: needs the form key=value; such as train.max_steps=10"),
        ("=5", "needs the form key=value"),
        ("a..b=1", "needs the form key=value"),
        ("data.sources.9.kind=x", "there is no item '9' in the list that data.sources.9.kind goes through"),
        ("data.sources.-1.kind=x", "there is no item '-1'"),
        ("data.sources.².kind=x", "there is no item '²'"),
        ("stages.middle.train.lr=1", "there is no item 'middle'"),
        ("name.first=1", "there is a plain value where name.first goes through; it is 'demo'"),
        ("extends=x.yaml", "`extends` is read before any --set; write it into the recipe"),
        ("train.lr=[1", "--set train.lr:1:3: this cannot be read as YAML"),
        ("train.lr=!!python/name:os.system", "--set train.lr:1:1: this cannot be read as YAML: a tag is not allowed"),
        ("train={a: 1, a: 2}", "--set train:1:8: the key `a` is written twice; first in --set train:1:2"),
    ],
)
def test_set_that_leads_nowhere(write: Write, assignment: str, expected: str) -> None:
    """A `--set` that cannot be carried out says which, and why."""
    assert expected in refused(write(top=RECIPE), assignment)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "the file is empty; a recipe has at least `name`, `model` and `data`"),
        (b"# only this\n", "the file is empty"),
        (b"- a\n", "a recipe is a mapping of keys to values"),
        (b"hello\n", "a recipe is a mapping of keys to values"),
        (bytes(range(128, 256)), "this is no text in UTF-8: byte 0x80 at 0"),
        ("name: x".encode("utf-16"), "this is no text in UTF-8"),
        (b"\x7fELF\x00", "the character #x007f is not allowed"),
    ],
)
def test_file_that_is_no_recipe(tmp_path: Path, content: bytes, expected: str) -> None:
    """An empty, binary or otherwise unfit file is one message that names the file."""
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    message = refused(path)
    assert message.startswith(str(path))
    assert expected in message


def test_path_that_is_no_file(tmp_path: Path) -> None:
    """A missing file, a folder, a path below a file, a loop of links: each is one message that names the path."""
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    expected = {
        "nowhere.yaml": "there is no such file",
        ".": "the file cannot be read: Is a directory",
        "file/below.yaml": "the file cannot be read: Not a directory",
        "loop": "the file cannot be read: Too many levels of symbolic links",
        "a\0b": "the file cannot be read: embedded null byte",
    }
    for name, said in expected.items():
        assert refused(tmp_path / name) == f"{tmp_path / name}: {said}"


def test_byte_order_mark(write: Write) -> None:
    """A byte order mark, as Windows editors write it, is no part of the first key."""
    path = write(top="\ufeffname: demo\r\nx: 1\r\n")
    node = layers.read(path)
    assert node.plain() == {"name": "demo", "x": 1}
    key = node.value["name"].key_origin
    assert (key.column, key.text) == (1, "name: demo")
