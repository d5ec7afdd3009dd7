"""Any model measured by a suite, without a recipe: `ctxkit eval`."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers
from accelerate import PartialState
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.peft_utils import find_adapter_config_file

from ctxkit import identity, launch, provenance, yaml_core
from ctxkit.errors import CtxkitError, ExitCode, ResumeError, StoppedError
from ctxkit.host import Host
from ctxkit.recipe import MODEL, ModelSection
from ctxkit.rundir import RunDirectory, read_json, wait_for, write_json, write_text
from ctxkit.spec import Context, EvalReport
from ctxkit.suites import Suite
from ctxkit.train.adapter import with_adapter
from ctxkit.train.deep import placed
from ctxkit.train.evaluate import evaluate, on_device
from ctxkit.train.head import with_head_bias
from ctxkit.train.known import known_by
from ctxkit.train.layout import whole_weights
from ctxkit.train.model import base_config, original_window, request_model
from ctxkit.train.progress import say, track
from ctxkit.train.rope import check_rope
from ctxkit.train.signals import StopSignal
from ctxkit.train.start import StartAdapter, adapter_folder, start_adapter
from ctxkit.train.tokenizer import load_tokenizer
from ctxkit.train.trainer import CoreHooks


def evaluate_suite(suite: Suite, host: Host, directory: RunDirectory, command: list[str]) -> tuple[EvalReport, ...]:
    """Measure a model and leave the reports in a directory; what is measured there already is not measured again.

    Raises:
        CtxkitError: the model cannot be measured, or the directory holds the results of another.
    """
    transformers.utils.logging.disable_progress_bar()
    host.register(CoreHooks(), "core")
    if launch.world_size() > 1:
        PartialState()  # gives each process its device
    suite = suite.model_copy(update={"model": _resolved(suite.model)})
    stop = StopSignal()
    if launch.rank() != 0:
        wait_for(directory.path / "suite.yaml")
        with stop.installed():
            return _measured(_Measured.of(suite, host), directory)
    measured = _Measured.of(suite, host)
    _check_free(directory)
    with directory.locked(), stop.installed():
        try:
            _claim(measured, directory, command)
            reports = _measured(measured, directory)
            _check_any(reports)
        except CtxkitError as error:
            _record_end(directory, error)
            raise
        directory.update(status="done", error=None, exit_code=int(ExitCode.DONE))
        return reports


def _resolved(model: ModelSection) -> ModelSection:
    """Return the section in which what is named is the model, and the adapter around it where that was named."""
    name = str(model.name_or_path)
    if model.adapter_name_or_path is not None or find_adapter_config_file(name, revision=model.revision) is None:
        return model
    base = read_json(adapter_folder(name) / "adapter_config.json").get("base_model_name_or_path")
    if not base:
        hint = "set model.name_or_path to the model, and model.adapter_name_or_path to the adapter"
        raise CtxkitError(f"{name} is an adapter that does not name its model", hint, exit_code=ExitCode.RECIPE)
    say(f"{name} is an adapter around {base}")
    return model.model_copy(update={"name_or_path": base, "adapter_name_or_path": name, "revision": None})


@dataclass(frozen=True)
class _Measured:
    """A model that is not loaded yet."""

    suite: Suite
    host: Host
    tokenizer: PreTrainedTokenizerBase
    config: PreTrainedConfig
    context: Context
    adapter: StartAdapter | None

    @classmethod
    def of(cls, suite: Suite, host: Host) -> _Measured:
        """Read config, tokenizer and adapter, and ask every eval whether it can be measured."""
        section = suite.model
        config = base_config(section, None)
        tokenizer = load_tokenizer(_tokenizer_of(section), None if section.adapter_name_or_path else section.revision)
        window = original_window(section, config)
        context = Context(suite.seed, tokenizer, window, track=track)
        if launch.rank() == 0:
            for index, options in enumerate(suite.evals):
                with placed(f"evals.{index} (kind {options.kind})"):
                    options.check(context)
        return cls(suite, host, tokenizer, config, context, start_adapter(section, config, window))

    @property
    def window(self) -> int:
        """Tokens that the model can read, as its config says."""
        config = self.adapter.rope.base if self.adapter and self.adapter.rope else self.config
        return int(getattr(config.get_text_config(), "max_position_embeddings", 0) or 0)

    def load(self) -> PreTrainedModel:
        """Return the model, its adapter in it."""
        config = copy.deepcopy(self.config)
        rope = self.adapter.rope if self.adapter else None
        if rope is not None:
            rope.apply(config)
        with whole_weights():
            request = request_model(self.suite.model, MODEL, None, config)
            model: PreTrainedModel = self.host.hook.ctxkit_make_model(request=request)
        check_rope(model, rope)
        if self.suite.model.lm_head_bias and self.adapter is not None:
            with_head_bias(model)
        return on_device(with_adapter(model, self.adapter.folder) if self.adapter else model)


def _tokenizer_of(model: ModelSection) -> str:
    """Return where the tokenizer lies: beside an adapter where it was saved there."""
    name = model.adapter_name_or_path
    if name and (Path(name) / "tokenizer_config.json").is_file():
        return name
    return str(model.name_or_path)


def _measured(measured: _Measured, directory: RunDirectory) -> tuple[EvalReport, ...]:
    return evaluate(MODEL, measured.suite.evals, directory, measured.load, measured.context)


def _check_free(directory: RunDirectory) -> None:
    """Refuse a folder that holds something else.

    Raises:
        ResumeError: it holds a run, or files that are none of ours.
    """
    found = [path for path in directory.path.glob("*") if not path.name.startswith(".")]
    if found and "suite" not in directory.status():
        what = "a run" if (directory.path / "recipe.yaml").exists() else f"other files: {found[0].name}, ..."
        raise ResumeError(f"{directory.path} holds {what}", "choose another folder with --output")


def _claim(measured: _Measured, directory: RunDirectory, command: list[str]) -> None:
    """Write down what is measured.

    Raises:
        ResumeError: the directory holds results of another model or seed.
    """
    about = {"known_by": _identity(measured), "seed": measured.suite.seed}
    before = directory.status()
    if before and before["suite"] != about:
        said = f"{directory.path} holds what was measured on another model or with another seed"
        raise ResumeError(said, "choose another folder with --output")
    plugins = {plugin.name: plugin.origin for plugin in measured.host.plugins if not plugin.fault}
    write_json(directory.path / "provenance.json", provenance.provenance(plugins, command))
    untrained = {"from": None, "rope": None, "steps": 0, "tokens": 0, "seconds": 0.0}
    directory.update(
        name=measured.suite.name or _name(measured.suite.model),
        description=measured.suite.description,
        status="running",
        result=MODEL,
        command=" ".join(command),
        seed=measured.suite.seed,
        suite=about,
        original_window=measured.context.original_max_position_embeddings,
        stages=[{"name": MODEL, "length": measured.window, **untrained}],
    )
    write_text(directory.path / "suite.yaml", yaml_core.dump(measured.suite.model_dump(mode="json")))


def _name(model: ModelSection) -> str:
    return Path(model.adapter_name_or_path or str(model.name_or_path)).name


def _identity(measured: _Measured) -> dict[str, Any]:
    """Return what the model and its adapter are known by, as plain JSON values."""
    known: dict[str, Any] = known_by(measured.suite.model, measured.config)
    if measured.adapter is not None:
        known["adapter"] = identity.adapter_hash(measured.adapter.folder)
    return known


def _check_any(reports: tuple[EvalReport, ...]) -> None:
    """Refuse to call it a success where nothing was measured.

    Raises:
        CtxkitError: with the first reason.
    """
    if not any(report.measurements for report in reports):
        why = next((why for report in reports for why in report.failures.values()), "no eval has a measurement")
        raise CtxkitError(f"nothing could be measured: {why}", "the cells that failed are named above")


def _record_end(directory: RunDirectory, error: CtxkitError) -> None:
    if "suite" in directory.status() and not isinstance(error, ResumeError):
        status = error.exit_code.name.lower() if isinstance(error, StoppedError) else "failed"
        directory.update(status=status, error=str(error), exit_code=int(error.exit_code))
