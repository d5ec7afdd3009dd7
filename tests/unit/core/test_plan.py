"""What a planner is asked: the model's config without its weights, the stages as they train, the prepared rows."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import huggingface_hub
import pytest
from click.testing import CliRunner

from ctxkit import plan
from ctxkit.cli import cli
from ctxkit.host import Host
from ctxkit.model_configs import find_config
from ctxkit.plan_request import plan_request
from ctxkit.reading import Located
from ctxkit.recipe import ModelSection, TokenizerSection, TokenizerTraining
from ctxkit.rundir import RunDirectory
from ctxkit.spec import Hardware, PlanAnswer, PlanRequest, hookimpl

Load = Callable[..., Located]
CONFIG = {"model_type": "llama", "hidden_size": 8, "vocab_size": 300}
TINY = str(Path(__file__).parents[3] / "recipes/tiny_yarn.yaml")
OWN = TokenizerSection()


class Hub(BaseHTTPRequestHandler):
    """What the hub answers for a model that exists, a gated one, and one that does not exist."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if "/gated/" in self.path:
            self.send_response(403)
            self.send_header("X-Error-Code", "GatedRepo")
        elif "/missing/" in self.path:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
        else:
            self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(CONFIG).encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def reach(monkeypatch: pytest.MonkeyPatch, hub: str) -> None:
    """Let a test reach a hub elsewhere."""
    address = f"{hub}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", address)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Serve a hub on this machine, and return the paths that it is asked for."""
    Hub.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        reach(monkeypatch, f"http://127.0.0.1:{server.server_port}")
        yield Hub.asked
        server.shutdown()


def test_the_config_of_a_fresh_model_is_in_the_recipe() -> None:
    """Its vocabulary is that of the tokenizer that is trained for it, unless the recipe says another."""
    trained = TokenizerSection(train=TokenizerTraining(vocab_size=512))
    fresh = ModelSection(config={"model_type": "llama"})
    found = find_config(fresh, trained, network=True)
    assert found.values == {"model_type": "llama", "vocab_size": 512}
    assert found.source == "model.config of the recipe"
    stated = find_config(ModelSection(config={"vocab_size": 7}), trained, network=True)
    assert stated.values == {"vocab_size": 7}


def test_the_config_of_a_folder(tmp_path: Path, hub: list[str]) -> None:
    """`config.json` is read, the fields of the recipe laid over it, and the hub is not asked."""
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    found = find_config(ModelSection(name_or_path=str(tmp_path), config={"hidden_size": 9}), OWN, network=True)
    assert found.values == {**CONFIG, "hidden_size": 9}
    assert found.source == f"{tmp_path / 'config.json'}, with model.config of the recipe over it"
    assert hub == []


@pytest.mark.parametrize(("text", "why"), [("{", "cannot be read"), ("[]", "holds no mapping"), (None, "there is no")])
def test_a_folder_without_a_usable_config(text: str | None, why: str, tmp_path: Path) -> None:
    """The reason is said, nothing is raised."""
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    found = find_config(ModelSection(name_or_path=str(tmp_path)), OWN, network=True)
    assert found.values is None
    assert why in found.source


def test_the_config_of_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: list[str]) -> None:
    """What an earlier download left is read before the hub is asked."""
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: str(tmp_path / "config.json"))
    found = find_config(ModelSection(name_or_path="some/model"), OWN, network=True)
    assert found.values == CONFIG
    assert "in the cache of the hub" in found.source
    assert hub == []


def test_the_hub_is_asked_only_where_it_may_be(hub: list[str]) -> None:
    """One file, once, of the revision that the recipe names, and only with `network`."""
    model = ModelSection(name_or_path="no-such/model", revision="v1")
    assert find_config(model, OWN, network=False).values is None
    assert hub == []
    found = find_config(model, OWN, network=True)
    assert (found.values, found.source) == (CONFIG, "no-such/model, config.json on the hub")
    assert hub == ["/no-such/model/resolve/v1/config.json"]


@pytest.mark.parametrize(
    ("name", "why"),
    [("gated/model", "its licence must be accepted on the hub first"),
     ("missing/model", "the hub has no such model, or it is not public")],
)  # fmt: skip
def test_what_the_hub_refuses(name: str, why: str, hub: list[str]) -> None:
    """Without a token for a gated model, what is missing is a licence, not a network."""
    found = find_config(ModelSection(name_or_path=name), OWN, network=True)
    assert (found.values, found.source) == (None, why)


def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked once: a laptop without a network has its plan at once."""
    reach(monkeypatch, "http://127.0.0.1:9")
    began = time.monotonic()
    found = find_config(ModelSection(name_or_path="no-such/model"), OWN, network=True)
    assert "the hub cannot be reached" in found.source
    assert time.monotonic() - began < 2


def test_offline_is_obeyed() -> None:
    """The tests set HF_HUB_OFFLINE: nothing is fetched, and the reason is given."""
    found = find_config(ModelSection(name_or_path="no-such/model-of-anyone"), OWN, network=True)
    assert found.values is None
    assert "not in the cache" in found.source


def test_a_name_that_is_neither_folder_nor_model() -> None:
    """A path that does not exist is no name of the hub."""
    found = find_config(ModelSection(name_or_path="/no/such/folder"), OWN, network=True)
    assert found.source == "there is no folder /no/such/folder"


def test_a_stage_as_it_trains(load: Load, minimal: str) -> None:
    """Settings are the recipe's, ctxkit's own, and TRL's defaults where they are plain values."""
    text = minimal.replace("train: {max_steps: 5}", "train: {max_steps: 5, bf16: false}\nadapter: {r: 3}")
    (stage,) = plan_request(load(text), "plan").stages
    assert (stage.name, stage.trains, stage.steps, stage.row_length) == ("demo", True, 5, 128)
    assert stage.adapter == {"r": 3}
    assert stage.settings["bf16"] is False
    assert stage.settings["max_length"] == 128
    assert stage.settings["gradient_checkpointing"] is True
    assert stage.settings["num_train_epochs"] == 3.0
    assert stage.prepared is None


