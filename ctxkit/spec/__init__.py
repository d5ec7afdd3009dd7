"""The contract: all that a plugin may import, beside `ctxkit.errors`. Within a minor version it only grows."""

from ctxkit.spec.data import Chunk, Document, EncodedDocument, Span
from ctxkit.spec.events import ModelRequest, RunFinished, RunStarted, StageFinished, TrainerRequest
from ctxkit.spec.markers import hookimpl
from ctxkit.spec.options import (
    SLOTS,
    CallbackOptions,
    CallbackSlot,
    ChunkerOptions,
    ChunkerSlot,
    Component,
    EvalOptions,
    EvalSlot,
    FilterOptions,
    FilterSlot,
    Options,
    RopeOptions,
    RopeSlot,
    Slot,
    SourceOptions,
    SourceSlot,
)
from ctxkit.spec.reports import EvalReport, Measurement, Sample
from ctxkit.spec.roles import Callback, Chunker, Context, Eval, Filter, RopeFrequencies, RopeScaler

__all__ = [
    "SLOTS",
    "Callback",
    "CallbackOptions",
    "CallbackSlot",
    "Chunk",
    "Chunker",
    "ChunkerOptions",
    "ChunkerSlot",
    "Component",
    "Context",
    "Document",
    "EncodedDocument",
    "Eval",
    "EvalOptions",
    "EvalReport",
    "EvalSlot",
    "Filter",
    "FilterOptions",
    "FilterSlot",
    "Measurement",
    "ModelRequest",
    "Options",
    "RopeFrequencies",
    "RopeOptions",
    "RopeScaler",
    "RopeSlot",
    "RunFinished",
    "RunStarted",
    "Sample",
    "Slot",
    "SourceOptions",
    "SourceSlot",
    "Span",
    "StageFinished",
    "TrainerRequest",
    "hookimpl",
]
