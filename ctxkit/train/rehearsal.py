"""A rehearsal: find out what of a recipe can be reached, put small things in the place of the rest, and check it."""

from __future__ import annotations

import shutil
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from ctxkit import checks
from ctxkit.errors import CtxkitError, ExitCode
from ctxkit.host import Host
from ctxkit.reading import Located
from ctxkit.recipe import ModelSection, Recipe, TokenizerTraining
from ctxkit.registry import Registry
from ctxkit.rehearsal import Change, Found, components, halvings, longest, rehearsed, said, toy_config
from ctxkit.rundir import RunDirectory, write_json
from ctxkit.spec import Context, SourceOptions
from ctxkit.train.model import refusal
from ctxkit.train.progress import say
from ctxkit.train.tokenizer import byte_tokenizer

SHOWN = 10
"""Of a run directory: what stands in for model, tokenizer and sources; its being there says that it is a rehearsal."""
TEXTS = 24
"""Documents of a stand-in."""
CHARACTERS_OF_TOKEN = 8
"""More characters than a token has, on average: documents must fill the longest window."""
LEAST_CHARACTERS = 4096
"""Of a long document of a stand-in, however small the windows are."""
BYTES = TokenizerTraining(vocab_size=258)
CHAT = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def rehearse(located: Located, host: Host, registry: Registry, directory: RunDirectory) -> Located:
    """Return a recipe made small, what replaces its model and sources written to the run directory; say every change.

    Raises:
        CtxkitError: the recipe, its model or a source is wrong, or nothing is known of a model that cannot be reached.
    """
    folder = directory.rehearsal.parent
    transformers.utils.logging.disable_progress_bar()
    with directory.locked():
        _clear(directory, folder)
        recipe = located.recipe
        config = None if recipe.model.name_or_path is None else _config(recipe.model)
        window = checks.original_window(located) or (config or {}).get("max_position_embeddings")
        halved = halvings(recipe, window)
        tokenizer = byte_tokenizer(BYTES) if recipe.tokenizer.train else _tokenizer(recipe)
        model = _model(recipe, config, halved, folder, tokenizer)
        size = 2 * _characters_of_token(recipe, tokenizer) * longest(recipe, window) >> halved
        full = config or AutoConfig.for_model(**(recipe.model.config or {})).get_text_config().to_dict()
        found = Found(halved, tuple(model), _stand_ins(recipe, folder, max(size, LEAST_CHARACTERS)), full, window or 1)
        tree, changes = rehearsed(located, found)
    say("rehearsal: the recipe is made small; what changes:")
    for line in said(changes, recipe):
        say(f"  {line}")
    return checks.checked(tree, registry, host, located.file)


def _clear(directory: RunDirectory, folder: Path) -> None:
    """Begin anew: a rehearsal before may have been one of a recipe that was mended since.

    Nothing is removed but from a directory that was empty when a rehearsal made it its own.
    """
    found = [path for path in directory.path.iterdir() if path.name != ".lock"]
    if found and not directory.rehearsed:
        names = ", ".join(sorted(path.name for path in found)[:SHOWN])
        said = f"{directory.path} holds {names}, and no rehearsal"
        raise CtxkitError(said, "choose another --run-dir, or an empty one", exit_code=ExitCode.RESUME)
    directory.rehearsal.parent.mkdir(exist_ok=True)
    write_json(directory.rehearsal, {"made_by": "ctxkit run --rehearse"})
    for path in found:
        if path != folder:
            _remove(path)
    for path in folder.iterdir():
        if path != directory.rehearsal:
            _remove(path)


def _remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all in it; what a link leads to stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _config(model: ModelSection) -> dict[str, Any]:
    """Return the config of a model with weights, or the default one of its architecture where it cannot be reached."""
    name = str(model.name_or_path)
    try:
        config: Any = AutoConfig.from_pretrained(name, revision=model.revision, trust_remote_code=False)
    except Exception as error:
        if not unreached(error):
            raise CtxkitError(f"model: no config can be made: {refusal(error)}", exit_code=ExitCode.RECIPE) from error
        kind = _architecture(name)
        say(f"STAND-IN: the config of {name} cannot be reached from here; the rehearsal has the default one of {kind}")
        config = AutoConfig.for_model(kind)
    values: dict[str, Any] = config.get_text_config().to_dict()
    return {**values, **(model.config or {})}


def _architecture(name: str) -> str:
    """Return the model type that the name of a model begins with or holds, as transformers writes it.

    Raises:
        CtxkitError: there is none.
    """
    plain = "".join(char for char in name.rpartition("/")[2].lower() if char.isalnum())
    kinds = [kind for kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES if kind.replace("_", "") in plain]
    if not kinds:
        said = f"the config of {name} cannot be reached, and its name does not say its architecture"
        raise CtxkitError(said, f"hf download {name} config.json", exit_code=ExitCode.RECIPE)
    return max(kinds, key=len)


