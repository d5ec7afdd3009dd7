"""Contents of files by object id, from one `git cat-file --batch`."""

from __future__ import annotations

import threading
from typing import IO, TYPE_CHECKING, NamedTuple, Self

from ctxkit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

    from ctxkit_sources.git.repository import Repository

PIECE = 1 << 20


class Blob(NamedTuple):
    """One answer."""

    size: int
    """Bytes; -1 where the repository lacks the object."""
    data: bytes | None
    """None where it is missing or larger than asked for."""


class Ahead:
    """Contents in the order of their ids, which are sent ahead of the answers; used in a `with` statement.

    A thread sends, since git stops reading when its own output is not read. What is sent and not yet answered is
    bounded by the buffers of the two pipes.
    """

    def __init__(self, repository: Repository, ids: Iterable[str], max_bytes: int) -> None:
        """Begin.

        Args:
            repository: An open one.
            ids: Object ids; read in another thread.
            max_bytes: Size of the largest content that is returned.
        """
        self._stream = repository.stream("cat-file", "--batch", "--buffer", bulk=True)
        self._max_bytes = max_bytes
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._send, args=(ids,), daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stream.kill()
        self._thread.join()
        self._stream.__exit__(kind, error, traceback)

    def __iter__(self) -> Iterator[Blob]:
        """Yield the contents.

        Raises:
            DataError: git failed; or whatever reading the ids raised.
        """
        while (blob := _answer(self._stream.output, self._max_bytes)) is not None:
            yield blob
        if self._error:
            raise self._error
        self._stream.finish()

    def _send(self, ids: Iterable[str]) -> None:
        try:
            self._stream.input.writelines(f"{id_}\n".encode() for id_ in ids)
            self._stream.input.close()
        except BrokenPipeError:
            pass  # git ended; whoever reads its answers says why
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that reads
            # In this order: whoever finds git gone finds the reason.
            self._error = error
            self._stream.kill()


class OneByOne:
    """Contents asked for one at a time; used in a `with` statement."""

    def __init__(self, repository: Repository, max_bytes: int) -> None:
        """Begin; `max_bytes` is the size of the largest content that is returned."""
        self._stream = repository.stream("cat-file", "--batch")
        self._max_bytes = max_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stream.__exit__(kind, error, traceback)

    def read(self, id_: str) -> Blob:
        """Return one content.

        Raises:
            DataError: git failed.
        """
        self._stream.input.write(f"{id_}\n".encode())
        self._stream.input.flush()
        blob = _answer(self._stream.output, self._max_bytes)
        if blob is None:
            self._stream.finish()
            raise DataError("git ended before it answered")
        return blob


def _answer(output: IO[bytes], max_bytes: int) -> Blob | None:
    """Read `<id> <type> <size>`, the content and a newline, or `<id> missing`; None at the end."""
    head = output.readline().split()
    if not head:
        return None
    if len(head) != 3:
        return Blob(-1, None)
    size = int(head[2])
    if size > max_bytes:
        _discard(output, size + 1)
        return Blob(size, None)
    data = output.read(size)
    # The newline is missing where git ended within the content.
    return Blob(size, data) if output.read(1) else None


def _discard(output: IO[bytes], size: int) -> None:
    while size > 0 and (piece := output.read(min(size, PIECE))):
        size -= len(piece)
