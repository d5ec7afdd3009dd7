"""The tokenizer of a run: trained by the recipe, or loaded, then kept in the run directory."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from ctxkit.errors import CtxkitError, DataError, ExitCode
from ctxkit.recipe import Recipe, TokenizerTraining
from ctxkit.rundir import waiting_lock
from ctxkit.spec import Context, SourceOptions
from ctxkit.train.blame import Blame
from ctxkit.train.model import refusal
from ctxkit.train.progress import say
from ctxkit.train.templates import check_template

ADDED = "ctxkit_added_tokens"
"""Where the tokenizer's config names the special tokens that ctxkit added."""


def added_tokens(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the ids of the special tokens that were added for chunkers, and that no model has seen before."""
    vocabulary = tokenizer.get_vocab()
    return [vocabulary[token] for token in tokenizer.init_kwargs.get(ADDED, ())]


def make_tokenizer(recipe: Recipe, context: Context, folder: Path) -> PreTrainedTokenizerBase:
    """Return the run's tokenizer, from its folder if it was made before.

    Raises:
        DataError: it cannot be loaded, or has no end-of-text token.
    """
    with waiting_lock(folder.with_name(".tokenizer.lock")):  # several processes may prepare parts of the data
        return _made(recipe, context, folder)


def _made(recipe: Recipe, context: Context, folder: Path) -> PreTrainedTokenizerBase:
    if (folder / "tokenizer_config.json").exists():
        return load_tokenizer(str(folder), None)
    section, model = recipe.tokenizer, recipe.model
    if section.train:
        tokenizer: PreTrainedTokenizerBase = _trained(section.train, recipe, context)
    elif section.name_or_path:
        tokenizer = load_tokenizer(section.name_or_path, None)
    else:
        tokenizer = load_tokenizer(str(model.name_or_path), model.revision)
    if tokenizer.eos_token_id is None:
        raise DataError("the tokenizer has no end-of-text token", "documents could not be told apart; choose another")
    _add_special_tokens(tokenizer, recipe)
    temporary = folder.with_name(f"tokenizer.tmp-{os.getpid()}")
    tokenizer.save_pretrained(temporary)
    shutil.rmtree(folder, ignore_errors=True)  # one without its config is not whole
    temporary.replace(folder)
    return tokenizer


def _add_special_tokens(tokenizer: PreTrainedTokenizerBase, recipe: Recipe) -> None:
    """Add the tokens that chunkers insert and the tokenizer lacks; the model gets their embeddings when it loads."""
    vocabulary = tokenizer.get_vocab()
    chunkers = (chunker for stage in recipe.stages for chunker in stage.data.chunkers)
    wanted = (token for chunker in chunkers for token in chunker.special_tokens(vocabulary))
    lacking = [token for token in dict.fromkeys(wanted) if token not in vocabulary]
    if lacking:
        tokenizer.init_kwargs[ADDED] = lacking
        tokenizer.add_tokens(
            [AddedToken(token, special=True, normalized=False) for token in lacking], special_tokens=True
        )
        say(f"the tokenizer gets {len(lacking)} special tokens that the chunker inserts: {' '.join(lacking)}")


def load_tokenizer(name: str, revision: str | None) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a folder or of the hub.

    Raises:
        CtxkitError: with exit code 2, if there is none.
        DataError: its chat template does not come to an end.
    """
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            name, revision=revision, trust_remote_code=False
        )
    except Exception as error:
        raise CtxkitError(
            f"the tokenizer {name} cannot be loaded: {refusal(error)}", exit_code=ExitCode.RECIPE
        ) from error
    check_template(tokenizer, name)
    return tokenizer


def byte_tokenizer(training: TokenizerTraining) -> PreTrainedTokenizerFast:
    """Return a tokenizer whose tokens are the 256 bytes and the special ones."""
    return _of_texts(training, iter(()))


def _trained(training: TokenizerTraining, recipe: Recipe, context: Context) -> PreTrainedTokenizerFast:
    # With no room for merges there is nothing to learn from the text.
    return _of_texts(training, _texts(recipe, context) if training.vocab_size > training.smallest else iter(()))


def _of_texts(training: TokenizerTraining, texts: Iterator[str]) -> PreTrainedTokenizerFast:
    special = training.special_tokens
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=training.vocab_size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=training.bos_token,
        eos_token=training.eos_token,
        pad_token=training.pad_token,
        clean_up_tokenization_spaces=False,
    )


def _texts(recipe: Recipe, context: Context) -> Iterator[str]:
    """Yield the documents of every stage, each source once."""
    sources: dict[str, SourceOptions] = {}
    for stage in (stage for stage in recipe.stages if stage.trains):
        sources |= {source.model_dump_json(): source for source in stage.data.sources}
    for source in sources.values():
        blame = Blame(source, "as the tokenizer was trained on it")
        with blame:
            documents = source.build(context)
        for document in context.track(blame.items(documents), "tokenizer", 0):
            yield document.text
