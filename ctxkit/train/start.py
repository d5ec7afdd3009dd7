"""The adapter that a recipe starts with: where it lies, which RoPE it was trained with, whether stages can go on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from peft import LoraConfig, PeftConfig
from transformers import PreTrainedConfig

from ctxkit.errors import CtxkitError, ExitCode, Fault, RecipeError
from ctxkit.identity import ADAPTER_FILES
from ctxkit.reading import Located
from ctxkit.recipe import MODEL, ModelSection, Stage
from ctxkit.train.adapter import CONFIG, lora_config
from ctxkit.train.model import refusal
from ctxkit.train.progress import say
from ctxkit.train.rope import FIELDS, SCALED_LAYERS, ExtendedRope
from ctxkit.train.saved_adapter import SavedAdapter, read_adapter

NOT_SHAPE = frozenset({"base_model_name_or_path", "revision", "inference_mode", "peft_version", "auto_mapping"}) | {
    "task_type",
    "init_lora_weights",
    "runtime_config",
}
"""Fields of LoraConfig that say where an adapter comes from or how it began, not what it is."""


@dataclass(frozen=True)
class StartAdapter:
    """A trained adapter that lies around the model before the first stage."""

    name: str
    """As the recipe has it."""
    folder: Path
    rope: ExtendedRope | None
    """The RoPE it was trained with, where that is another than the model's own."""


def start_adapter(model: ModelSection, base: PreTrainedConfig, original: int) -> StartAdapter | None:
    """Return the adapter that a recipe starts with, or None where it names none.

    A config beside the adapter says which RoPE it was trained with, as ctxkit and nobody else writes it; without one it
    is taken to be the model's own.

    Args:
        model: The section of the recipe.
        base: The config of the model that the recipe starts with, unscaled.
        original: Its pre-training window in tokens.

    Raises:
        CtxkitError: with exit code 2, if it cannot be found, is damaged, was trained beside another architecture, or
            belongs around weights with other adapters merged into them, which are not those of the model.
    """
    if model.adapter_name_or_path is None:
        return None
    name = model.adapter_name_or_path
    folder = adapter_folder(name)
    saved = read_adapter(folder, name)
    _check_beside(name, saved, model.name_or_path)
    return StartAdapter(name, folder, _rope(name, saved.model, base, original))


def _check_beside(name: str, saved: SavedAdapter, model: str | None) -> None:
    """Refuse an adapter whose weights are not the model's, and say where they have another name.

    Raises:
        CtxkitError: with exit code 2.
    """
    beside = f"the adapter {name} was trained beside {saved.beside}"
    if saved.merged:
        said = f"{beside}: beside the plain weights of {model} it means nothing, and those merged adapters are missing"
        hint = (
            "in the recipe that trained it, add a stage after it with `adapter: null` and `train: {max_steps: 0}`: it "
            "saves all in one. Name its folder in model.name_or_path, and leave model.adapter_name_or_path out"
        )
        raise CtxkitError(said, hint, exit_code=ExitCode.RECIPE)
    if saved.beside and model and not _same(saved.beside, model):
        say(f"{beside}, and model.name_or_path is {model}: if those are other weights, it does not belong here")


def _same(one: str, other: str) -> bool:
    """Return whether two names are one model: the same words, or the same folder."""
    return one == other or (Path(one).is_dir() and Path(one).resolve() == Path(other).resolve())


def adapter_folder(name: str) -> Path:
    """Return the folder of a trained adapter, fetched from the hub unless there is a folder of that name.

    A name of the hub may end in `@` and a revision.

    Raises:
        CtxkitError: with exit code 2, if there is none.
    """
    folder = Path(name)
    try:
        if not folder.is_dir():
            repository, _, revision = name.partition("@")
            folder = Path(snapshot_download(repository, revision=revision or None, allow_patterns=list(ADAPTER_FILES)))
    except Exception as error:
        said = f"the adapter {name} cannot be loaded: {refusal(error)}"
        raise CtxkitError(said, "see model.adapter_name_or_path", exit_code=ExitCode.RECIPE) from error
    if not (folder / CONFIG).is_file():
        said = f"there is no adapter in {name}: it has no {CONFIG}"
        raise CtxkitError(said, "name a folder that peft saved", exit_code=ExitCode.RECIPE)
    return folder


def _rope(name: str, saved: Any, base: PreTrainedConfig, original: int) -> ExtendedRope | None:
    if saved is None:
        say(f"the adapter {name} names no RoPE: it is taken to be trained with the model's own")
        return None
    if saved.model_type != base.model_type:
        said = f"the adapter {name} was trained beside a {saved.model_type}, and the model is a {base.model_type}"
        raise CtxkitError(said, "see model.adapter_name_or_path", exit_code=ExitCode.RECIPE)
    text, own = saved.get_text_config(), base.get_text_config()
    if all(getattr(text, field, None) == getattr(own, field, None) for field in FIELDS):
        return None
    window = int(text.max_position_embeddings)
    said = f"the adapter {name} was trained with {_described(text.rope_parameters)} and a window of {window} tokens"
    say(f"{said}: that RoPE holds until a stage scales the model's own by its `rope`")
    return ExtendedRope(None, original, window, saved)


def _described(parameters: dict[str, Any]) -> str:
    parameters = parameters.get(SCALED_LAYERS) or parameters
    stated = [f"{name} {parameters[name]:g}" for name in ("factor", "rope_theta") if name in parameters]
    return f"RoPE {', '.join([str(parameters.get('rope_type', 'default')), *stated])}"


def check_shape(located: Located, adapter: StartAdapter) -> None:
    """Refuse to go on with an adapter that is another than a stage says, which peft would do without a word.

    Raises:
        RecipeError: names each field that differs.
    """
    faults = [fault for stage in _going_on(located) for fault in _differences(located, stage, adapter)]
    if faults:
        raise RecipeError(faults)


def _going_on(located: Located) -> Iterator[Stage]:
    for stage in located.recipe.stages:
        if stage.adapter is not None and located.recipe.start(stage).adapter == MODEL:
            yield stage


def _differences(located: Located, stage: Stage, adapter: StartAdapter) -> Iterator[Fault]:
    wanted: Any = lora_config(located, stage)
    saved: Any = PeftConfig.from_pretrained(str(adapter.folder))
    hint = "write the same, or `parent_adapter: merge` for a new one, or leave `adapter` out to train all weights"
    if not isinstance(saved, LoraConfig):
        said = f"the adapter {adapter.name} is no LoRA but {saved.peft_type}, which a stage cannot go on with"
        yield located.fault(stage.name, ("adapter",), said, hint)
        return
    asked, found = asdict(wanted), asdict(saved)
    for field in asked.keys() - NOT_SHAPE:
        if field == "target_modules" and asked[field] in (None, "all-linear"):
            continue  # which modules that means, peft only says of a model
        if field == "ensure_weight_tying" and field not in (stage.adapter or {}):
            continue  # it follows from the model
        if _comparable(asked[field]) != _comparable(found.get(field)):
            said = f"is {_shown(asked[field])}, and {_shown(found.get(field))} in the adapter {adapter.name}"
            yield located.fault(stage.name, ("adapter", field), said, hint)


def _comparable(value: Any) -> Any:
    """Return a value so that order, and what stands for nothing, make no difference."""
    if isinstance(value, list | tuple | set):
        return sorted(value, key=str) or None
    return value or None if isinstance(value, dict) else value


def _shown(value: Any) -> str:
    return str(sorted(value, key=str) if isinstance(value, set) else value)
