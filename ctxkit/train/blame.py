"""Whose fault an exception is: what the code of a component raises becomes one error that names the component."""

from __future__ import annotations

import errno
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Final, Generic, TypeVar

from ctxkit.errors import CtxkitError, DataError
from ctxkit.host import FILE_MODULE, Host, one_line
from ctxkit.registry import collect
from ctxkit.spec import Component, Context, Document, EncodedDocument, FilterOptions, TokenFilterOptions

T = TypeVar("T")
D = TypeVar("D", Document, EncodedDocument)
END: Final = object()
FULL_DISK: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Errors that mean a full disk, or a quota that is used up."""
SYSTEM: Final = {
    errno.EMFILE: "this process may have no more files open; raise the limit (`ulimit -n`)",
    errno.ENFILE: "the system has too many files open; end other programs, or raise its limit",
    errno.ENOMEM: "the system has no memory left; end other programs, or use fewer processes",
}
"""What to do about errors that are the system's matter rather than that of an author."""


class Blame:
    """Within it the code of one component runs.

    A `CtxkitError`, which was raised for the person who reads it, passes as it is, and so does an interrupt; a full
    disk or memory is nobody's fault and passes too. `SystemExit` does not: it would end the command in silence.
    """

    def __init__(self, options: Component, place: str) -> None:
        """Name the component, and where in its work it is: `in build`, `at document 'a.txt'`."""
        self.options, self.place = options, place
        self._foreign: BaseException | None = None
        # Now: after an error that no more files can be opened, the plugins could not be found.
        _installed()

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Turn an exception of the component into one that names it.

        Raises:
            DataError: with the type and the message of the exception, which is its cause.
        """
        if not isinstance(error, Exception | SystemExit) or error is self._foreign or _passes(error):
            return
        slot, name = self.options.slot, self.options.kind
        said = f"the {slot} {name} of {origin(type(self.options))} failed {self.place}: {one_line(error)}"
        system = SYSTEM.get(error.errno or 0) if isinstance(error, OSError) else None
        raised = _raised_in(type(self.options), trace)
        hint = [f"it was raised in {raised}"] if raised else []
        raise DataError(said, "; ".join([*hint, system or "report it to the author"])) from error

    def items(self, made: Iterable[T]) -> Iterator[T]:
        """Yield what the component gives."""
        with self:
            iterator = iter(made)
        while True:
            with self:
                held = [next(iterator, END)]
            if held[0] is END:
                return
            # Out of the list: this frame, which waits for the next, keeps no document of a gigabyte alive.
            yield held.pop()  # type: ignore[misc]

    def given(self, items: Iterator[T]) -> Iterator[T]:
        """Yield what the component is given; what fails there is not its fault."""
        try:
            yield from items
        except Exception as error:
            self._foreign = error
            raise


class Judge(Generic[D]):
    """A filter of texts or of tokens, whose answers are held against the contract."""

    def __init__(self, options: FilterOptions | TokenFilterOptions, context: Context) -> None:
        """Build the filter.

        Raises:
            DataError: that failed.
        """
        self._blame = Blame(options, "in build")
        with self._blame:
            self._judge: Callable[[D], str | None] = options.build(context)  # type: ignore[assignment]

    def __call__(self, document: D) -> str | None:
        """Return what the filter says.

        Raises:
            DataError: it failed, or answered something that is neither a reason in words nor None.
        """
        name = document.id if isinstance(document, Document) else document.document.id
        self._blame.place = f"at document {name!r}"
        with self._blame:
            reason = self._judge(document)
        if reason is not None and not (isinstance(reason, str) and reason.strip()):
            kind = self._blame.options.kind
            said = f"the filter {kind} answered {reason!r} to document {name!r}"
            raise DataError(said, "None keeps a document, a text says why it goes; this is a fault of its plugin")
        return reason


def _passes(error: BaseException) -> bool:
    """Return whether an error is that of no component, or was raised for the person who reads it."""
    if isinstance(error, OSError) and error.errno in FULL_DISK:
        return True
    return isinstance(error, CtxkitError | MemoryError)


def origin(cls: type[Component]) -> str:
    """Return which plugin brings a component: its name with distribution and version, or else the file."""
    registry = collect(_installed())
    for (slot, kind), plugin in registry.origins.items():
        if registry.components[slot][kind] is cls:
            return f"plugin {plugin.name} ({plugin.origin})"
    return inspect.getfile(cls)


@functools.cache
def _installed() -> Host:
    return Host()


def _raised_in(cls: type[Component], trace: TracebackType | None) -> str:
    """Return the last line of a plugin's code that an error passed through, and which plugin's where it is another's.

    A component may be given others as options, and run them itself.
    """
    own, found = _package(cls.__module__), ""
    plugins = {_package(plugin.module): plugin for plugin in _installed().plugins if plugin.module and not plugin.fault}
    while trace is not None:
        package = _package(trace.tb_frame.f_globals.get("__name__", ""))
        if package == own or package in plugins or package.startswith(FILE_MODULE):
            found = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
            if package != own and package in plugins:
                found += f" of plugin {plugins[package].name} ({plugins[package].origin})"
        trace = trace.tb_next
    return found


def _package(module: str) -> str:
    return module.partition(".")[0]