def _characters_of_token(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return as many characters as a token has on average, or more; one of bytes has one at most."""
    return CHARACTERS_OF_TOKEN if recipe.tokenizer.train or len(tokenizer) > BYTES.vocab_size else 1


def _model(
    recipe: Recipe, config: dict[str, Any] | None, halved: int, folder: Path, tokenizer: PreTrainedTokenizerBase
) -> Iterator[Change]:
    """Write model and tokenizer, and yield what then replaces them in the recipe."""
    if config is None:
        stated = dict(recipe.model.config or {})
        for name, value in toy_config(stated, halved).items():
            yield Change(("model", "config", name), value, "small, of the same architecture")
        if recipe.tokenizer.name_or_path:
            tokenizer.save_pretrained(folder / "tokenizer")
            yield Change(("tokenizer", "name_or_path"), str(folder / "tokenizer"), "the tokenizer, or its stand-in")
        return
    toy = toy_config(config, halved)
    torch.manual_seed(0)
    made = {**toy, "vocab_size": len(tokenizer), "dtype": "float32"}
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    made_config = AutoConfig.for_model(**made, **ids)
    AutoModelForCausalLM.from_config(made_config, trust_remote_code=False).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    why = "random weights, small, of the same architecture"
    yield Change(("model", "name_or_path"), str(folder / "model"), why)
    yield Change(("model", "revision"), None, why)
    for name in recipe.model.config or {}:
        yield Change(("model", "config", name), toy.get(name), "lengths shrink alike")
    if recipe.tokenizer.name_or_path:
        yield Change(("tokenizer", "name_or_path"), str(folder / "model"), "it lies beside the small model")


def _tokenizer(recipe: Recipe) -> PreTrainedTokenizerBase:
    """Return the real tokenizer, or one of bytes where it cannot be reached."""
    stated = recipe.tokenizer.name_or_path
    name, revision = (stated, None) if stated else (str(recipe.model.name_or_path), recipe.model.revision)
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            name, revision=revision, trust_remote_code=False
        )
    except Exception as error:
        if not unreached(error):
            said = f"the tokenizer {name} cannot be loaded: {refusal(error)}"
            raise CtxkitError(said, exit_code=ExitCode.RECIPE) from error
        say(f"STAND-IN: the tokenizer {name} cannot be reached from here; the rehearsal has one of bytes")
        tokenizer = byte_tokenizer(BYTES)
        tokenizer.chat_template = CHAT
    return tokenizer


UNREACHED = frozenset({"LocalEntryNotFoundError", "GatedRepoError"})
"""Errors of the hub: not there and not to be asked, or asked and not allowed without a licence accepted."""


def unreached(error: BaseException | None) -> bool:
    """Return whether an error says that something lies where this machine cannot look, rather than that it is wrong."""
    while error is not None:
        if isinstance(error, ConnectionError | TimeoutError) or type(error).__name__ in UNREACHED:
            return True
        error = error.__cause__ or error.__context__
    return False


def _stand_ins(recipe: Recipe, folder: Path, longest: int) -> dict[tuple[str, ...], dict[str, Any]]:
    """Return the options that replace those of each source that cannot be reached, by path."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    made: dict[str, dict[str, Any] | None] = {}
    for path, source in components(recipe):
        if isinstance(source, SourceOptions):
            key = source.model_dump_json(exclude={"weight", "max_tokens", "chunker"})
            if key not in made:
                made[key] = _stand_in(source, folder / f"source-{len(made)}", len(made), longest)
            if (options := made[key]) is not None:
                found[path] = options
    return found


def _stand_in(source: SourceOptions, folder: Path, number: int, longest: int) -> dict[str, Any] | None:
    if not source.remote():
        return None
    try:
        next(iter(source.build(Context())), None)
    except CtxkitError as error:
        if not unreached(error):
            raise
        folder.mkdir(parents=True)
        say(f"STAND-IN: {error.message}; the rehearsal reads Python's own library in its place")
        return dict(source.stand_in(folder, _texts(number, longest)))
    return None


def _texts(number: int, longest: int) -> list[str]:
    """Return texts of Python's own library: some long ones, some short; those of other numbers begin elsewhere."""
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    first = number * 40 % len(files)
    text = "\n".join(path.read_text("utf-8", "replace") for path in files[first:] + files[:first])
    size = min(longest, len(text) // TEXTS)
    pieces = [text[index * size : (index + 1) * size] for index in range(TEXTS)]
    return [piece if index % 3 else piece[: size // 32] for index, piece in enumerate(pieces, 1)]