@pytest.mark.parametrize(
    "manifest",
    [None, "{", "[]", '{"train": 1}', '{"train": {"rows": 1, "tokens": 2, "tokens_trained": 2, "longest": "x"}}'],
)
def test_a_manifest_that_cannot_be_used(manifest: str | None, tmp_path: Path, load: Load, minimal: str) -> None:
    """The data then counts as not prepared."""
    (tmp_path / "data/key").mkdir(parents=True)
    (tmp_path / "data.json").write_text('{"stages": {"demo": "key"}}')
    if manifest is not None:
        (tmp_path / "data/key/manifest.json").write_text(manifest)
    (stage,) = plan_request(load(minimal), "plan", directory=RunDirectory(tmp_path)).stages
    assert stage.prepared is None


def test_advice_of_a_run_that_ran_out_of_memory(load: Load, minimal: str, host: Host) -> None:
    """At most ten lines, with the GPU's own memory; for a GPU and a model that nobody knows, nothing."""
    known = load(minimal.replace("some/model", "meta-llama/Llama-2-7b-hf"))
    text = plan.advice(known, host, gpu="NVIDIA H100 80GB HBM3", gpu_bytes=79 << 30, gpus=8)
    assert text.startswith("by the plan, stage demo needs ")
    assert "of 78.5 GiB of a GPU" in text
    assert "\n    launch: {deepspeed: zero3" in text
    assert 3 < len(text.splitlines()) <= 10
    assert all(len(line) <= 100 for line in text.splitlines())
    assert "`ctxkit plan RECIPE --gpu h100-80gb` says what to write" in text
    assert plan.advice(known, host) == ""
    assert plan.advice(load(minimal), host, gpu="NVIDIA H100 80GB HBM3") == ""


class Boastful:
    """Answers with more lines than are wanted."""

    @hookimpl
    def ctxkit_plan(self, request: PlanRequest) -> PlanAnswer:
        return PlanAnswer({}, "line\n" * 50)


class Failing:
    """Fails at every question."""

    @hookimpl
    def ctxkit_plan(self, request: PlanRequest) -> PlanAnswer:
        raise ZeroDivisionError(request.question)


class Confused:
    """Answers with something else."""

    @hookimpl
    def ctxkit_plan(self, request: PlanRequest) -> str:
        return "yes"


@pytest.mark.parametrize(("plugin", "lines"), [(Boastful(), 10), (Failing(), 0), (Confused(), 0), (None, 0)])
def test_advice_never_raises(plugin: object, lines: int, load: Load, minimal: str) -> None:
    """Whatever a planner does, the run's own error is what a person must read."""
    host = Host([])
    if plugin is not None:
        host.register(plugin, "stranger")
    assert len(plan.advice(load(minimal), host, gpu="x", gpu_bytes=1).splitlines()) == lines


def run(*words: str) -> tuple[int, str]:
    """Return exit code and output of `ctxkit plan`."""
    done = CliRunner().invoke(cli, ["plan", *words])
    return done.exit_code, done.output


def test_hardware_without_a_gpu_is_refused() -> None:
    """Every option of the hardware needs `--gpu`, which is named."""
    for words in (("--gpus", "8"), ("--price", "2"), ("--mfu", "0.5"), ("--host-memory", "9"), ("--calibrate",)):
        code, said = run(TINY, *words)
        assert code == 2
        assert f"{words[0]} needs --gpu NAME" in said


def test_json_carries_everything() -> None:
    """With `--gpu`, JSON holds the plan as without it, and what the planner found."""
    code, said = run(TINY, "--gpu", "t4", "--gpus", "2", "--price", "0.5", "--mfu", "0.1", "--json")
    values = json.loads(said[said.index("{") :])
    assert code == 0
    assert [stage["name"] for stage in values["stages"]] == ["warmup", "base", "control", "yarn"]
    assert values["parameters"] == values["hardware"]["parameters"] == values["stages"][0]["parameters"]
    assert values["hardware"]["gpus"] == 2
    assert values["hardware"]["stages"][3]["mfu"] == pytest.approx(0.1)
    assert values["hardware"]["cost"] == pytest.approx(values["hardware"]["gpu_hours"] * 0.5)


def test_the_plan_without_a_gpu_says_how_large_the_model_is(load: Load, minimal: str, host: Host) -> None:
    """Where its config is at hand; where it is not, the plan is as it was."""
    known = load(minimal.replace("some/model", "Qwen/Qwen2.5-7B"))
    assert "Qwen/Qwen2.5-7B of 7,615,616,512 parameters" in plan.render(plan.plan(known, plan.parameters(known, host)))
    unknown = load(minimal)
    assert plan.parameters(unknown, host) is None
    assert plan.render(plan.plan(unknown)).startswith("demo: some/model, the window")


def test_what_a_planner_refuses_does_not_end_the_plan(load: Load, minimal: str, host: Host) -> None:
    """An architecture that the planner does not know is said with `--gpu`, and left out without it."""
    recurrent = load(
        minimal.replace("name_or_path: some/model", "config: {model_type: mamba}") + "tokenizer: {name_or_path: t}\n"
    )
    assert plan.parameters(recurrent, host) is None
    with pytest.raises(Exception, match="mamba"):
        plan.on_hardware(recurrent, host, Hardware(gpu="t4"), RunDirectory(Path("nowhere")))
