"""Whether what a chunker gives is a `Chunk` at all, before it is held against the documents."""

from __future__ import annotations

from typing import Final

import numpy as np

from ctxkit.errors import SAID
from ctxkit.spec import Chunk, Span

WHOLE: Final = (int, np.integer)
"""Types of whole numbers."""


def malformed(chunk: object) -> str:
    """Return why what a chunker gave is no chunk, whatever its documents are; or an empty string.

    Takes a time that grows with the spans and masks, not with the tokens.
    """
    if not isinstance(chunk, Chunk) or not isinstance(chunk.input_ids, np.ndarray):
        return "something that is no `Chunk` of an array of ids"
    ids = chunk.input_ids
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        return f"ids of shape {ids.shape} and type {ids.dtype}, where whole numbers in a row are wanted"
    return _spans(chunk.spans) or _pairs("masked", chunk.masked) or _pairs("skips", chunk.skips) or _numbers(chunk)


def _spans(spans: object) -> str:
    if not isinstance(spans, tuple | list):
        return f"the spans {_shown(spans)}, where a tuple is wanted"
    wrong = [span for span in spans if not _is_span(span)]
    wanted = "where a `Span` of a document's id and whole numbers is wanted"
    return f"the span {_shown(wrong[0])}, {wanted}" if wrong else ""


def _is_span(value: object) -> bool:
    if not isinstance(value, Span) or not isinstance(value.document_id, str):
        return False
    offset = 0 if value.offset is None else value.offset
    return isinstance(value.start, WHOLE) and isinstance(value.end, WHOLE) and isinstance(offset, WHOLE)


def _pairs(name: str, value: object) -> str:
    if isinstance(value, tuple | list) and all(map(_is_pair, value)):
        return ""
    return f"{name}={_shown(value)}, where pairs of whole numbers are wanted"


def _is_pair(value: object) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2 and all(isinstance(place, WHOLE) for place in value)


def _numbers(chunk: Chunk) -> str:
    given: dict[str, object] = {"context_length": chunk.context_length, "reach": chunk.reach}
    for name, value in given.items():
        if not isinstance(value, WHOLE):
            return f"{name}={_shown(value)}, where a whole number is wanted"
    return ""


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SAID else f"{text[:SAID]}..."
