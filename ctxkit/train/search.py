"""The search for rotary factors: model and documents laid ready, measurements journaled, the result written whole."""

from __future__ import annotations

import copy
import hashlib
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from numpy.typing import NDArray
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from ctxkit import __version__
from ctxkit.errors import CtxkitError, DataError, ExitCode, ResumeError
from ctxkit.reading import Located
from ctxkit.recipe import ModelSection, Recipe, Stage
from ctxkit.rundir import read_json, write_json
from ctxkit.searches import MADE_BY, OPTIONS, chosen, differences, jsonable
from ctxkit.spec import Context, RopeSearch, RopeSearchContext
from ctxkit.train.blame import Blame
from ctxkit.train.disk import full_disk_said
from ctxkit.train.documents import Tokenisation
from ctxkit.train.evaluate import on_device
from ctxkit.train.journal import Journal, opened
from ctxkit.train.measuring import Measure
from ctxkit.train.model import base_config, make_model, original_window, request_model
from ctxkit.train.progress import Bar, say, track
from ctxkit.train.signals import StopSignal
from ctxkit.train.tokenizer import make_tokenizer

SAMPLES, SAMPLE_BYTES = 64, 4096
"""Of each file of weights: enough to know them by, since training changes all of them."""
WEIGHTS = ("*.safetensors", "*.bin", "config.json")


@dataclass(frozen=True)
class Prepared:
    """All that a search needs but the weights."""

    recipe: Recipe
    stage: Stage
    plan: RopeSearch
    context: Context
    config: PreTrainedConfig
    """Of the model that the recipe starts with."""
    window: int
    """The target, in tokens."""
    documents: tuple[NDArray[np.int32], ...]
    """Token ids, each of the target window."""

    @property
    def determined_by(self) -> dict[str, Any]:
        """What decides on the result."""
        model = self.recipe.model
        return jsonable(
            {
                OPTIONS: self.plan.determined_by,
                "model": {**_model_identity(model, self.config), "dtype": model.dtype},
                "original_window": self.context.original_max_position_embeddings,
                "documents": hashlib.sha256(b"".join(ids.tobytes() for ids in self.documents)).hexdigest()[:16],
            }
        )


def search_located(located: Located, stage_name: str | None) -> Path:
    """Search the factors of a stage's `rope`, as its recipe declares; return the file of the result.

    A finished search is recognised; a search that was stopped goes on where it was, and ends as it would have.

    Raises:
        CtxkitError: there is nothing to search, the file holds another search, or a signal came.
    """
    stage, plan = chosen(located.recipe, stage_name)
    transformers.utils.logging.disable_progress_bar()
    stop = StopSignal()
    with stop.installed(), full_disk_said(plan.file.absolute().parent):
        prepared = _prepare(located.recipe, stage, plan)
        determined_by = prepared.determined_by
        if plan.file.exists():
            _check_finished(plan.file, determined_by)
            say(f"{plan.file} is finished; nothing was searched again.")
            return plan.file
        with opened(journal_of(plan.file), determined_by) as journal:
            found = _search(prepared, journal)
            measured = {"evaluations": len(journal.known), MADE_BY: {"ctxkit": __version__, **determined_by}}
        write_json(plan.file, {**found, **measured})
    return plan.file


def _check_finished(file: Path, determined_by: dict[str, Any]) -> None:
    """Refuse a result that is that of another search.

    Raises:
        ResumeError: with what differs.
    """
    made_by = read_json(file).get(MADE_BY)
    if not isinstance(made_by, dict):
        raise ResumeError(f"{file} is not the result of a search", "name another file, or remove this one")
    before = {key: value for key, value in made_by.items() if key != "ctxkit"}
    if changes := differences(before, determined_by):
        raise ResumeError(
            "\n  ".join([f"{file} is the result of a search with other values:", *changes]),
            f"undo the change to keep it; or name another file, or remove this one and {journal_of(file)}",
        )


def journal_of(file: Path) -> Path:
    """Return the journal that lies beside a result."""
    return file.with_suffix(".journal.jsonl")


