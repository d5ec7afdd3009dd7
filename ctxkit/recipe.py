"""The models of a recipe, and how a tree of values becomes one, with every fault named at its place."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from ctxkit.errors import Fault, RecipeError, said
from ctxkit.layers import Node, merge
from ctxkit.spec import CallbackSlot, ChunkerSlot, EvalSlot, FilterSlot, Options, RopeSlot, Slot, SourceSlot

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

    from ctxkit.registry import Registry

S = TypeVar("S", bound="Section")

MODEL = "model"
"""What `from` calls the model that the recipe starts with."""
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class Section(Options):
    """A section of a recipe, as strict as the options of a component."""

    model_config = ConfigDict(populate_by_name=True)


class ModelSection(Section):
    """Which model: one with weights (`name_or_path`), or a fresh one (`config`)."""

    name_or_path: str | None = None
    """Folder or hub name of a causal language model."""
    revision: str | None = None
    """Commit, branch or tag on the hub."""
    config: Mapping[str, Any] | None = None
    """Fields of a transformers config with its `model_type`, for a model trained from scratch."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    """Type of the weights that are trained, float32 as in TRL; `auto` is the type they were saved in, and weights of 16
    bits lose small updates."""
    attn_implementation: str | None = None
    """Attention backend, as `from_pretrained` takes it: sdpa, flash_attention_2, eager, ..."""
    original_max_position_embeddings: PositiveInt | None = None
    """The window the base model was pre-trained with, in tokens; read from its config unless stated."""


class TokenizerTraining(Section):
    """A byte-level BPE tokenizer, trained on the documents of the first stage."""

    vocab_size: PositiveInt
    """Tokens, special ones included; 256 bytes plus the special tokens gives a pure byte tokenizer."""
    bos_token: str | None = None
    """Put in front of every document where set."""
    eos_token: str = "<|endoftext|>"
    """Put at the end of every document."""
    pad_token: str = "<|pad|>"
    """Fills a batch; never trained on."""


class TokenizerSection(Section):
    """Which tokenizer, where it is not the model's own."""

    name_or_path: str | None = None
    """Folder or hub name."""
    train: TokenizerTraining | None = None
    """Train one instead."""


class DataSection(Section):
    """Where training examples come from."""

    sources: tuple[SourceSlot, ...] = Field(min_length=1)
    """Where documents come from; with a `weight` each, they are mixed by tokens."""
    filters: tuple[FilterSlot, ...] = ()
    """Which documents stay, asked in order; the first that drops one is counted."""
    chunker: ChunkerSlot
    """How documents become training examples."""
    max_tokens: PositiveInt | None = None
    """Stop after this many trained tokens, over all sources."""


class LaunchSection(Section):
    """How many processes the recipe is made for."""

    num_processes: PositiveInt = 1
    """Processes, one a GPU; `plan` counts tokens per step with it, and `run` says when it finds another number."""
    config_file: str | None = None
    """accelerate's own configuration file, for DeepSpeed, FSDP or several machines."""


class Stage(Section):
    """One SFTTrainer run, the sections above it in the recipe laid beneath its own."""

    name: str = Field(pattern=NAME_PATTERN)
    """Names its folder in the run directory."""
    from_: str | None = Field(default=None, alias="from")
    """The stage whose weights it starts from; the one before it unless stated. `model` means the model itself."""
    rope: RopeSlot | None = None
    """How the rotary frequencies change before the weights load; null leaves them as the model has them."""
    data: DataSection
    """Where its training examples come from."""
    train: Mapping[str, Any] = Field(default_factory=dict)
    """Fields of TRL's SFTConfig, under their own names."""
    evals: tuple[EvalSlot, ...] = ()
    """What is measured when it is finished."""
    callbacks: tuple[CallbackSlot, ...] = ()
    """What else happens while it trains."""


