"""The plugin manager: finds plugins, loads them, names what is wrong with one, and asks them."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pluggy

from ctxkit.errors import Fault, Origin, RecipeError
from ctxkit.hookspecs import Hooks

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from types import ModuleType

GROUP = "ctxkit"
DISABLE_VARIABLE = "CTXKIT_DISABLE_PLUGINS"


@dataclass(frozen=True)
class Plugin:
    """A plugin that was found: loaded, disabled, or broken with the reason."""

    name: str
    origin: str
    """Distribution and version, or the path of a file given with `--plugin`."""
    module: str
    fault: str = ""
    disabled: bool = False


class Host:
    """Load every plugin of the entry-point group, survive the broken ones, and hand out the hooks."""

    def __init__(self, entry_points: Iterable[importlib.metadata.EntryPoint] | None = None) -> None:
        """Load the given entry points, or all that are installed, in name order."""
        self._manager = pluggy.PluginManager("ctxkit")
        self._manager.add_hookspecs(Hooks)
        self.plugins: list[Plugin] = []
        if entry_points is None:
            entry_points = importlib.metadata.entry_points(group=GROUP)
        disabled = {name.strip() for name in os.environ.get(DISABLE_VARIABLE, "").split(",")}
        # An editable and a stale install can both name a plugin; the first on the path is the one that is imported.
        for entry in sorted(
            {entry.name: entry for entry in reversed(list(entry_points))}.values(), key=lambda e: e.name
        ):
            self._load(entry, disabled=entry.name in disabled)

    @property
    def hook(self) -> Any:
        """The hooks; calling one asks every plugin."""
        return self._manager.hook

    def owner(self, module: str) -> Plugin | None:
        """Return the plugin to which a module belongs."""
        package = module.partition(".")[0]
        return next((plugin for plugin in self.plugins if plugin.module.partition(".")[0] == package), None)

    def register(self, plugin: object, name: str) -> None:
        """Register an object under a name.

        Raises:
            ValueError: a hook is misspelt or has an argument that its specification lacks.
        """
        self._manager.register(plugin, name=name)
        try:
            self._check_known(plugin)
            self._manager.check_pending()
        except Exception:
            # Left registered, the next plugin would be blamed for it.
            self._manager.unregister(name=name)
            raise

    def load_file(self, path: Path) -> None:
        """Load one Python file as a plugin, for experiments (`--plugin path.py`).

        Raises:
            RecipeError: it does not exist or fails to load.
        """
        name = f"file:{path}"
        try:
            module = _import_file(path)
            self.register(module, name)
        except Exception as error:
            message = f"--plugin {path} cannot be loaded: {_said(error)}"
            raise RecipeError([Fault((), message, origin=_raised_in(error, path))]) from error
        self.plugins.append(Plugin(name, str(path), module.__name__))

    def _load(self, entry: importlib.metadata.EntryPoint, *, disabled: bool) -> None:
        origin = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "no distribution"
        fault = ""
        if not disabled:
            try:
                self.register(entry.load(), entry.name)
            except Exception as error:  # noqa: BLE001 - whatever a stranger's module raises, the others still load
                fault = _said(error)
        self.plugins.append(Plugin(entry.name, origin, entry.module, fault, disabled))

    def _check_known(self, plugin: object) -> None:
        """Refuse a function that carries our prefix but is no hook, marked or not: a misspelling, never called."""
        known = {name for name in vars(Hooks) if name.startswith("ctxkit_")}
        for name in dir(plugin):
            if name.startswith("ctxkit_") and callable(getattr(plugin, name)) and name not in known:
                raise ValueError(f"it defines `{name}`, which is no hook; the hooks are {', '.join(sorted(known))}")


def _import_file(path: Path) -> ModuleType:
    module_name = f"ctxkit_file_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise ImportError("it is not a Python file")
    module = importlib.util.module_from_spec(spec)
    # pydantic resolves the annotations of an options class through its module.
    sys.modules[module_name] = module
    spec.loader.exec_module(module)
    return module


def _said(error: Exception) -> str:
    """Return an exception as one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def _raised_in(error: Exception, path: Path) -> Origin:
    """Return the last line of the plugin's own file that the error passed through."""
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return Origin(str(path), line or (error.lineno or 0 if isinstance(error, SyntaxError) else 0), 1)