def _prepare(recipe: Recipe, stage: Stage, plan: RopeSearch) -> Prepared:
    """Read config, tokenizer and documents.

    Raises:
        CtxkitError: one of them cannot be read, or the model cannot be searched.
    """
    _check_measurable(recipe.model)
    if recipe.parent(stage) is not None:
        say(f"note: measured is {recipe.model.name_or_path}, which the recipe starts with, and not what the stages "
            f"before {stage.name} make of it")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = make_tokenizer(recipe, Context(seed=plan.seed, track=track), Path(folder) / "tokenizer")
    config = base_config(recipe.model, tokenizer)
    original = original_window(recipe.model, config)
    context = Context(plan.seed, tokenizer, original, track=track)
    window = stage.rope.window(original) if stage.rope is not None else original
    return Prepared(recipe, stage, plan, context, config, window, _documents(plan, context, tokenizer, window))


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
    plan: RopeSearch, context: Context, tokenizer: PreTrainedTokenizerBase, window: int
) -> tuple[NDArray[np.int32], ...]:
    """Return the ids of the first documents that are long enough, cut to the window; say how many were not.

    Raises:
        DataError: there are too few.
    """
    tokenisation = Tokenisation(tokenizer)
    found: list[NDArray[np.int32]] = []
    short = 0
    blame = Blame(plan.source, "as documents for a search were read")
    with blame:
        documents = plan.source.build(context)
    for document in context.track(blame.items(documents), "documents", 0):
        ids = tokenisation.chat(document) if document.messages else _begun(tokenisation, document.text, window)
        if len(ids) < window:
            short += 1
            continue
        found.append(ids[:window])
        if len(found) == plan.documents:
            break
    if len(found) < plan.documents:
        said = f"{len(found)} documents of the search's source have {window} tokens, and {short} are shorter"
        raise DataError(said, f"{plan.documents} are asked for: choose longer texts, or lower `documents`")
    say(f"measured on {len(found)} documents of {window} tokens ({short} before them were shorter)")
    return tuple(found)


def _begun(tokenisation: Tokenisation, text: str, window: int) -> NDArray[np.int32]:
    """Return the first ids of a text, at least a window of them where it has so many."""
    ids = tokenisation.begin.tolist()
    for block in tokenisation.encoder.blocks(text):
        if len(ids) >= window:
            break
        ids += tokenisation.encoder([block])[0]
    return np.array(ids, dtype=np.int32)


def _model_identity(model: ModelSection, config: PreTrainedConfig) -> dict[str, Any]:
    """Return what a model is known by: a folder by its content, wherever it lies; one of the hub by its commit."""
    folder = Path(str(model.name_or_path))
    known: dict[str, Any] = {"content": _content(folder)}
    if not folder.is_dir():
        commit = getattr(config, "_commit_hash", None)
        known = {"name": model.name_or_path, "revision": model.revision, "commit": commit}
    return {**known, "config": model.config, "quantization_config": model.quantization_config}


def _content(folder: Path) -> str:
    """Return a hash of a sample of the bytes of each file of weights."""
    digest = hashlib.sha256()
    for path in sorted(path for pattern in WEIGHTS for path in folder.glob(pattern)):
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}".encode())
        with path.open("rb") as file:
            for place in range(0, size, max(size // SAMPLES, SAMPLE_BYTES)):
                file.seek(place)
                digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()[:16]


def _search(prepared: Prepared, journal: Journal) -> dict[str, Any]:
    """Load the model, and let the kind search."""
    rope = prepared.stage.rope
    if rope is None:
        raise ValueError("the stage has no rope")
    say(f"loading {prepared.recipe.model.name_or_path}")
    request = request_model(prepared.recipe, prepared.stage, None, copy.deepcopy(prepared.config))
    model = on_device(make_model(request))
    text = prepared.config.get_text_config()
    with Bar("search", prepared.plan.evaluations) as bar:
        measure = Measure(model, prepared.config, prepared.context, prepared.documents, journal, bar)
        given = {field.name: getattr(prepared.context, field.name) for field in fields(Context)}
        context = RopeSearchContext(**given, config=copy.deepcopy(text), measure=measure)
        with Blame(rope, "in its search"):
            return dict(rope.run_search(context))
