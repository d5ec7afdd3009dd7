"""The commands. Each imports what it needs inside itself, so that `--help` and the light commands stay quick."""

from __future__ import annotations

import json
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ctxkit import __version__
from ctxkit.errors import CtxkitError, ExitCode

if TYPE_CHECKING:
    from ctxkit.host import Host
    from ctxkit.recipe import Located
    from ctxkit.registry import Registry
    from ctxkit.rundir import RunDirectory

RECIPE = click.argument("recipe", type=click.Path(path_type=Path))
SET = click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Set one value of the recipe; repeatable.")
PLUGIN = click.option(
    "--plugin",
    "plugin_files",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE.py",
    help="Load one Python file as a plugin; it runs as code. Repeatable.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="ctxkit")
def cli() -> None:
    """Extend the context window of a language model, and prove it.

    One recipe says everything: the model, its data, how its RoPE is scaled, the training, what is measured.

    \b
    Try it:    ctxkit run recipes/tiny_yarn.yaml
    Check:     ctxkit validate RECIPE
    See:       ctxkit plan RECIPE
    """  # noqa: D301 - click looks for the character


@cli.command()
@RECIPE
@click.option("--run-dir", type=click.Path(path_type=Path), help="Where everything is written.  [default: runs/NAME]")
@SET
@PLUGIN
def run(recipe: Path, run_dir: Path | None, sets: tuple[str, ...], plugin_files: tuple[Path, ...]) -> None:
    """Train, evaluate and report what a recipe says; typed again, continue where it was.

    \b
    On one process:    ctxkit run RECIPE
    On several GPUs:   accelerate launch -m ctxkit run RECIPE
    """  # noqa: D301 - click looks for the character
    from ctxkit.rundir import RunDirectory

    located, registry, host = _load(recipe, sets, plugin_files)
    directory = RunDirectory(run_dir or Path("runs") / located.recipe.name)
    if _finished(directory, located, registry, host):
        return
    _warn(located)
    click.echo("loading the training libraries ...", err=True)
    from ctxkit.train import run_located

    run_located(located, registry, host, directory, command=_command())
    _print_outcome(directory, host)


@cli.command()
@click.argument("recipes", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option(
    "--deep",
    is_flag=True,
    help="Also let SFTConfig, the model's config and the sources have their word; "
    "this loads the training libraries and may read from the hub.",
)
@SET
@PLUGIN
@JSON
def validate(
    recipes: tuple[Path, ...], deep: bool, sets: tuple[str, ...], plugin_files: tuple[Path, ...], as_json: bool
) -> None:
    """Name everything that is wrong with recipes, at once, each with its place; exit status 2 if anything is."""
    from ctxkit.checks import load
    from ctxkit.errors import Fault, RecipeError

    host, registry = _plugins(plugin_files)
    faults: list[Fault] = []
    for recipe in recipes:
        try:
            located = load(recipe, registry, host, sets)
        except RecipeError as error:
            faults += error.faults
            continue
        _warn(located)
        if deep:
            from ctxkit.train import validate_deep

            validate_deep(located)
        click.echo(f"{recipe} is a valid recipe: {len(located.recipe.stages)} stage(s)", err=True)
    if as_json:
        click.echo(json.dumps({"recipes": [str(recipe) for recipe in recipes], "faults": [asdict(f) for f in faults]}))
    if faults:
        raise RecipeError(faults)


@cli.command()
@RECIPE
@SET
@PLUGIN
@JSON
def plan(recipe: Path, sets: tuple[str, ...], plugin_files: tuple[Path, ...], as_json: bool) -> None:
    """Print what a recipe comes to: stages, tokens, the launch line, and where each value was written."""
    from ctxkit.plan import plan as planned
    from ctxkit.plan import render

    located, _, _ = _load(recipe, sets, plugin_files)
    _warn(located)
    made = planned(located)
    click.echo(json.dumps(made, indent=1, default=str) if as_json else render(made))


@cli.command()
@PLUGIN
def schema(plugin_files: tuple[Path, ...]) -> None:
    """Print the JSON schema of a recipe, every installed component included."""
    from ctxkit.schema import recipe_schema

    _, registry = _plugins(plugin_files)
    click.echo(json.dumps(recipe_schema(registry), indent=1))


@cli.command()
@PLUGIN
@JSON
def plugins(plugin_files: tuple[Path, ...], as_json: bool) -> None:
    """List the components by slot, where each comes from, and plugins that cannot be used."""
    from ctxkit.listing import listing, render

    host, registry = _plugins(plugin_files)
    listed = listing(host, registry)
    click.echo(json.dumps(listed, indent=1) if as_json else render(listed))


@cli.command()
@JSON
def doctor(as_json: bool) -> None:
    """Say what is installed, what is missing, and what is in the way; exit status 1 if something must be mended."""
    from ctxkit.doctor import examine, render

    findings = examine()
    click.echo(json.dumps(findings, indent=1) if as_json else render(findings))
    if findings["problems"]:
        sys.exit(ExitCode.FAILED)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status; every error a person can cause is one message on stderr."""
    try:
        cli.main(args=arguments, prog_name="ctxkit", standalone_mode=False)
    except SystemExit as error:
        return int(error.code or 0)
    except BrokenPipeError:
        sys.stderr.close()
        return int(ExitCode.FAILED)
    except BaseException as error:  # noqa: BLE001 - each is turned into a message and an exit status
        return int(_explained(error))
    return int(ExitCode.DONE)


def _explained(error: BaseException) -> ExitCode:
    """Print what went wrong; with several processes all find the same fault, the first speaks, and all exit alike."""
    from ctxkit.launch import rank

    if isinstance(error, CtxkitError):
        if rank() == 0:
            click.echo(_red("error: ") + str(error), err=True)
        return error.exit_code
    if isinstance(error, click.ClickException):
        error.show()
        return ExitCode.RECIPE
    if isinstance(error, click.Abort | KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return ExitCode.INTERRUPTED
    return _unforeseen(error)


def _unforeseen(error: BaseException) -> ExitCode:
    """Write the traceback to a file and say so: it is for us, not for the person who typed the command."""
    import tempfile

    with tempfile.NamedTemporaryFile("w", prefix="ctxkit-", suffix=".txt", delete=False, encoding="utf-8") as file:
        traceback.print_exception(error, file=file)
    said = " ".join(f"{type(error).__name__}: {error}".split())
    click.echo(_red("error: ") + f"{said}\nThis was not foreseen; the traceback is in {file.name}", err=True)
    return ExitCode.FAILED


def _plugins(files: tuple[Path, ...]) -> tuple[Host, Registry]:
    from ctxkit.doctor import foreign
    from ctxkit.host import Host
    from ctxkit.launch import rank
    from ctxkit.registry import collect

    host = Host()
    for file in files:
        host.load_file(file)
    registry = collect(host)
    if rank() == 0:
        for problem in (*foreign(), *registry.faults):
            click.echo(_yellow("warning: ") + problem, err=True)
    return host, registry


def _load(recipe: Path, sets: tuple[str, ...], files: tuple[Path, ...]) -> tuple[Located, Registry, Host]:
    from ctxkit.checks import load

    host, registry = _plugins(files)
    return load(recipe, registry, host, sets), registry, host


def _warn(located: Located) -> None:
    from ctxkit.checks import warnings
    from ctxkit.launch import rank

    if rank() == 0:
        for fault in warnings(located):
            click.echo(_yellow("note: ") + fault.render(), err=True)


def _finished(directory: RunDirectory, located: Located, registry: Registry, host: Host) -> bool:
    """Say so if this very recipe is finished in a run directory."""
    from ctxkit.identity import components, plain

    if directory.status().get("status") != "done":
        return False
    if not directory.claim(plain(located.recipe), components(located.recipe, registry)):
        return False
    click.echo(f"{located.recipe.name} is finished; nothing was redone.", err=True)
    _print_outcome(directory, host)
    return True


def _print_outcome(directory: RunDirectory, host: Host) -> None:
    from ctxkit.launch import rank

    if rank() == 0:
        for text in host.hook.ctxkit_report(run_dir=directory.path):
            click.echo(text)
        click.echo(f"model:  {directory.model(directory.status()['result'])}")


def _command() -> list[str]:
    return ["ctxkit", *sys.argv[1:]]


def _red(text: str) -> str:
    return _styled(text, "red")


def _yellow(text: str) -> str:
    return _styled(text, "yellow")


def _styled(text: str, colour: str) -> str:
    """Colour a word for stderr, unless NO_COLOR is set or nobody looks; click strips it for a non-terminal."""
    import os

    return text if os.environ.get("NO_COLOR") else click.style(text, fg=colour, bold=True)