class Head(Section):
    """The keys of a recipe that belong to the whole run."""

    name: str = Field(pattern=NAME_PATTERN)
    """Names the run and, unless told otherwise, its directory `runs/NAME`."""
    description: str = ""
    """What it does and where its figures come from; shown in the report."""
    model: ModelSection
    """Which model."""
    tokenizer: TokenizerSection = TokenizerSection()
    """Which tokenizer; the model's own unless stated."""
    launch: LaunchSection = LaunchSection()
    """How many processes it is made for."""
    result: str | None = None
    """The stage whose model is the outcome of the run: the last one unless stated."""


class Recipe(Head):
    """A whole recipe, its stages resolved."""

    stages: tuple[Stage, ...] = Field(min_length=1)
    """In the order in which they run."""

    def parent(self, stage: Stage) -> Stage | None:
        """Return the stage whose weights a stage starts from, or None for the model itself."""
        index = self.stages.index(stage)
        if stage.from_ == MODEL:
            return None
        if stage.from_ is None:
            return self.stages[index - 1] if index else None
        return next((other for other in self.stages[:index] if other.name == stage.from_), None)

    @property
    def result_stage(self) -> Stage:
        """The stage whose model is the outcome."""
        return next((stage for stage in self.stages if stage.name == self.result), self.stages[-1])


OVERLAID = tuple(field for field in Stage.model_fields if field not in ("name", "from_"))
"""Sections that a stage lays over those at the top of the recipe."""


@dataclass(frozen=True)
class Located:
    """A recipe with the tree it was read from, to name the place of any value."""

    recipe: Recipe
    head: Node
    stages: dict[str, Node]
    """The merged tree of each stage, by name."""
    file: Path

    def fault(self, stage: str | None, path: tuple[str | int, ...], message: str, hint: str = "") -> Fault:
        """Return a fault at a path, within a stage or, for None, at the top."""
        tree = self.stages[stage] if stage else self.head
        node, _ = tree.nearest(path)
        full = path if stage is None or len(self.stages) == 1 else ("stages", stage, *path)
        return Fault(full, message, hint, node.origin)


def build(tree: Node, registry: Registry, file: Path) -> Located:
    """Return the recipe that a tree of values describes.

    Raises:
        RecipeError: with every fault: unknown keys and kinds, wrong types, missing values.
    """
    head_keys = {key: node for key, node in tree.value.items() if key not in (*OVERLAID, "stages")}
    head_tree = Node(head_keys, tree.origin)
    faults: list[Fault] = []
    head = _validated(Head, head_tree, (), registry, faults)
    stages: list[Stage] = []
    trees: dict[str, Node] = {}
    for path, merged in stage_trees(tree, faults):
        stage = _validated(Stage, merged, path, registry, faults)
        if stage is not None and stage.name in trees:
            origin = merged.value["name"].origin
            faults.append(Fault((*path, "name"), f"two stages are named {stage.name}", "rename one of them", origin))
        elif stage is not None:
            stages.append(stage)
            trees[stage.name] = merged
    if faults or head is None:
        raise RecipeError(faults)
    recipe = Recipe(stages=tuple(stages), **{name: getattr(head, name) for name in Head.model_fields})
    return Located(recipe, head_tree, trees, file)


def stage_trees(tree: Node, faults: list[Fault]) -> list[tuple[tuple[str | int, ...], Node]]:
    """Return path and values of each stage, laid over the top of the recipe; add what is wrong with the list itself."""
    top = Node({key: node for key, node in tree.value.items() if key in OVERLAID}, tree.origin)
    stages = tree.value.get("stages")
    if stages is None:
        name = tree.value.get("name", Node("train", tree.origin))
        return [((), merge(top, Node({"name": name}, tree.origin)))]
    if not isinstance(stages.value, list) or not stages.value:
        faults.append(Fault(("stages",), "needs a list of stages", "leave it out for a single one", stages.origin))
        return []
    found: list[tuple[tuple[str | int, ...], Node]] = []
    for index, item in enumerate(stages.value):
        if isinstance(item.value, dict):
            found.append((("stages", index), merge(top, item)))
        else:
            faults.append(Fault(("stages", index), "a stage is a mapping with a `name`", origin=item.origin))
    return found


