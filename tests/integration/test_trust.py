"""The rules of SECURITY.md that need the training libraries: hostile files leave no mark, planted secrets no trace."""

from __future__ import annotations

import contextlib
import json
import pickle
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

from ctxkit import identity, masking
from ctxkit.checks import load
from ctxkit.cli import main
from ctxkit.errors import CtxkitError, DataError, ResumeError
from ctxkit.host import Host
from ctxkit.recipe import ModelSection, TokenizerTraining
from ctxkit.registry import collect
from ctxkit.resuming import AUTO
from ctxkit.rundir import RunDirectory
from ctxkit.surroundings import QUIET, UNSAFE, settle
from ctxkit.train import checkpoints, templates
from ctxkit.train.model import base_config, make_model, request_model
from ctxkit.train.run import _decided
from ctxkit.train.saved_adapter import read_adapter
from ctxkit.train.tokenizer import byte_tokenizer, load_tokenizer
from tests.integration.micro import RECIPE

pytestmark = [pytest.mark.torch, pytest.mark.slow]

CONFIG = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 258,
    "max_position_embeddings": 64,
}
MAPS = {"AutoConfig": "evil.Thing", "AutoModelForCausalLM": "evil.Thing", "AutoTokenizer": ["evil.Thing", "evil.Thing"]}


class Bomb:
    """What leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[Path]:
    """A file that must not come to be."""
    path = tmp_path / "MARK"
    yield path
    assert not path.exists()


@pytest.fixture
def no_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answer yes to whoever asks a person whether to run a stranger's code."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")


def model_folder(folder: Path, mark: Path, **fields: object) -> ModelSection:
    """Write a model's folder with code beside it, and return the section that names it."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**CONFIG, **fields}))
    (folder / "evil.py").write_text(f"from pathlib import Path\nPath({str(mark)!r}).touch()\nclass Thing: pass\n")
    return ModelSection(name_or_path=str(folder))


@pytest.mark.usefixtures("no_questions")
def test_code_beside_a_model_is_refused(tmp_path: Path, mark: Path) -> None:
    """An architecture that only its own code knows is refused in words, and nobody is asked."""
    section = model_folder(tmp_path / "m", mark, model_type="evil", auto_map=MAPS)
    with pytest.raises(CtxkitError, match="ctxkit runs no code that a model brings"):
        base_config(section, None)


@pytest.mark.usefixtures("no_questions")
def test_code_beside_a_known_model_is_not_used(tmp_path: Path, mark: Path) -> None:
    """Where transformers knows the architecture, its own class is taken."""
    section = model_folder(tmp_path / "m", mark, auto_map=MAPS)
    config = base_config(section, None)
    made = make_model(request_model(ModelSection(config=CONFIG), "s", None, config))
    assert type(made).__module__ == "transformers.models.llama.modeling_llama"


@pytest.mark.usefixtures("no_questions")
def test_code_beside_a_tokenizer_is_refused(tmp_path: Path, mark: Path) -> None:
    """As of a model."""
    model_folder(tmp_path / "m", mark, model_type="evil", auto_map=MAPS)
    (tmp_path / "m" / "tokenizer_config.json").write_text(json.dumps({"auto_map": MAPS, "tokenizer_class": "Evil"}))
    with pytest.raises(CtxkitError, match="ctxkit runs no code that a model brings"):
        load_tokenizer(str(tmp_path / "m"), None)


@pytest.mark.parametrize("key", ["auto_map", "trust_remote_code", "attn_implementation", "_attn_implementation"])
def test_config_of_a_recipe_cannot_say_it(key: str, tmp_path: Path, mark: Path) -> None:
    """`model.config` takes the fields of the architecture alone."""
    section = model_folder(tmp_path / "m", mark)
    stated = {"auto_map": MAPS, "trust_remote_code": True}.get(key, "evil/kernel")
    for model in (section.model_copy(update={"config": {key: stated}}), ModelSection(config={**CONFIG, key: stated})):
        with pytest.raises(CtxkitError, match=f"model.config.{key}: LlamaConfig has no such field"):
            base_config(model, None)


