"""What is derived from a recipe: settings, plan, schema, launch line, identity; and the lists of what is installed."""

from __future__ import annotations

import importlib.metadata
import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import fields
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, Literal

import jsonschema
import pytest
import yaml

from ctxkit import __version__, checks, doctor, identity, launch, listing, plan, provenance, settings, sft_fields
from ctxkit.errors import RecipeError
from ctxkit.host import Host
from ctxkit.reading import Located
from ctxkit.registry import Registry, collect
from ctxkit.schema import recipe_schema
from ctxkit.spec import Document, EvalReport, FilterOptions, Measurement, Sample
from ctxkit.yaml_core import dump

Load = Callable[..., Located]

STAGED = """\
name: staged
model: {name_or_path: some/model, original_max_position_embeddings: 64}
launch: {num_processes: 4}
data:
  sources: [{kind: files, paths: ["*.txt"]}]
  chunker: {kind: overlap, length: 128}
train: {per_device_train_batch_size: 2, gradient_accumulation_steps: 3, max_steps: 5, seed: 7}
stages:
  - name: first
    rope: {kind: yarn, factor: 2}
  - name: second
    rope: {kind: linear, target_length: 256}
    data: {chunker: {kind: paragraph, length: 256}}
    train: {max_steps: -1}
    evals: [{kind: perplexity, source: {kind: files, paths: [b]}, lengths: [8]}]
result: first
"""


def test_settings(load: Load) -> None:
    """A stage's SFTConfig gets what the recipe says, with its place, and what follows, with its reason."""
    located = load(STAGED)
    found = settings.sft_settings(located, located.recipe.stages[0])
    assert {key: setting.value for key, setting in found.items() if key in located.recipe.stages[0].train} == {
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 3,
        "max_steps": 5,
        "seed": 7,
    }
    column = STAGED.splitlines()[6].index("7}") + 1
    assert found["seed"].origin.endswith(f"recipe.yaml:7:{column}")
    assert (found["max_length"].value, found["max_length"].origin) == (128, "follows from data.chunker.length")
    assert found["logging_nan_inf_filter"].value is False
    assert found["dataset_kwargs"].value == {"skip_prepare_dataset": True}


def test_settings_of_the_recipe_win(load: Load, minimal: str) -> None:
    """What the recipe says wins over what ctxkit would add."""
    located = load(minimal, "train.max_length=128")
    found = settings.sft_settings(located, located.recipe.stages[0])
    assert (found["max_length"].value, found["max_length"].origin) == (128, "--set train.max_length=128")
    assert "packing" not in found


def test_packing_sets_what_follows(load: Load, minimal: str) -> None:
    """Rows of packed chunks are as long as packing says; the document mask needs TRL's collator for packed rows."""
    located = load(minimal, "data.packing={length: 512}")
    stage = located.recipe.stages[0]
    found = settings.sft_settings(located, stage)
    assert (found["max_length"].value, found["packing"].value) == (512, True)
    assert (stage.data.row_length, stage.data.sequence_length) == (512, 128)
    open_mask = load(minimal, "data.packing={length: 512, document_mask: false}")
    stage = open_mask.recipe.stages[0]
    assert "packing" not in settings.sft_settings(open_mask, stage)
    assert stage.data.sequence_length == 512


def test_effective_falls_back_to_the_default(load: Load, minimal: str) -> None:
    """Where the recipe is silent, TRL's own default counts."""
    located = load(minimal)
    found = settings.sft_settings(located, located.recipe.stages[0])
    assert settings.effective(found, "per_device_train_batch_size") == 8
    assert settings.effective(found, "max_steps") == 5
    assert settings.seed(located.recipe.stages[0]) == 42


def test_tokens_per_step(load: Load) -> None:
    """Batch x accumulation x processes x chunk length."""
    located = load(STAGED)
    assert settings.tokens_per_step(located, located.recipe.stages[0], 4) == 2 * 3 * 4 * 128


