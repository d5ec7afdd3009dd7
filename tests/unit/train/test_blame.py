"""An exception in the code of a plugin is one error that names the component, and loses nothing of what was said."""

from __future__ import annotations

import errno
import importlib.util
import os
import resource
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Literal

import pytest

from ctxkit.errors import CtxkitError, DataError, DiskError, ExitCode
from ctxkit.spec import (
    Chunk,
    Context,
    Document,
    EncodedDocument,
    FilterOptions,
    SourceOptions,
    Span,
    TokenFilterOptions,
)
from ctxkit.train import blame
from ctxkit.train.blame import Judge, origin
from ctxkit_chunkers.options import OverlapOptions
from tests.unit.train.builders import Scripted, Texts, prepare, section

pytestmark = pytest.mark.torch

GOOD = Texts(lengths=(19, 19, 19))
HERE = Path(__file__).name


class Fall(SourceOptions):
    """Gives one document and falls."""

    kind: Literal["fall"] = "fall"
    at: str = "iterator"
    error: ClassVar[BaseException]

    def fingerprint(self, context: Context) -> str:
        """Fall here, if asked to."""
        return self._fall("fingerprint")

    def build(self, context: Context) -> Iterator[Document]:
        """Return a generator."""
        self._fall("build")
        return self._documents()

    def _documents(self) -> Iterator[Document]:
        yield Document("x" * 30, "first.txt")
        self._fall("iterator")

    def _fall(self, place: str) -> str:
        if self.at == place:
            raise self.error
        return ""


class TextJudge(FilterOptions):
    """Falls at the second document."""

    kind: Literal["text_judge"] = "text_judge"

    def build(self, context: Context) -> Callable[[Document], str | None]:
        """Return the judge."""
        return lambda document: fall_at(document.id)


class TokenJudge(TokenFilterOptions):
    """Falls at the second document."""

    kind: Literal["token_judge"] = "token_judge"

    def build(self, context: Context) -> Callable[[EncodedDocument], str | None]:
        """Return the judge."""
        return lambda document: fall_at(document.document.id)


class Falling(Scripted):
    """Falls when it was given the second document."""

    @staticmethod
    def made(_: Context, documents: Iterable[EncodedDocument]) -> Iterator[Chunk]:
        """Yield one chunk."""
        for document in documents:
            fall_at(document.document.id)
            ids = document.input_ids
            yield Chunk(ids, (Span(document.document.id, 0, len(ids)),))


def fall_at(name: str) -> None:
    """Raise at one document."""
    if name == "text/1":
        raise Fall.error


WHERE: dict[str, tuple[dict[str, Any], str]] = {
    "source": ({"sources": (Fall(),)}, "the source fall of .* failed after document 'first.txt'"),
    "source's build": ({"sources": (Fall(at="build"),)}, "the source fall of .* failed before its first document"),
    "source's fingerprint": ({"sources": (Fall(at="fingerprint"),)}, "the source fall of .* failed in fingerprint"),
    "filter": ({"filters": (TextJudge(),)}, "the filter text_judge of .* failed at document 'text/1'"),
    "token filter": ({"filters": (TokenJudge(),)}, "the filter token_judge of .* failed at document 'text/1'"),
    "chunker": (
        {"chunker": Falling(length=32)},
        "the chunker scripted of .* failed after it was given document 'text/1'",
    ),
}


def attempt(case: str, folder: Path) -> None:
    """Prepare data with a component that raises `Fall.error`."""
    changes = dict(WHERE[case][0])
    prepare(section(*changes.pop("sources", (GOOD,)), **changes), folder)