def test_kernel_of_a_model_is_refused(tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A config may ask for compiled code of the hub; a recipe that states another backend goes on, as does trust."""
    section = model_folder(tmp_path / "m", mark, attn_implementation="evil/kernel")
    with pytest.raises(CtxkitError, match="asks for the kernel evil/kernel of the hub"):
        base_config(section, None)
    sdpa = section.model_copy(update={"attn_implementation": "sdpa"})
    loaded = make_model(request_model(ModelSection(attn_implementation="sdpa"), "s", None, base_config(sdpa, None)))
    assert loaded.config._attn_implementation == "sdpa"
    monkeypatch.setenv("CTXKIT_TRUST", "model.attn_implementation")
    base_config(section, None)


@pytest.fixture
def open_door(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a shell may have set, and each command takes out."""
    for name in UNSAFE:
        monkeypatch.setenv(name, "1")
    assert len(settle()) == len(UNSAFE)


@pytest.mark.usefixtures("open_door")
@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_pickle_in_a_checkpoint(name: str, tmp_path: Path, mark: Path) -> None:
    """Even under a seal of ours, it is not run but set aside, with a reason."""
    folder = tmp_path / "checkpoint-2"
    folder.mkdir()
    torch.save({}, folder / "optimizer.pt")
    torch.save({"state": Bomb(mark)}, folder / name)
    checkpoints.seal(folder, 2)
    newest, said = checkpoints.newest(tmp_path)
    assert newest is None
    assert f"{name} cannot be read: Weights only load failed" in said[0]


def test_deepspeed_checkpoint_of_another(tmp_path: Path, mark: Path) -> None:
    """DeepSpeed unpickles what it loads: without a seal of ours, it never gets to see it."""
    folder = tmp_path / "checkpoint-2"
    (folder / "global_step2").mkdir(parents=True)
    for name in ("zero_pp_rank_0_mp_rank_00_optim_states.pt", "mp_rank_00_model_states.pt"):
        (folder / "global_step2" / name).write_bytes(pickle.dumps(Bomb(mark)))
    (folder / "latest").write_text("global_step2")
    assert checkpoints.newest(tmp_path)[0] is None
    assert not folder.exists()


DEEPSPEED = "global_step2/zero_pp_rank_0_mp_rank_00_optim_states.pt"


@pytest.mark.usefixtures("open_door")
@pytest.mark.parametrize("name", [DEEPSPEED, "other/x.pt", ".metadata", "model/.metadata"])
def test_sealed_pickle_of_another(name: str, tmp_path: Path, mark: Path) -> None:
    """A seal is no proof of where files come from: what their library would unpickle is looked at, and not loaded."""
    folder = tmp_path / "checkpoint-2"
    (folder / name).parent.mkdir(parents=True)
    torch.save({}, folder / "optimizer.pt")
    if name.endswith(".pt"):
        torch.save({"x": Bomb(mark)}, folder / name)
    else:
        (folder / name).write_bytes(pickle.dumps(Bomb(mark)))
    checkpoints.seal(folder, 2)
    with pytest.raises(ResumeError, match=rf"is not loaded: {name} may hold code: it names .*\n.*`--trust checkpoint`"):
        checkpoints.newest(tmp_path)
    assert folder.is_dir()


@pytest.mark.parametrize("tag", ["../elsewhere", "/etc", "..", ""])
def test_deepspeed_is_led_nowhere_else(tag: str, tmp_path: Path) -> None:
    """DeepSpeed loads the folder that `latest` names."""
    torch.save({}, tmp_path / "optimizer.pt")
    (tmp_path / "latest").write_text(tag)
    checkpoints.seal(tmp_path, 2)
    with pytest.raises(ResumeError, match="which does not lie in it"):
        checkpoints.broken(tmp_path)


def test_distributed_checkpoint(tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that torch writes is read; one with a value that is code is not, and `--trust checkpoint` opens it."""
    from torch.distributed import checkpoint as dcp

    torch.save({}, tmp_path / "optimizer.pt")
    layer = torch.nn.Linear(2, 2)
    for name, value in (("good", 3), ("bad", Bomb(mark))):
        state = {"model": layer.state_dict(), "step": value}
        dcp.save(state, checkpoint_id=tmp_path / name, no_dist=True)
        checkpoints.seal(tmp_path, 2)
        if name == "good":
            assert checkpoints.broken(tmp_path) == ""
    with pytest.raises(ResumeError, match=r"bad/.metadata may hold code"):
        checkpoints.broken(tmp_path)
    monkeypatch.setenv("CTXKIT_TRUST", "checkpoint")
    assert checkpoints.broken(tmp_path) == ""


@pytest.mark.usefixtures("open_door")
def test_pickle_in_an_adapter(tmp_path: Path, mark: Path) -> None:
    """Weights of an adapter that are a pickle with code in it are refused."""
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2}))
    torch.save({"w": Bomb(mark)}, tmp_path / "adapter_model.bin")
    with pytest.raises(CtxkitError, match=r"adapter_model.bin cannot be read: UnpicklingError"):
        read_adapter(tmp_path, "a")


def test_imports_of_an_adapter(tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A config of an adapter may name modules; none of them is imported."""
    from peft import LoraConfig, get_peft_model

    from ctxkit.train.adapter import with_adapter

    def model() -> Any:
        return make_model(
            request_model(ModelSection(config=CONFIG), "s", None, base_config(ModelSection(config=CONFIG), None))
        )

    (tmp_path / "evil_library.py").write_text(f"from pathlib import Path\nPath({str(mark)!r}).touch()\n")
    monkeypatch.syspath_prepend(tmp_path)
    get_peft_model(model(), LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(tmp_path / "a")
    file = tmp_path / "a" / "adapter_config.json"
    evil = {
        "auto_mapping": {"base_model_class": "X", "parent_library": "evil_library"},
        "megatron_core": "evil_library",
    }
    file.write_text(json.dumps({**json.loads(file.read_text()), **evil, "megatron_config": {"x": 1}}))
    with contextlib.suppress(CtxkitError):
        with_adapter(model(), tmp_path / "a")


@pytest.mark.usefixtures("open_door")
def test_pickle_in_a_model(tmp_path: Path, mark: Path) -> None:
    """Weights that are a pickle with code in it are refused."""
    section = model_folder(tmp_path / "m", mark)
    torch.save({"w": Bomb(mark)}, tmp_path / "m" / "pytorch_model.bin")
    with pytest.raises(CtxkitError, match="cannot be loaded"):
        make_model(request_model(section, "s", None, base_config(section, None)))


def test_symlinks_are_not_followed(tmp_path: Path) -> None:
    """Rotation deletes folders of its own; what a link of the same name leads to stays, and so do other names."""
    for number in (2, 4, 6):
        (tmp_path / "run" / f"checkpoint-{number}").mkdir(parents=True)
    (tmp_path / "run" / "checkpoint-best-keep").mkdir()
    (tmp_path / "precious").mkdir()
    (tmp_path / "run" / "checkpoint-1").symlink_to(tmp_path / "precious")
    checkpoints.rotate(tmp_path / "run", 1)
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert left == {"checkpoint-1", "checkpoint-6", "checkpoint-best-keep"}
    assert (tmp_path / "precious").is_dir()


TEMPLATES = {
    "time": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "memory": "{{ 'a' * 3000000000 }}",
}


@pytest.mark.parametrize("kind", TEMPLATES)
def test_endless_template(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chat template that takes all time or memory is refused when its tokenizer loads; an honest one is not."""
    monkeypatch.setattr(templates, "CPU_SECONDS", 1)
    tokenizer = byte_tokenizer(TokenizerTraining(vocab_size=258))
    tokenizer.chat_template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    tokenizer.save_pretrained(tmp_path / "good")
    load_tokenizer(str(tmp_path / "good"), None)
    tokenizer.chat_template = TEMPLATES[kind]
    tokenizer.save_pretrained(tmp_path / "bad")
    began = time.monotonic()
    with pytest.raises(DataError, match=r"the chat template of the tokenizer .* takes more than 1"):
        load_tokenizer(str(tmp_path / "bad"), None)
    assert time.monotonic() - began < 30


# --- a run with secrets all around it, and no network

PLANTED = {
    "HF_TOKEN": "hf_plantedHUBtoken",
    "WANDB_API_KEY": "planted0wandb0key",
    "AWS_SECRET_ACCESS_KEY": "planted/aws+key=",
    "MY_SERVICE_PASSWORD": "planted pass word",
}
IN_RECIPE, TYPED, BEHIND = "planted-in-recipe", "planted-typed", "planted-behind"


@dataclass
class Planted:
    """What a run left that had secrets all around it."""

    directory: Path
    codes: list[int]
    printed: str
    reached: list[str]
    """What was asked of the network."""


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planted]:
    """Run a recipe that works, and one whose source fails with a secret in its error."""
    folder = tmp_path_factory.mktemp("planted")
    patch = pytest.MonkeyPatch()
    reached: list[str] = []

    def refused(*arguments: object, **_: object) -> NoReturn:
        reached.append(str(arguments[:2]))
        raise OSError("no network in this test")

    for name, value in PLANTED.items():
        patch.setenv(name, value)
    for name in QUIET:
        patch.delenv(name, raising=False)
    # As on a machine with a network where huggingface_hub was imported first.
    patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    patch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", False)
    patch.setattr(socket, "getaddrinfo", refused)
    patch.setattr(socket.socket, "connect", refused)
    output = folder / "output.txt"
    with output.open("w") as file, pytest.MonkeyPatch.context() as streams:
        streams.setattr("sys.stdout", file)
        streams.setattr("sys.stderr", file)
        codes = [_ran(streams, ["run", str(recipe), *_arguments(folder, recipe)]) for recipe in _recipes(folder)]
        time.sleep(0.5)  # a ping is sent by a thread
    patch.undo()
    yield Planted(folder / "runs", codes, output.read_text(), reached)
    shutil.rmtree(folder)


def _ran(patch: pytest.MonkeyPatch, words: list[str]) -> int:
    patch.setattr("sys.argv", ["ctxkit", *words])
    return main(words)


def _arguments(folder: Path, recipe: Path) -> list[str]:
    typed = f"description=by https://me:{TYPED}@host/x and {PLANTED['HF_TOKEN']} {PLANTED['MY_SERVICE_PASSWORD']}"
    return ["--run-dir", str(folder / "runs" / recipe.stem), "--set", typed]


def _recipes(folder: Path) -> Iterator[Path]:
    """Yield a recipe of one stage with a secret in a pattern, and the same with a source that cannot be reached."""
    text = RECIPE[: RECIPE.index("evals:")] + RECIPE[RECIPE.index("stages:") :].partition("  - name: control")[0]
    source = "{kind: repeats, documents: 64, length: 31}"
    (folder / "text.txt").write_text("some words to learn, over and over. " * 60)
    files = (
        f'{{kind: files, paths: ["{folder}/*.txt"], exclude: ["{folder}/output.txt", "https://me:{IN_RECIPE}@host/*"]}}'
    )
    url = f"https://me:{BEHIND}@127.0.0.1:9/rows.jsonl"
    broken = f'{{kind: hub, path: json, data_files: "{url}"}}'
    text = text.replace("max_steps: 8", "max_steps: 2")
    for name, own in (("works", files), ("fails", broken)):
        path = folder / f"{name}.yaml"
        path.write_text(text.replace(source, own), encoding="utf-8")
        yield path


def test_planted_runs_end_as_meant(planted: Planted) -> None:
    """One is done, the other is refused for its source, and says which."""
    assert planted.codes[0] == 0, planted.printed
    assert planted.codes[1] == 3, planted.printed
    assert "127.0.0.1:9/rows.jsonl" in planted.printed
    assert "***" in planted.printed
    for name in ("run.json", "recipe.yaml", "provenance.json"):
        assert "***" in (planted.directory / "works" / name).read_text(), name


@pytest.mark.parametrize("secret", [*PLANTED.values(), IN_RECIPE, TYPED, BEHIND])
def test_no_secret_is_printed_or_written(secret: str, planted: Planted) -> None:
    """Not a byte of it in what was printed, nor in any file of a run directory, `training_args.bin` among them."""
    forms = {secret, json.dumps(secret)[1:-1]}
    assert not [form for form in forms if form in planted.printed]
    files = [path for path in planted.directory.rglob("*") if path.is_file()]
    pickles = [path for path in files if path.name == "training_args.bin"]
    assert pickles
    assert not [path for path in pickles if "checkpoints" not in path.parts]  # none in a model that is given away
    assert not [path for path in files for form in forms if form.encode() in path.read_bytes()]


def test_a_run_asks_nothing_of_the_network(planted: Planted) -> None:
    """No usage ping and no look at the hub: only the source that lies behind a URL was asked for."""
    assert planted.reached
    assert not [asked for asked in planted.reached if "127.0.0.1" not in asked], planted.reached


def test_executors_get_no_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The library writes what it is given into files of its own, so it is not given any."""
    recipe = next(_recipes(tmp_path))
    words = ["--set", "description=https://me:planted-in-job@host", "--executor", "local", "--tasks", "2"]
    assert main(["data", str(recipe), "--run-dir", str(tmp_path / "run"), *words]) == 2
    assert "datatrove would write a secret into its files" in capsys.readouterr().err
    assert not [path for path in (tmp_path / "run").rglob("*") if path.is_file() and b"planted-in" in path.read_bytes()]


def test_what_is_masked_in_a_file_trains_as_it_is(tmp_path: Path) -> None:
    """The recipe of a run directory is shown masked; nothing is trained by a mask."""
    file, host = tmp_path / "r.yaml", Host()
    file.write_text(RECIPE.replace("  seed: 3", "  seed: 3\n  run_name: planted-in-a-run-name"))
    masking.learn(["planted-in-a-run-name"])
    located = load(file, collect(host), host)
    directory, own = RunDirectory(tmp_path / "run"), identity.fingerprint(located.recipe)
    directory.claim(own)
    assert "run_name: '***'" in (directory.path / "recipe.yaml").read_text()
    decided = _decided(located, directory, own, AUTO)
    assert [stage.train["run_name"] for stage in decided.recipe.stages] == ["planted-in-a-run-name"] * 3