def test_plan(load: Load) -> None:
    """The plan has each stage's window, chunk, steps and tokens, and every value with its origin."""
    made = plan.plan(load(STAGED, "train.seed=8"))
    first, second = made["stages"]
    assert first == {
        "name": "first", "from": "model", "rope": "yarn x2", "window": 128, "chunk_length": 128,
        "tokens_per_step": 3072, "steps": 5, "tokens": 15360, "seed": 8,
        "curriculum": None,
    }  # fmt: skip
    assert (second["from"], second["rope"], second["window"]) == ("first", "linear x4", 256)
    assert (second["chunk_length"], second["steps"], second["tokens"]) == (256, None, None)
    assert (made["result"], made["original_window"], made["num_processes"]) == ("first", 64, 4)
    values = made["values"]
    assert values["stages.second.train.seed"] == {"value": 8, "origin": "--set train.seed=8"}
    assert values["stages.second.train.max_steps"]["origin"].endswith("recipe.yaml:14:24")
    assert values["stages.first.data.chunker.length"]["origin"].endswith("recipe.yaml:6:36")
    assert values["model.name_or_path"]["value"] == "some/model"
    assert values["stages.first.data.sources.0.paths"]["value"] == ["*.txt"]
    json.dumps(made)


def test_plan_as_text(load: Load) -> None:
    """The text holds the same, one line a stage and a value."""
    text = plan.render(plan.plan(load(STAGED)))
    assert "staged: some/model, a window of 64 tokens before" in text
    row = next(line for line in text.splitlines() if line.startswith("first "))
    assert row.split() == ["first", "model", "yarn", "x2", "128", "128", "3,072", "5", "15,360"]
    assert "the outcome is the model of stage first" in text
    assert any(line.split()[:3] == ["stages.first.train.seed", "=", "7"] for line in text.splitlines())


def test_plan_without_a_known_window(load: Load, minimal: str) -> None:
    """Where only the model's config knows the window, the plan says so instead of guessing."""
    text = plan.render(plan.plan(load(minimal, "rope={kind: yarn, target_length: 4096}")))
    assert "some/model, the window that its config says before" in text
    assert "yarn to 4096" in text


def test_launch_line() -> None:
    """The line is accelerate's, quoted for a shell; one process needs no flag, a file of its own decides by itself."""
    assert shlex.split(launch.launch_line("my recipe.yaml", 1, None, ["--set", "a=b c"])) == [
        "accelerate", "launch", "--num_processes", "1", "-m", "ctxkit", "run", "my recipe.yaml", "--set", "a=b c",
    ]  # fmt: skip
    assert "--multi_gpu" in launch.launch_line("r.yaml", 2)
    assert launch.launch_line("r.yaml", 8, "z.yaml").startswith("accelerate launch --config_file z.yaml --num_proc")
    assert "--multi_gpu" not in launch.launch_line("r.yaml", 8, "z.yaml")


def test_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank and size come from the launcher's environment; without one, this process is alone."""
    assert (launch.rank(), launch.world_size()) == (0, 1)
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert (launch.rank(), launch.world_size()) == (3, 8)


def test_schema_is_a_schema(registry: Registry) -> None:
    """What `ctxkit schema` prints is a valid JSON schema, a slot without components included."""
    jsonschema.Draft202012Validator.check_schema(recipe_schema(registry))
    empty = recipe_schema(Registry({slot: {} for slot in registry.components}))
    jsonschema.Draft202012Validator.check_schema(empty)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"rope": {"kind": "yarn"}}, empty)


@pytest.mark.parametrize(
    "change",
    [
        "nmae: x", "train: {max_step: 5}", "train: {max_steps: many}", "train: {output_dir: x}", "rope: {kind: yarm}",
        "rope: {kind: yarn, factr: 2}", "launch: {num_processes: '4'}", "stages: [{train: {}}]", "stages: 5",
        "data: {sources: []}", "data: {chunker: {kind: overlap, length: '8'}}", "evals: [{kind: passkey, haystak: 5}]",
    ],
)  # fmt: skip
def test_schema_refuses_what_the_checks_refuse(change: str, registry: Registry, faults: Any, minimal: str) -> None:
    """An editor that follows the schema underlines what `validate` would refuse."""
    key = change.partition(":")[0]
    values = {**yaml.safe_load(minimal), **yaml.safe_load(change)}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, recipe_schema(registry))
    assert faults(yaml.safe_dump(values, sort_keys=False)), key


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("extends: base.yaml\nrope: {factor: 8}\ndata: {max_tokens: 5}\n", True),
        ("stages: [{name: a, data: {chunker: {length: 8}}, rope: null}]\n", True),
        ("rope: {kind: linear, beta_fast: 3}\n", False),
        ("data: {sources: [{paths: [a]}]}\n", False),
        ("data: {sources: [{kind: files}]}\n", False),
        ("evals: [{kind: passkey, haystack: {paths: [a]}, lengths: [8]}]\n", False),
        ("rope: {factr: 8}\n", False),
    ],
)
def test_schema_of_a_part(text: str, valid: bool, registry: Registry) -> None:
    """What lies over something else may state a part of a mapping; an item of a list is whole."""
    validator = jsonschema.Draft202012Validator(recipe_schema(registry))
    assert validator.is_valid(yaml.safe_load(text)) is valid