@pytest.mark.parametrize("case", list(WHERE))
def test_exception_of_a_component_is_one_error(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names slot, kind, file, place and document, keeps type and message, and has the exception as its cause."""
    error = ZeroDivisionError("no\nway")
    monkeypatch.setattr(Fall, "error", error, raising=False)
    with pytest.raises(DataError, match=f"{WHERE[case][1]}: ZeroDivisionError: no way\n") as caught:
        attempt(case, tmp_path)
    assert caught.value.__cause__ is error
    assert caught.value.exit_code == ExitCode.DATA
    assert f"{HERE}:" in caught.value.hint


@pytest.mark.parametrize("case", list(WHERE))
@pytest.mark.parametrize(
    "error",
    [
        CtxkitError("on purpose", "mend it"),
        KeyboardInterrupt(),
        MemoryError(),
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
    ],
    ids=lambda error: str(error) or type(error).__name__,
)
def test_what_was_raised_on_purpose_passes(
    case: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that was written for a person, an interrupt, and a full disk or memory come through as they are."""
    monkeypatch.setattr(Fall, "error", error, raising=False)
    with pytest.raises(type(error)) as caught:
        attempt(case, tmp_path)
    assert caught.value is error


@pytest.mark.parametrize("case", list(WHERE))
@pytest.mark.parametrize("code", [0, 3, None])
def test_component_that_exits(case: str, code: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`sys.exit` in a component does not end the command as if it were done."""
    monkeypatch.setattr(Fall, "error", SystemExit(code), raising=False)
    with pytest.raises(DataError, match=f"{WHERE[case][1]}: SystemExit: {code}") as caught:
        attempt(case, tmp_path)
    assert caught.value.exit_code == ExitCode.DATA


@pytest.mark.parametrize(
    ("number", "advice"), [(errno.EMFILE, "`ulimit -n`"), (errno.ENFILE, "its limit"), (errno.ENOMEM, "no memory left")]
)
def test_what_the_system_lacks(number: int, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many open files are named with where they were opened, and with what helps; no author can mend that."""
    monkeypatch.setattr(Fall, "error", OSError(number, os.strerror(number)), raising=False)
    with pytest.raises(DataError, match=f"the source fall of .*: OSError: .*{os.strerror(number)}") as caught:
        attempt("source", tmp_path)
    assert advice in caught.value.hint
    assert f"{HERE}:" in caught.value.hint
    assert "author" not in caught.value.hint


def test_source_that_leaks_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With no file left to open, the plugins cannot be looked for any more; the source is named all the same."""
    blame._installed.cache_clear()
    limits, held = resource.getrlimit(resource.RLIMIT_NOFILE), []

    def leak(_: Context) -> Iterator[Document]:
        yield Document("x" * 30, "first.txt")
        held.append(os.open(os.devnull, os.O_RDONLY))
        resource.setrlimit(resource.RLIMIT_NOFILE, (held[0] + 5, limits[1]))
        while True:
            held.append(os.open(os.devnull, os.O_RDONLY))

    monkeypatch.setattr(Nested, "run", leak, raising=False)
    try:
        with pytest.raises(DataError, match=r"the source nested of .* failed after document 'first.txt'"):
            prepare(section(Nested()), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for file in held:
            os.close(file)
    assert held


def test_used_up_quota_is_said_like_a_full_disk(tmp_path: Path) -> None:
    """With exit code 6, and what to do."""
    from ctxkit.train.disk import full_disk_said

    with pytest.raises(DiskError, match="no space is left"), full_disk_said(tmp_path):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))


class Nested(Texts):
    """Runs what another component does."""

    kind: Literal["nested"] = "nested"
    run: ClassVar[Callable[[Context], Iterable[Any]]]

    def build(self, context: Context) -> Iterator[Document]:
        """Yield what the other one gives."""
        yield from type(self).run(context)


def test_component_within_another_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line of the plugin that raised, and its name, rather than the line that ran it."""
    inner = OverlapOptions(kind="overlap", length=16).build
    monkeypatch.setattr(Nested, "run", lambda context: inner(context)([None]), raising=False)
    with pytest.raises(DataError, match=r"the source nested of .* failed before its first document: ") as caught:
        prepare(section(Nested()), tmp_path)
    place, whose = caught.value.hint.removeprefix("it was raised in ").split(" of plugin ")
    assert "/ctxkit_chunkers/" in place
    assert whose.startswith("chunkers (ctxkit-longcontext ")


def test_component_of_a_file_within_another_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of `--plugin` has no distribution: its line says whose it is."""
    path = tmp_path / "inner.py"
    path.write_text("def run(context):\n    yield 1 / 0\n")
    monkeypatch.setattr(Nested, "run", loaded(path, monkeypatch).run, raising=False)
    with pytest.raises(DataError, match=r"the source nested of .*: ZeroDivisionError") as caught:
        prepare(section(Nested()), tmp_path)
    assert caught.value.hint == f"it was raised in {path}:2; report it to the author"


@pytest.mark.parametrize("error", [StopIteration("early"), ValueError()], ids=["StopIteration", "no message"])
def test_exceptions_of_no_words(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`StopIteration` of a filter ends nothing in silence, and an error without a message still has its type."""
    monkeypatch.setattr(Fall, "error", error, raising=False)
    with pytest.raises(DataError, match=f"the filter text_judge of .* failed at .*: {type(error).__name__}:"):
        attempt("filter", tmp_path)


def test_chunker_is_not_blamed_for_the_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails below the stream that a chunker reads is not its fault, though it comes out of its generator."""
    from ctxkit.train.documents import SourceDocuments

    error = RuntimeError("a fault of ours")

    def broken(_: object, index: int) -> None:
        raise error

    monkeypatch.setattr(SourceDocuments, "get", broken)
    with pytest.raises(RuntimeError) as caught:
        prepare(section(GOOD), tmp_path)
    assert caught.value is error


def test_source_behind_a_chunker_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its error comes out through chunker and reader, and is still that of the source alone."""
    monkeypatch.setattr(Fall, "error", KeyError("lost"), raising=False)
    with pytest.raises(DataError) as caught:
        attempt("source", tmp_path)
    assert "chunker" not in str(caught.value)


@pytest.mark.parametrize("given", [None, 5])
def test_source_that_is_no_iterable(given: object, tmp_path: Path) -> None:
    """A `build` that forgot to return is told so."""

    class Forgetful(Texts):
        """Returns nothing."""

        kind: Literal["forgetful"] = "forgetful"

        def build(self, context: Context) -> Any:
            return given

    with pytest.raises(DataError, match=r"the source forgetful of .* failed before its first document: TypeError: "):
        prepare(section(Forgetful()), tmp_path)


@pytest.mark.parametrize("given", [None, Chunk([1, 2], ())], ids=["nothing", "a list of ids"])
def test_chunker_that_gives_no_chunk(given: Any, tmp_path: Path) -> None:
    """It is named, rather than the place in the core that stumbled over it."""

    class Wrong(Scripted):
        """Yields what is no chunk."""

        @staticmethod
        def made(_: Context, documents: Iterable[EncodedDocument]) -> Iterator[Any]:
            return (given for _ in documents)

    with pytest.raises(DataError, match="the chunker scripted gave something that is no `Chunk`"):
        prepare(section(GOOD, chunker=Wrong(length=32)), tmp_path)


@pytest.mark.parametrize("filters", [TextJudge, TokenJudge])
@pytest.mark.parametrize("answer", [True, "", " "])
def test_filter_that_answers_nonsense(filters: type[Any], answer: object, tmp_path: Path) -> None:
    """A filter that returns True, or no word, instead of a reason is named as wrong, not counted."""

    class Nodding(filters):
        """Says yes, or nothing."""

        def build(self, context: Context) -> Callable[[object], object]:
            return lambda _: answer

    with pytest.raises(DataError, match=rf"the filter .*_judge answered {answer!r} to document 'text/0'"):
        prepare(section(GOOD, filters=(Nodding(),)), tmp_path)


@pytest.mark.parametrize("reason", [None, ""])
def test_source_that_skips_without_a_reason(reason: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left out is shown by its reason, so there must be one."""

    def skip(context: Context) -> Iterator[Document]:
        yield Document("x" * 30, "first.txt")
        context.skipped("second.txt", reason)

    monkeypatch.setattr(Nested, "run", skip, raising=False)
    with pytest.raises(DataError, match=f"the source nested skipped 'second.txt' for the reason {reason!r}"):
        prepare(section(Nested()), tmp_path)


def test_filter_that_cannot_be_built() -> None:
    """A failure in `build` is the filter's, too."""

    class Unbuilt(TextJudge):
        """Has no build."""

        def build(self, context: Context) -> Callable[[Document], str | None]:
            raise RuntimeError("no list of words")

    with pytest.raises(DataError, match=r"the filter text_judge of .* failed in build: RuntimeError: no list of words"):
        Judge(Unbuilt(), Context())


def test_origin_of_an_installed_plugin() -> None:
    """A component that is installed is named with its plugin and distribution."""
    assert origin(OverlapOptions).startswith("plugin chunkers (ctxkit-longcontext ")


def test_origin_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A component of a file, as `--plugin` loads one, is named with the file."""
    path = tmp_path / "mine.py"
    path.write_text("from ctxkit.spec import FilterOptions\n\nclass Mine(FilterOptions):\n    kind: str = 'mine'\n")
    assert origin(loaded(path, monkeypatch).Mine) == str(path)


def loaded(path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return a file as a module, as `--plugin` loads it."""
    name = f"ctxkit_file_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module
