"""Whose fault an exception is: what the code of a component raises becomes one error that names the component."""

from __future__ import annotations

import errno
import inspect
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Final, Generic, TypeVar

from ctxkit.errors import CtxkitError, DataError
from ctxkit.host import Host, one_line
from ctxkit.registry import collect
from ctxkit.spec import Component, Context, Document, EncodedDocument, FilterOptions, TokenFilterOptions

T = TypeVar("T")
D = TypeVar("D", Document, EncodedDocument)
END: Final = object()


class Blame:
    """Within it the code of one component runs.

    A `CtxkitError`, which was raised for the person who reads it, passes as it is, and so does what is no `Exception`,
    such as an interrupt; a full disk is nobody's fault and passes too.
    """

    def __init__(self, options: Component, place: str) -> None:
        """Name the component, and where in its work it is: `in build`, `at document 'a.txt'`."""
        self.options, self.place = options, place
        self._foreign: BaseException | None = None

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Turn an exception of the component into one that names it.

        Raises:
            DataError: with the type and the message of the exception, which is its cause.
        """
        if not isinstance(error, Exception) or isinstance(error, CtxkitError) or error is self._foreign:
            return
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            return
        slot, name = self.options.slot, self.options.kind
        said = f"the {slot} {name} of {origin(type(self.options))} failed {self.place}: {one_line(error)}"
        raised = _raised_in(type(self.options), trace)
        hint = f"it was raised in {raised}; report it to the author" if raised else "report it to the author"
        raise DataError(said, hint) from error

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
            DataError: it failed, or answered something that is neither a reason nor None.
        """
        name = document.id if isinstance(document, Document) else document.document.id
        self._blame.place = f"at document {name!r}"
        with self._blame:
            reason = self._judge(document)
        if reason is not None and not isinstance(reason, str):
            kind = self._blame.options.kind
            said = f"the filter {kind} answered {reason!r} to document {name!r}"
            raise DataError(said, "None keeps a document, a text says why it goes; this is a fault of its plugin")
        return reason


def origin(cls: type[Component]) -> str:
    """Return which plugin brings a component: its name with distribution and version, or else the file."""
    registry = collect(Host())
    for (slot, kind), plugin in registry.origins.items():
        if registry.components[slot][kind] is cls:
            return f"plugin {plugin.name} ({plugin.origin})"
    return inspect.getfile(cls)


def _raised_in(cls: type[Component], trace: TracebackType | None) -> str:
    """Return the last line of the component's own package, or module, that an error passed through."""
    package, found = cls.__module__.partition(".")[0], ""
    while trace is not None:
        code, name = trace.tb_frame.f_code, trace.tb_frame.f_globals.get("__name__", "")
        if name.partition(".")[0] == package:
            found = f"{code.co_filename}:{trace.tb_lineno}"
        trace = trace.tb_next
    return found