def test_schema_documents_every_value(registry: Registry) -> None:
    """Every key of the recipe and of each component has a description for the editor to show."""
    schema = recipe_schema(registry)
    parts = {"recipe": schema, **{k: v for k, v in schema["$defs"].items() if k == "stage" or ":" in k}}
    undescribed = [
        f"{name}.{key}"
        for name, part in parts.items()
        for key, value in part.get("properties", {}).items()
        if "description" not in value and key not in ("kind", "extends", "stages", "train")
    ]
    assert undescribed == []


@pytest.mark.torch
def test_sft_fields_are_those_of_the_dataclass() -> None:
    """The names read from the source are exactly those of the installed SFTConfig, with the same plain defaults."""
    from trl import SFTConfig

    found = sft_fields.sft_fields()
    theirs = {field.name: field for field in fields(SFTConfig) if field.init and not field.name.startswith("_")}
    assert set(found) == set(theirs)
    for name in ("max_length", "learning_rate", "per_device_train_batch_size", "seed", "max_steps", "packing"):
        assert eval(found[name].default) == theirs[name].default, name  # noqa: S307 - our own dependency's source
    for name, field in found.items():
        default = theirs[name].default
        if isinstance(default, bool | int | float | str | None):
            assert field.fault(default) == "", name


def test_sft_fields_know_help_and_type() -> None:
    """A field brings its help and its annotation, for schema and messages."""
    field = sft_fields.sft_fields()["learning_rate"]
    assert field.annotation == "float"
    assert "learning rate" in field.help.lower()


@pytest.mark.parametrize(
    ("annotation", "value", "said"),
    [
        ("int", 5, ""),
        ("int", True, "needs a whole number, got true"),
        ("int", 5.0, "needs a whole number, got 5.0"),
        ("float", 5, ""),
        ("float | None", "1e-4", "needs a number or null, got '1e-4'"),
        ("str | None", None, ""),
        ("bool", "no", "needs true or false, got 'no'"),
        ("list[str] | None", ["a"], ""),
        ("SaveStrategy | str", 5, ""),
    ],
)
def test_sft_field_judges_plain_types(annotation: str, value: object, said: str) -> None:
    """Plain types are judged exactly, anything else is left to SFTConfig itself."""
    assert sft_fields.SftField("x", annotation, "").fault(value) == said


def test_resolved_recipe_is_the_recipe(load: Load) -> None:
    """What a run directory keeps is a valid recipe that resolves to the very same."""
    located = load(STAGED)
    again = load(dump(identity.plain(located.recipe)))
    assert again.recipe == located.recipe


def test_components_of_a_recipe(load: Load) -> None:
    """Every component that trains is hashed, one inside another too; evals are not, for they change no weights."""
    text = STAGED.replace(
        'sources: [{kind: files, paths: ["*.txt"]}]',
        "sources: [{kind: key_recall, haystack: {kind: files, paths: [a]}, documents: 1, length: 99}]",
    )
    found = identity.components(load(text).recipe)
    assert {name.partition(" ")[0] for name in found} == {
        "source:key_recall", "source:files", "rope:yarn", "rope:linear", "chunker:overlap", "chunker:paragraph",
    }  # fmt: skip
    assert all(len(digest) == 16 for digest in found.values())


def test_source_hash_follows_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change in any module of a component's package changes its hash; one beside a single-file plugin does not."""
    monkeypatch.syspath_prepend(tmp_path)
    head = "from typing import Literal\nfrom ctxkit.spec import FilterOptions\n"
    code = head + "class C(FilterOptions):\n    kind: Literal['c']\n"
    (tmp_path / "zz_package").mkdir()
    (tmp_path / "zz_package/__init__.py").write_text(code)
    (tmp_path / "zz_package/other.py").write_text("x = 1\n")
    (tmp_path / "zz_single.py").write_text(code)
    import zz_package  # type: ignore[import-not-found]
    import zz_single  # type: ignore[import-not-found]

    before = provenance.source_hash(zz_package.C), provenance.source_hash(zz_single.C)
    (tmp_path / "zz_package/other.py").write_text("x = 2\n")
    assert provenance.source_hash(zz_package.C) != before[0]
    assert provenance.source_hash(zz_single.C) == before[1]
    (tmp_path / "zz_single.py").write_text(code + "\n")
    assert provenance.source_hash(zz_single.C) != before[1]
    for name in ("zz_package", "zz_single"):
        del sys.modules[name]


