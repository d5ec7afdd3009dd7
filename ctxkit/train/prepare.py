"""Preparing data without training: tokenizer and rows of every stage, in the directory that trains later."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from transformers import PreTrainedTokenizerBase

from ctxkit import identity
from ctxkit.errors import DiskError
from ctxkit.reading import Located
from ctxkit.recipe import Stage
from ctxkit.rundir import RunDirectory, waiting_lock
from ctxkit.settings import seed
from ctxkit.spec import Context
from ctxkit.train.data import build_dataset, open_sources, reading
from ctxkit.train.disk import full_disk_said
from ctxkit.train.documents import Tokenisation
from ctxkit.train.keys import DataKeys, data_keys
from ctxkit.train.progress import say, track
from ctxkit.train.rows import Prepared
from ctxkit.train.sharding import Shard
from ctxkit.train.signals import StopSignal
from ctxkit.train.tokenizer import make_tokenizer


def prepare_located(located: Located, directory: RunDirectory) -> None:
    """Prepare the data of every stage of a checked recipe; what is there whole stays.

    Raises:
        CtxkitError: with `exit_code` saying what kind of thing went wrong.
    """
    with directory.locked():
        directory.claim(identity.fingerprint(located.recipe))
        with StopSignal().installed(), full_disk_said(directory.path):
            context = data_context(located, directory)
            for stage in (stage for stage in located.recipe.stages if stage.trains):
                prepare_stage(stage, directory, context)


def data_context(located: Located, directory: RunDirectory) -> Context:
    """Return what components of the data path are built with, but for the seed of the stage."""
    context = Context(seed=seed(located.recipe.stages[0]), track=track)
    return replace(context, tokenizer=make_tokenizer(located.recipe, context, directory.tokenizer))


def prepare_stage(stage: Stage, directory: RunDirectory, context: Context) -> tuple[str, Prepared]:
    """Return the key and the rows of a stage's data, and record where they lie."""
    # Data does not depend on the model: `ctxkit data` knows none, and makes the same.
    context = replace(context, seed=seed(stage), original_max_position_embeddings=0)
    keys = data_keys(stage.data, context, directory.tokenizer)
    prepared = build_dataset(stage.data, context, directory.path / "data", keys)
    directory.record_data(stage.name, keys.rows)
    made = prepared.manifest["train"]
    say(
        f"stage {stage.name}: {made['rows']:,} rows, {made['tokens_trained']:,} tokens to train on, "
        f"{made['efficiency']:.1%} of the window filled"
    )
    return keys.rows, prepared


def prepare_shard(located: Located, directory: RunDirectory, shard: Shard) -> None:
    """Tokenise part i of n of every source; `prepare_located` puts the parts together once all are there.

    Raises:
        CtxkitError: with `exit_code` saying what kind of thing went wrong.
    """
    own = identity.fingerprint(located.recipe)
    try:
        with waiting_lock(directory.path / ".parts.lock"):
            if not (directory.path / "recipe.yaml").exists():
                directory.claim(own)
            directory.holds(own)
    except OSError as error:
        message = f"the run directory {directory.path} cannot be written: {error.strerror}"
        raise DiskError(message, "choose another with --run-dir") from error
    with StopSignal().installed(), full_disk_said(directory.path):
        _tokenise_part(located, directory, shard)


def _tokenise_part(located: Located, directory: RunDirectory, shard: Shard) -> None:
    context = data_context(located, directory)
    tokenisation = Tokenisation(cast("PreTrainedTokenizerBase", context.tokenizer))
    for stage in (stage for stage in located.recipe.stages if stage.trains):
        own = replace(context, seed=seed(stage))
        keys = data_keys(stage.data, own, directory.tokenizer)
        part = DataKeys(keys.rows, tuple(shard.name(key) for key in keys.stores))
        how = replace(reading(stage.data, own), shard=(shard.index, shard.count))
        for source in open_sources(stage.data, directory.data("tokens"), part, tokenisation, how):
            for _ in own.track(source.read_all(), f"data: {stage.name}, part {shard}", 0):
                pass
            source.close()
