"""The checks that need the training libraries: the last word of SFTConfig, the model's config, and the sources."""

from __future__ import annotations

import copy
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ctxkit.checks import beyond
from ctxkit.errors import CtxkitError, DataError, RecipeError
from ctxkit.identity import used
from ctxkit.reading import Located
from ctxkit.recipe import Recipe, Stage
from ctxkit.spec import Context, SourceOptions
from ctxkit.train.adapter import lora_config
from ctxkit.train.layout import own_layout
from ctxkit.train.model import base_config, original_window
from ctxkit.train.progress import say
from ctxkit.train.rope import ExtendedRope, rope_in_force
from ctxkit.train.start import check_shape, start_adapter
from ctxkit.train.trainer import sft_config


def validate_deep(located: Located) -> None:
    """Build all of a recipe that costs no training: arguments, scaled configs, the first document of each source.

    Raises:
        CtxkitError: the first thing that is refused.
    """
    recipe = located.recipe
    config = base_config(recipe.model, None)
    context = Context(original_max_position_embeddings=original_window(recipe.model, config))
    start = start_adapter(recipe.model, config, context.original_max_position_embeddings)
    if start is not None:
        check_shape(located, start)
    for stage in recipe.stages:
        with tempfile.TemporaryDirectory() as folder, own_layout():
            sft_config(located, stage, Path(folder))
        lora_config(located, stage)
        if stage.rope is not None:
            stage.rope.build(context)(copy.deepcopy(config).get_text_config())
    brought = start.rope if start else None
    check_windows(located, lambda stage: rope_in_force(recipe, stage, context, config, brought))
    check_sources(recipe, context)
    say("SFTConfig, the model's config and every source agree")


def check_windows(located: Located, rope: Callable[[Stage], ExtendedRope | None]) -> None:
    """Refuse rows beyond a window that only the config of the model, or of an adapter, could say.

    Raises:
        RecipeError: with every stage that has some.
    """
    windows = [(stage, found.window) for stage in located.recipe.stages if (found := rope(stage)) is not None]
    faults = [fault for stage, window in windows for fault in beyond(located, stage, window)]
    if faults:
        raise RecipeError(faults)


def check_sources(recipe: Recipe, context: Context) -> None:
    """Read the first document of every source, and ask every eval: nothing should be missed only after training.

    Without a tokenizer in the context the sources of evals are read like the others, and no more.

    Raises:
        CtxkitError: a source cannot be read or has no documents, or an eval cannot be made.
    """
    for stage in recipe.stages:
        for index, source in enumerate(stage.data.sources if stage.trains else ()):
            with placed(f"stage {stage.name}, data.sources.{index} (kind {source.kind})"):
                _first_document(context, source)
        for index, options in enumerate(stage.evals):
            for source in (part for part in used(options) if isinstance(part, SourceOptions)):
                with placed(f"stage {stage.name}, evals.{index} (kind {source.kind})"):
                    _first_document(context, source)
    if context.tokenizer is not None:
        _check_evals(recipe, context)


def _check_evals(recipe: Recipe, context: Context) -> None:
    distinct = {options.model_dump_json(): (stage, index, options) for stage in reversed(recipe.stages)
                for index, options in enumerate(stage.evals)}  # fmt: skip
    for stage, index, options in distinct.values():
        with placed(f"stage {stage.name}, evals.{index} (kind {options.kind})"):
            options.check(context)


def _first_document(context: Context, source: SourceOptions) -> None:
    skipped = Counter[str]()
    own = replace(context, skipped=lambda _document_id, reason: skipped.update({reason: 1}))
    if next(iter(source.build(own)), None) is None:
        left_out = ", ".join(f"{reason} ({count})" for reason, count in skipped.items())
        raise DataError("it yields no documents", f"left out: {left_out}" if left_out else "check paths and patterns")


@contextmanager
def placed(where: str) -> Iterator[None]:
    """Put the place into the message of an error."""
    try:
        yield
    except CtxkitError as error:
        error.message = f"{where}: {error.message}"
        raise