def test_provenance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Provenance holds versions, commit and command, and no environment variable."""
    monkeypatch.setenv("HF_TOKEN", "hf_planted_secret")
    found = provenance.provenance({"mine": "mine 1.0"}, ["ctxkit", "run", "r.yaml"])
    assert found["ctxkit"] == __version__
    assert found["versions"]["torch"] == importlib.metadata.version("torch")
    assert (found["plugins"], found["command"]) == ({"mine": "mine 1.0"}, ["ctxkit", "run", "r.yaml"])
    assert "hf_planted_secret" not in json.dumps(found)


def test_versions() -> None:
    """A distribution that is not installed has an empty version."""
    assert provenance.versions(["pluggy", "nowhere-at-all"]) == {
        "pluggy": importlib.metadata.version("pluggy"), "nowhere-at-all": ""
    }  # fmt: skip


def test_listing(registry: Registry, host: Host) -> None:
    """The list has every component with its first line and its plugin, as plain values and as text."""
    listed = listing.listing(host, registry)
    found = listed["components"]["rope"]["yarn"]
    assert found["plugin"] == "rope"
    assert found["origin"] == f"ctxkit-longcontext {__version__}"
    assert found["summary"].startswith("YaRN")
    assert json.loads(json.dumps(listed)) == listed
    lines = listing.render(listed).splitlines()
    assert any(
        line.split()[:2] == ["rope", "yarn"] and line.endswith(f"(ctxkit-longcontext {__version__})") for line in lines
    )


def test_listing_of_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken and disabled plugins are listed too."""
    monkeypatch.setenv("CTXKIT_DISABLE_PLUGINS", "off")
    host = Host([EntryPoint("bad", "zz_nowhere", "ctxkit"), EntryPoint("off", "zz_nowhere", "ctxkit")])
    listed = listing.listing(host, collect(host))
    assert [(plugin["name"], plugin["state"]) for plugin in listed["plugins"]] == [
        ("bad", "broken"),
        ("off", "disabled"),
    ]
    text = listing.render(listed)
    assert "disabled: off" in text
    assert "cannot be used:\n  plugin bad (no distribution): ModuleNotFoundError: " in text


class Foreign:
    """A distribution of another project."""

    version = "0.3"


def test_foreign_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another project's distribution of our name is found, and how to get rid of it is said."""
    assert doctor.foreign() == []
    real = importlib.metadata.distribution
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Foreign() if name == "ctxkit" else real(name))
    (problem,) = doctor.foreign()
    assert "the distribution `ctxkit` 0.3 is another project with the same import name and command" in problem
    assert "pip uninstall ctxkit" in problem
    assert problem in doctor.examine()["problems"]
    assert problem in doctor.render(doctor.examine())


def test_doctor_finds_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A requirement that is missing or out of range is named with the range; an extra's is not required."""
    needed = ["nowhere-at-all>=2", "pluggy<1", "click>=8", "also-nowhere; extra == 'gpu'"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: needed)
    problems = doctor.examine()["problems"]
    assert problems == [
        "nowhere-at-all is missing; ctxkit needs nowhere-at-all>=2",
        f"pluggy {importlib.metadata.version('pluggy')} is outside <1",
    ]


def test_doctor_without_an_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout that nobody installed is said to have no plugins."""

    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", missing)
    assert "is not installed here, so no plugin is found; run `pip install -e .`" in doctor.examine()["problems"][0]


def test_doctor_leaves_out_disabled_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disabled plugin is not among those that work."""
    monkeypatch.setenv("CTXKIT_DISABLE_PLUGINS", "report")
    findings = doctor.examine()
    assert "report" not in findings["plugins"]
    assert findings["environment"]["CTXKIT_DISABLE_PLUGINS"] == "report"


def test_eval_report_comes_back_from_json() -> None:
    """A report survives its file unchanged."""
    measurement = Measurement("accuracy", 128, 0.5, 0.4, 0.6, 20, depth=0.25)
    report = EvalReport("passkey", (measurement,), (Sample("s0", 128, 1.0),), {"seed": 3})
    assert EvalReport.from_json(json.loads(json.dumps(report.to_json()))) == report


