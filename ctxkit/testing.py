"""Checks that a plugin's own tests can run: what the core expects of every component, in one call each.

    from ctxkit.testing import check_chunker, check_options

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

    from ctxkit.spec import Chunk, Chunker, Component, EncodedDocument

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


def check_chunker(chunker: Chunker, documents: Sequence[EncodedDocument], length: int) -> None:
    """Check what holds for every chunker that adds no tokens of its own and repeats none unmasked.

    Chunks have 1 to `length` tokens; they are the tokens of their spans; every token of a document is trained exactly
    once and in order (a document of fewer than 2 tokens may be left out, for it has nothing to predict); no window
    lies inside another; the documents are not changed; the same documents give the same chunks.

    Args:
        chunker: What the `build` of the options returns.
        documents: With ids that differ. Take care that some have 0, 1, `length` - 1, `length`, `length` + 1 and
            2 * `length` tokens: that is where chunkers go wrong.
        length: Tokens in the longest chunk.

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
    _check_trained(chunks, tokens)
    _check_windows(chunks)
    _expect([d.input_ids.tolist() for d in documents] == before, "the chunker changed the ids of its documents")
    again = [_shape(chunk) for chunk in chunker(documents)]
    _expect(again == [_shape(chunk) for chunk in chunks], "the same documents gave other chunks the second time")


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
    for span in chunk.spans:
        _expect(span.document_id in tokens, f"{name} has a span of a document that was never given: {span}")
        within = 0 <= span.start < span.end <= len(tokens[span.document_id])
        _expect(within, f"{name} has a span outside its document: {span}")
    spanned = [token for span in chunk.spans for token in tokens[span.document_id][span.start : span.end]]
    _expect(chunk.input_ids.tolist() == spanned, f"{name} holds other tokens than its spans point at")


def _check_trained(chunks: Sequence[Chunk], tokens: Mapping[str, list[int]]) -> None:
    trained: dict[str, list[int]] = {document: [] for document in tokens}
    for chunk in chunks:
        places = [(span.document_id, index) for span in chunk.spans for index in range(span.start, span.end)]
        for document, index in places[chunk.context_length :]:
            trained[document].append(index)
    for document, indices in trained.items():
        every = list(range(len(tokens[document])))
        twice = [index for index, count in Counter(indices).items() if count > 1]
        _expect(not twice, f"document {document}: tokens are trained more than once: {_some(twice)}")
        if len(every) > 1 or indices:
            never = sorted(set(every) - set(indices))
            _expect(not never, f"document {document}: tokens are never trained: {_some(never)}")
        _expect(indices == sorted(indices), f"document {document}: its chunks are out of order")


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
    return chunk.input_ids.tolist(), chunk.spans, chunk.context_length
