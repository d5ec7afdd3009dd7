"""Checks that a plugin's own tests can run: what the core expects of every component, in one call each.

    from ctxkit.testing import check_chunker, check_curriculum, check_options, check_patch

    def test_options():
        check_options(ShoutOptions, {"kind": "shout", "length": 8})

    def test_chunker():
        check_chunker(ShoutChunker(length=8), documents, length=8)

Each raises an `AssertionError` that says what is wrong, and works without pytest.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

from ctxkit.host import Host
from ctxkit.registry import collect, malformed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor
    from transformers import PreTrainedModel

    from ctxkit.spec import Chunk, Chunker, Component, Curriculum, EncodedDocument, Patch, Phase, RowTable, TrainingPlan

HEAVY = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "tokenizers", "numpy", "pandas", "pyarrow")
"""Packages that a module of options must not import: every command reads it, and must answer at once."""


def check_options(cls: type[Component], example: Mapping[str, Any] | None = None) -> None:
    """Check that a class can be a component: its kind, its documentation, its schema, and what importing it costs.

    Args:
        cls: The options class that a plugin's `ctxkit_components` returns.
        example: Values as a recipe would state them, `kind` included. Checked too where given: they validate, and come
            back the same from JSON.

    Raises:
        AssertionError: with the first expectation that is not met.
    """
    _expect(not (fault := malformed(cls)), fault)
    name = cls.__name__
    _expect(bool(cls.model_config.get("frozen")), f"{name} is not frozen; keep the `model_config` of its base class")
    _expect(
        cls.model_config.get("extra") == "forbid", f"{name} accepts unknown keys; keep the `model_config` of its base"
    )
    _expect(bool(cls.__dict__.get("__doc__")), f"{name} has no docstring; its first line is shown by `ctxkit plugins`")
    bare = [field for field, info in cls.model_fields.items() if not info.description and field != "kind"]
    _expect(not bare, f"{name} has fields without a docstring or description: {', '.join(bare)}")
    _check_schema(cls)
    if example is not None:
        _check_example(cls, example)
    _check_import(cls.__module__)


def check_patch(patch: Patch, model: PreTrainedModel, input_ids: Tensor, tolerance: float = 1e-5) -> None:
    """Check that a patch changes how a model computes, and nothing else.

    Logits, the gradient of every weight, the names of the weights and the weights themselves are compared before and
    after. Take a tiny model of each architecture that the patch knows, and rows long enough for the patch to act.

    Args:
        patch: What the `build` of the options returns; it is called on the model.
        model: In float32, of a few thousand weights; it is left patched.
        input_ids: Shape (rows, tokens).
        tolerance: The largest difference, relative to the largest value of the tensor.

    Raises:
        AssertionError: with the first expectation that is not met.
    """
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    before = _computed(model, input_ids)
    patch(model)
    _expect(list(weights) == list(model.state_dict()), "the patch changes the names of the weights that are saved")
    changed = [name for name, value in model.state_dict().items() if not value.equal(weights[name])]
    _expect(not changed, f"the patch changes weights: {', '.join(changed)}")
    after = _computed(model, input_ids)
    _expect(before.keys() == after.keys(), f"gradients are missing or new: {', '.join(before.keys() ^ after.keys())}")
    for name, value in before.items():
        difference = float((value - after[name]).abs().max() / value.abs().max().clamp(min=1e-12))
        _expect(difference <= tolerance, f"the patch changes {name} by {difference:.2g} of its largest value")


def _computed(model: PreTrainedModel, input_ids: Tensor) -> dict[str, Tensor]:
    """Return the logits of a model, and the gradients of its next-token loss by the names of the weights."""
    model.zero_grad()
    found = model(input_ids=input_ids, labels=input_ids, use_cache=False)
    found.loss.backward()
    gradients = {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}
    return {"the logits": found.logits.detach(), **{f"the gradient of {name}": one for name, one in gradients.items()}}


class Drops:
    """Counts what a chunker reports as dropped: `build(Context(dropped=drops))`."""

    def __init__(self) -> None:
        """Start at nothing."""
        self.tokens: Counter[str] = Counter()
        """Tokens left out, by the id of their document."""

    def __call__(self, document: EncodedDocument, tokens: int, reason: str) -> None:
        """Count one drop."""
        _expect(tokens >= 0, f"document {document.document.id}: {tokens} tokens are reported as dropped")
        _expect(bool(reason.strip()), f"document {document.document.id}: tokens are dropped without a reason")
        self.tokens[document.document.id] += tokens


def check_chunker(
    chunker: Chunker,
    documents: Sequence[EncodedDocument],
    length: int,
    *,
    inserts: bool = False,
    drops: Drops | None = None,
) -> None:
    """Check what holds for every chunker.

    Chunks have 1 to `length` tokens; their spans point at their tokens; no token of a document is trained twice; what
    is masked lies within the chunk, in order, and leaves something to train; the documents are not changed; the same
    documents give the same chunks, as a list or one by one.

    A chunker that only cuts (`inserts=False`) has to be stricter: chunks are the tokens of their spans and nothing
    else; every token of a document is trained exactly once and in order (a document of fewer than 2 tokens may be
    left out, for it has nothing to predict); no window lies inside another. One that inserts tokens must account for
    every token that it reads: it is in a span, or was reported as dropped.

    Args:
        chunker: What the `build` of the options returns.
        documents: With ids that differ. Take care that some have 0, 1, `length` - 1, `length`, `length` + 1 and
            2 * `length` tokens: that is where chunkers go wrong.
        length: Tokens in the longest chunk.
        inserts: Whether the chunker may insert tokens, and leave tokens out that it reports.
        drops: What the chunker was built with as `Context.dropped`; without it nothing may be dropped.

    Raises:
        AssertionError: with the first expectation that is not met.
    """
    before = [document.input_ids.tolist() for document in documents]
    made = chunker(documents)
    _expect(iter(made) is made, "a chunker returns an iterator, so that a corpus never lies in memory whole")
    chunks = list(made)
    tokens = {document.document.id: ids for document, ids in zip(documents, before, strict=True)}
    _expect(len(tokens) == len(before), "the documents given to check_chunker share an id")
    for number, chunk in enumerate(chunks):
        _check_chunk(chunk, f"chunk {number}", tokens, length)
        _expect(inserts or _is_cut(chunk), f"chunk {number} holds tokens that are in no span")
    trained = _trained(chunks, tokens)
    _check_once(trained)
    if inserts:
        _check_accounted(chunks, tokens, drops.tokens if drops else Counter())
    else:
        _check_all_trained(trained, tokens)
        _check_windows(chunks)
    _expect([d.input_ids.tolist() for d in documents] == before, "the chunker changed the ids of its documents")
    again = [_shape(chunk) for chunk in chunker(document for document in documents)]
    _expect(again == [_shape(chunk) for chunk in chunks], "the same documents gave other chunks the second time")


def check_curriculum(curriculum: Curriculum, rows: RowTable, plan: TrainingPlan) -> None:
    """Check what holds for every curriculum.

    It makes phases; each names rows that are there, for a whole number of optimizer steps, with a learning rate above
    0 and a window of 2 tokens or more; the table is not changed; the same rows and plan give the same phases.

    Args:
        curriculum: What the `build` of the options returns.
        rows: Of lengths that differ; try tables with fewer rows than a step has.
        plan: How long is trained.

    Raises:
        AssertionError: with the first expectation that is not met.
    """
    before = [getattr(rows, name).copy() for name in rows.__dataclass_fields__]
    phases = list(curriculum(rows, plan))
    _expect(bool(phases), "the curriculum has no phase")
    for phase in phases:
        _check_phase(phase, len(rows), plan.rows_per_step)
    columns = zip(before, (getattr(rows, name) for name in rows.__dataclass_fields__), strict=True)
    _expect(all((old == new).all() for old, new in columns), "the curriculum changed the table of rows")
    again = [_phase_shape(phase) for phase in curriculum(rows, plan)]
    _expect(again == [_phase_shape(phase) for phase in phases], "the same rows gave other phases the second time")


def _check_phase(phase: Phase, rows: int, rows_per_step: int) -> None:
    order, name = phase.order, f"phase {phase.name}"
    _expect(order.ndim == 1 and order.dtype.kind in "iu", f"{name} has an order that is no list of whole numbers")
    _expect(len(order) > 0, f"{name} has no rows; leave it out")
    within = 0 <= int(order.min()) <= int(order.max()) < rows
    _expect(within, f"{name} names rows {order.min()} to {order.max()}, and there are {rows}")
    _expect(len(order) % rows_per_step == 0, f"{name} has {len(order)} rows, no whole steps of {rows_per_step}")
    _expect(0 < phase.learning_rate < float("inf"), f"{name} multiplies the learning rate by {phase.learning_rate}")
    _expect(phase.window is None or phase.window >= 2, f"{name} has a window of {phase.window} tokens")


def _phase_shape(phase: Phase) -> tuple[object, ...]:
    return phase.name, phase.epoch, phase.learning_rate, phase.window, phase.order.tolist()


def _expect(met: bool, message: str) -> None:  # noqa: FBT001
    if not met:
        raise AssertionError(message)


def _check_schema(cls: type[Component]) -> None:
    schema = cls.model_json_schema(by_alias=True)
    _expect(json.loads(json.dumps(schema)) == schema, f"the JSON schema of {cls.__name__} is not plain JSON")
    _expect(schema.get("additionalProperties") is False, f"the JSON schema of {cls.__name__} allows unknown keys")
    missing = {info.alias or field for field, info in cls.model_fields.items()} - set(schema["properties"])
    _expect(not missing, f"the JSON schema of {cls.__name__} lacks {', '.join(sorted(missing))}")


def _check_example(cls: type[Component], example: Mapping[str, Any]) -> None:
    context = collect(Host()).context
    options = cls.model_validate(dict(example), context=context)
    dumped = json.loads(json.dumps(options.model_dump(mode="json", by_alias=True)))
    back = cls.model_validate(dumped, context=context)
    _expect(back == options, f"{cls.__name__} does not come back from JSON: {options!r} became {back!r}")


def _check_import(module: str) -> None:
    code = f"import sys, {module}; print(*sorted(set(sys.modules) & set({HEAVY!r})))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    _expect(done.returncode == 0, f"{module} cannot be imported by itself:\n{done.stderr}")
    heavy = done.stdout.strip()
    _expect(not heavy, f"importing {module} imports {heavy}; import it inside the functions that need it")


def _check_chunk(chunk: Chunk, name: str, tokens: Mapping[str, list[int]], length: int) -> None:
    count = len(chunk.input_ids)
    _expect(1 <= count <= length, f"{name} has {count} tokens, not 1 to {length}")
    _expect(0 <= chunk.context_length < count, f"{name} masks {chunk.context_length} of its {count} tokens")
    _expect(0 <= chunk.reach < count, f"{name} has a reach of {chunk.reach} in {count} tokens")
    _check_masks(chunk, name)
    written = 0
    for span, offset in chunk.located():
        _expect(span.document_id in tokens, f"{name} has a span of a document that was never given: {span}")
        within = 0 <= span.start < span.end <= len(tokens[span.document_id])
        _expect(within, f"{name} has a span outside its document: {span}")
        _expect(offset >= written, f"{name} has a span over, or before, the one before it: {span}")
        written = offset + span.end - span.start
        there = chunk.input_ids[offset:written].tolist()
        _expect(there == tokens[span.document_id][span.start : span.end], f"{name} has other tokens at {span}")


def _check_masks(chunk: Chunk, name: str) -> None:
    end, masked = chunk.context_length, chunk.context_length
    for start, stop in chunk.masked:
        _expect(end <= start < stop <= len(chunk.input_ids), f"{name} masks from {start} to {stop} after {end}")
        end, masked = stop, masked + stop - start
    _expect(masked < len(chunk.input_ids), f"{name} masks all of its tokens")


def _is_cut(chunk: Chunk) -> bool:
    """Tell whether a chunk is its spans, one right after the other."""
    end = 0
    for span, offset in chunk.located():
        if offset != end:
            return False
        end = offset + span.end - span.start
    return end == len(chunk.input_ids)


def _trained(chunks: Sequence[Chunk], tokens: Mapping[str, list[int]]) -> dict[str, list[int]]:
    """Return the places in each document that are not masked, in the order of the chunks."""
    trained: dict[str, list[int]] = {document: [] for document in tokens}
    for chunk in chunks:
        masked = {place for start, stop in ((0, chunk.context_length), *chunk.masked) for place in range(start, stop)}
        for span, offset in chunk.located():
            places = range(span.start, span.end)
            trained[span.document_id] += [place for place in places if offset + place - span.start not in masked]
    return trained


def _check_once(trained: Mapping[str, list[int]]) -> None:
    for document, places in trained.items():
        twice = [place for place, count in Counter(places).items() if count > 1]
        _expect(not twice, f"document {document}: tokens are trained more than once: {_some(twice)}")
        _expect(places == sorted(places), f"document {document}: its chunks are out of order")


def _check_all_trained(trained: Mapping[str, list[int]], tokens: Mapping[str, list[int]]) -> None:
    for document, places in trained.items():
        if len(tokens[document]) > 1 or places:
            never = sorted(set(range(len(tokens[document]))) - set(places))
            _expect(not never, f"document {document}: tokens are never trained: {_some(never)}")


def _check_accounted(chunks: Sequence[Chunk], tokens: Mapping[str, list[int]], dropped: Mapping[str, int]) -> None:
    covered: dict[str, set[int]] = {document: set() for document in tokens}
    for span in (span for chunk in chunks for span in chunk.spans):
        covered[span.document_id].update(range(span.start, span.end))
    for document, ids in tokens.items():
        left = len(ids) - len(covered[document])
        said = dropped.get(document, 0)
        _expect(left == said, f"document {document}: {left} tokens are in no span, {said} are reported as dropped")


def _check_windows(chunks: Sequence[Chunk]) -> None:
    last: dict[str, tuple[int, int]] = {}
    for span in (span for chunk in chunks for span in chunk.spans):
        start, end = last.get(span.document_id, (-1, -1))
        _expect(span.start > start and span.end > end, f"{span} lies inside, or before, the window {start} to {end}")
        last[span.document_id] = span.start, span.end


def _some(indices: Sequence[int]) -> str:
    shown = 5
    return ", ".join(map(str, indices[:shown])) + (f" and {len(indices) - shown} more" if len(indices) > shown else "")


def _shape(chunk: Chunk) -> tuple[object, ...]:
    return chunk.input_ids.tolist(), chunk.located(), chunk.context_length, chunk.masked, chunk.reach
