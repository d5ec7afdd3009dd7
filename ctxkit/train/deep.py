"""The checks that need the training libraries: the last word of SFTConfig, the model's config, and the sources."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path

from ctxkit.errors import CtxkitError, DataError
from ctxkit.identity import used
from ctxkit.reading import Located
from ctxkit.recipe import Recipe
from ctxkit.spec import Context, SourceOptions
from ctxkit.train.model import base_config, original_window
from ctxkit.train.progress import say
from ctxkit.train.trainer import sft_config


def validate_deep(located: Located) -> None:
    """Build all of a recipe that costs no training: arguments, scaled configs, the first document of each source.

    Raises:
        CtxkitError: the first thing that is refused.
    """
    recipe = located.recipe
    config = base_config(recipe.model, None)
    context = Context(original_max_position_embeddings=original_window(recipe.model, config))
    for stage in recipe.stages:
        with tempfile.TemporaryDirectory() as folder:
            sft_config(located, stage, Path(folder))
        if stage.rope is not None:
            stage.rope.build(context)(copy.deepcopy(config))
    check_sources(recipe, context)
    say("SFTConfig, the model's config and every source agree")


def check_sources(recipe: Recipe, context: Context) -> None:
    """Read the first document of every source, those of the evals included: none should be missed after training.

    Raises:
        CtxkitError: a source cannot be read, or has none.
    """
    for stage in recipe.stages:
        parts = [(f"data.sources.{index}", source) for index, source in enumerate(stage.data.sources)]
        for index, options in enumerate(stage.evals):
            parts += [
                (f"evals.{index}", used_source)
                for used_source in used(options)
                if isinstance(used_source, SourceOptions)
            ]
        for where, source in parts:
            _first_document(context, source, f"stage {stage.name}, {where} (kind {source.kind})")


def _first_document(context: Context, source: SourceOptions, where: str) -> None:
    try:
        if next(iter(source.build(context)), None) is None:
            raise DataError("it yields no documents", "check its paths and patterns")
    except CtxkitError as error:
        error.message = f"{where}: {error.message}"
        raise
