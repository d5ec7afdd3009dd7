"""The checks that need the training libraries: the last word of SFTConfig, the model's config, and the sources."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path

from ctxkit.errors import CtxkitError, DataError
from ctxkit.recipe import Located
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
        for index, source in enumerate(stage.data.sources):
            _first_document(context, source, f"{stage.name}: data.sources.{index}")
    say("SFTConfig, the model's config and every source agree")


def _first_document(context: Context, source: SourceOptions, where: str) -> None:
    """Read one document of a source.

    Raises:
        DataError: there is none.
    """
    documents = iter(source.build(context))
    try:
        if next(documents, None) is None:
            raise DataError(f"{where} yields no documents", "check its paths and patterns")
    except CtxkitError as error:
        error.message = f"{where}: {error.message}"
        raise
