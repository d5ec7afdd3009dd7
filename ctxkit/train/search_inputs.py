"""What a search begins with, but for the weights: config, tokenizer and documents, and what all of it is known by."""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedConfig

from ctxkit.errors import CtxkitError, DataError, ExitCode
from ctxkit.recipe import ModelSection, Recipe, Stage
from ctxkit.searches import OPTIONS, jsonable
from ctxkit.spec import Context, Document, RopeOptions, RopeSearch
from ctxkit.train.blame import Blame
from ctxkit.train.documents import Tokenisation
from ctxkit.train.known import known_by
from ctxkit.train.model import base_config, original_window
from ctxkit.train.progress import say, track
from ctxkit.train.tokenizer import make_tokenizer


@dataclass(frozen=True)
class SearchInputs:
    """All that a search needs but the weights."""

    recipe: Recipe
    stage: Stage
    rope: RopeOptions
    plan: RopeSearch
    context: Context
    config: PreTrainedConfig
    """Of the model that the recipe starts with."""
    documents: tuple[NDArray[np.int32], ...]
    """Token ids, each of the target window."""

    @property
    def determined_by(self) -> dict[str, Any]:
        """What decides on the result, as plain values."""
        model = self.recipe.model
        return jsonable(
            {
                OPTIONS: self.plan.determined_by,
                "model": {**known_by(model, self.config), "dtype": model.dtype},
                "original_window": self.context.original_max_position_embeddings,
                "documents": hashlib.sha256(b"".join(ids.tobytes() for ids in self.documents)).hexdigest()[:16],
            }
        )


def search_inputs(recipe: Recipe, stage: Stage, rope: RopeOptions, plan: RopeSearch) -> SearchInputs:
    """Read config, tokenizer and documents.

    Raises:
        CtxkitError: one of them cannot be read, or the model cannot be searched.
    """
    _check_measurable(recipe.model)
    if recipe.parent(stage) is not None:
        say(
            f"note: measured is {recipe.model.name_or_path}, which the recipe starts with, and not what the stages "
            f"before {stage.name} make of it"
        )
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = make_tokenizer(recipe, Context(seed=plan.seed, track=track), Path(folder) / "tokenizer")
    config = base_config(recipe.model, tokenizer)
    context = Context(plan.seed, tokenizer, original_window(recipe.model, config), track=track)
    window = rope.window(context.original_max_position_embeddings)
    return SearchInputs(
        recipe, stage, rope, plan, context, config, _documents(plan, context, Tokenisation(tokenizer), window)
    )


def _check_measurable(model: ModelSection) -> None:
    """Refuse what has no weights of its own, or more of them than are measured.

    Raises:
        CtxkitError: with exit code 2.
    """
    hint = "state model.name_or_path, such as the model of a finished run"
    if model.name_or_path is None:
        said = "a fresh model has random weights, and no factors suit them better than others"
        raise CtxkitError(said, hint, exit_code=ExitCode.RECIPE)
    if model.adapter_name_or_path is not None:
        said = "the search measures a model as it lies in one folder, and this one starts with an adapter beside it"
        raise CtxkitError(said, f"merge the adapter first; then {hint}", exit_code=ExitCode.RECIPE)


def _documents(
    plan: RopeSearch, context: Context, tokenisation: Tokenisation, window: int
) -> tuple[NDArray[np.int32], ...]:
    """Return the ids of the first documents that are long enough, cut to the window; say what was passed over.

    Raises:
        DataError: there are too few.
    """
    passed = Counter[str]()
    reading = replace(context, skipped=lambda _, reason: passed.update({reason: 1}))
    documents = _long_ones(plan, reading, tokenisation, window, passed)
    found = tuple(islice(context.track(documents, "documents", plan.documents), plan.documents))
    before = ", ".join(f"{count} {reason}" for reason, count in passed.items()) or "none"
    if len(found) < plan.documents:
        said = f"{len(found)} documents of the search's source have {window} tokens; passed over: {before}"
        raise DataError(said, f"{plan.documents} are asked for: choose longer texts, or lower `documents`")
    say(f"measured on {len(found)} documents of {window} tokens; passed over: {before}")
    return found


def _long_ones(
    plan: RopeSearch, context: Context, tokenisation: Tokenisation, window: int, passed: Counter[str]
) -> Iterator[NDArray[np.int32]]:
    """Yield the first tokens of each document that has enough, and count the others."""
    blame = Blame(plan.source, "as documents for a search were read")
    with blame:
        documents = plan.source.build(context)
    for document in blame.items(documents):
        ids = _first_ids(tokenisation, document, window)
        if len(ids) == window:
            yield ids
        else:
            passed["shorter"] += 1


def _first_ids(tokenisation: Tokenisation, document: Document, count: int) -> NDArray[np.int32]:
    """Return the first ids of a document, its begin token included; as many as asked for, where it has so many."""
    if document.messages:
        return tokenisation.chat(document)[:count]
    ids = tokenisation.begin.tolist()
    for block in tokenisation.encoder.blocks(document.text):
        if len(ids) >= count:
            break
        ids += tokenisation.encoder([block])[0]
    return np.array(ids[:count], dtype=np.int32)