def _validated(
    model: type[S], tree: Node, prefix: tuple[str | int, ...], registry: Registry, faults: list[Fault]
) -> S | None:
    try:
        return model.model_validate(tree.plain(), context=registry.context)
    except ValidationError as error:
        # A list loses its items that are wrong, and pydantic then says, on top, that it is too short.
        found = [details for details in error.errors() if details["type"] != "too_short" or not details["input"]]
        faults.extend(_fault(model, tree, prefix, details, registry) for details in found)
        return None


def _fault(
    model: type[Section], tree: Node, prefix: tuple[str | int, ...], details: ErrorDetails, registry: Registry
) -> Fault:
    node, path = tree.nearest(details["loc"])
    if details["type"] == "slot_kind":
        node, path = node.value["kind"], (*path, "kind")
    missing = details["type"] in ("missing", "slot_missing")
    if details["type"] == "missing":
        path = (*path, *details["loc"][-1:])
    unknown = details["type"] == "extra_forbidden"
    origin = node.key_origin if unknown and node.key_origin else node.origin
    if missing and node.key_origin:
        origin = node.key_origin
    message, hint = _worded(model, tree, details, registry)
    return Fault((*prefix, *path), message, hint, origin)


def _worded(model: type[Section], tree: Node, details: ErrorDetails, registry: Registry) -> tuple[str, str]:
    """Return message and hint in our words for the commonest errors."""
    kind, context = details["type"], details.get("ctx", {})
    if kind == "extra_forbidden":
        return "unknown key", _suggested(str(details["loc"][-1]), _known_keys(model, tree, details["loc"], registry))
    if kind == "missing":
        return "this key is required", ""
    if kind in ("slot_kind", "slot_missing"):
        hint = _suggested(str(context.get("kind", "")), context["kinds"]) or "no installed plugin brings one"
        return details["msg"], "; ".join(part for part in (hint, _broken(registry)) if part)
    message = f"needs {_NEEDED[kind].format(**context)}" if kind in _NEEDED else details["msg"]
    message = message.removeprefix("Value error, ").replace("Input should be ", "needs ")
    scalar = message.startswith("needs ") and isinstance(details["input"], str | int | float | bool | None)
    return (f"{message}, got {said(details['input'])}" if scalar else message), ""


_NEEDED = {
    **dict.fromkeys(("model_type", "dict_type", "mapping_type"), "a mapping of keys to values"),
    **dict.fromkeys(("tuple_type", "list_type"), "a list"),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    "string_type": "text",
    "string_pattern_mismatch": "letters, digits, `.`, `_` and `-`, a letter or digit first",
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "{ge:g} or more",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "{le:g} or less",
    "too_short": "at least {min_length} item(s)",
}
"""What pydantic's error types ask for, in the words of a recipe."""


def _broken(registry: Registry) -> str:
    return f"it may be in a plugin that cannot be used: {'; '.join(registry.faults)}" if registry.faults else ""


def _suggested(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(known)}" if known else ""


def _known_keys(model: type[BaseModel], tree: Node, path: tuple[str | int, ...], registry: Registry) -> list[str]:
    """Return the keys that are known where an unknown one stands."""
    current, slot, node = model, "", tree
    for part in path[:-1]:
        child = node.child(part)
        if child is None:
            continue
        node = child
        if part in current.model_fields:
            slot, below = _filled(current.model_fields[str(part)])
            current = below or current
        if slot and isinstance(node.value, dict) and "kind" in node.value:
            current = registry.components[slot].get(node.value["kind"].value, current)
    keys = [field.alias or name for name, field in current.model_fields.items()]
    return [*keys, *OVERLAID, "stages", "extends"] if current is Head else keys


def _filled(field: FieldInfo) -> tuple[str, type[BaseModel] | None]:
    """Return what fills a field, or the items of its list: the name of a slot, or a section."""
    inner = [field.annotation, *get_args(field.annotation)]
    marks = [*field.metadata, *(mark for part in inner for mark in getattr(part, "__metadata__", ()))]
    slot = next((mark.name for mark in marks if isinstance(mark, Slot)), "")
    return slot, next((part for part in inner if isinstance(part, type) and issubclass(part, Options)), None)