class Chosen(FilterOptions):
    """Options with a conversion of their own."""

    kind: Literal["chosen"]
    least: int = 1
    """The least."""


@pytest.mark.parametrize("values", [{"least": "3"}, {"least": True}, {"least": [3]}, {"least": float("nan")}])
def test_options_are_strict_for_plugins_too(values: dict[str, Any]) -> None:
    """A stranger's options refuse text, true and nan for a number without a line of their own."""
    with pytest.raises(ValueError, match="least"):
        Chosen.model_validate({"kind": "chosen", **values})
    assert Chosen.model_validate({"kind": "chosen", "least": 3.0}).least == 3


def test_document_defaults() -> None:
    """A document needs text and id alone, and cannot be changed."""
    document = Document("text", "id")
    assert (document.group, document.order, dict(document.metadata)) == ("", 0, {})
    with pytest.raises(AttributeError):
        document.text = "other"  # type: ignore[misc]


def test_recipe_file_in_another_place(tmp_path: Path, host: Host, registry: Registry, minimal: str) -> None:
    """The launch line of a plan names the recipe as it was given."""
    (tmp_path / "r.yaml").write_text(minimal)
    assert shlex.split(plan.plan(checks.load(tmp_path / "r.yaml", registry, host))["launch"])[-1] == str(
        tmp_path / "r.yaml"
    )
    with pytest.raises(RecipeError):
        checks.load(tmp_path / "other.yaml", registry, host)


LENGTHLESS = """\
name: demo
model: {name_or_path: some/model}
train:
  max_length: 128
data:
  sources:
    - {kind: files, paths: ["*.txt"]}
    - {kind: files, paths: ["*.md"], chunker: {kind: overlap, overlap: 8}}
    - {kind: files, paths: ["*.py"], chunker: {kind: overlap, length: 16}}
  chunker: {kind: pose, target_length: 4096}
stages:
  - {name: first}
  - {name: second, train: {max_length: 512}}
  - {name: third, train: {max_length: 64}, data: {chunker: {kind: overlap, length: 64}}}
"""


def test_length_of_chunkers_follows_from_max_length(load: Load) -> None:
    """Where a chunker states none, in each stage; the other lengths of a chunker stay; `plan` says where it is from."""
    located = load(LENGTHLESS)
    lengths = [[chunker.length for chunker in stage.data.chunkers] for stage in located.recipe.stages]
    assert lengths == [[128, 128, 16], [512, 512, 16], [64, 64, 16]]
    assert [stage.data.row_length for stage in located.recipe.stages] == [128, 512, 64]
    assert located.recipe.stages[1].data.chunker.positions() == 4096
    shown = plan.plan(located)["values"]
    assert shown["stages.first.data.chunker.length"]["origin"].startswith("follows from train.max_length, ")
    assert shown["stages.first.data.chunker.length"]["origin"].endswith("recipe.yaml:4:15")
    assert shown["stages.third.data.chunker.length"]["origin"].endswith(
        f":14:{LENGTHLESS.splitlines()[13].index('64}}}') + 1}"
    )


def test_sweeping_max_length_sweeps_the_rows(load: Load) -> None:
    """What `--over train.max_length=...` sets for each point is what the rows have."""
    text = LENGTHLESS.partition("stages:")[0]
    for length in (128, 512, 768):
        located = load(text, f"train.max_length={length}")
        assert located.recipe.stages[0].data.row_length == length
        origin = plan.plan(located)["values"]["stages.demo.data.chunker.length"]["origin"]
        assert origin == f"follows from train.max_length, --set train.max_length={length}"


def test_schema_lets_the_length_of_a_chunker_be_left_out(registry: Registry) -> None:
    """An editor marks neither form, and still asks for what only the chunker can say."""
    schema = recipe_schema(registry)
    text, pose = {"kind": "files", "paths": ["a"]}, {"kind": "pose", "target_length": 4096}
    recipe = {"name": "demo", "train": {"max_length": 128}, "data": {"sources": [text], "chunker": pose}}
    jsonschema.validate(recipe, schema)
    whole = {entry["$ref"].rpartition(":")[2]: entry["required"] for entry in schema["$defs"]["slot:chunker"]["oneOf"]}
    assert whole["overlap"] == ["kind"]
    assert set(whole["pose"]) == {"kind", "target_length"}
