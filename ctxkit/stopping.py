"""A command that is told to stop, before and behind what handles signals itself: the documented exit code all the same.

Loading the training libraries takes seconds, in which a scheduler may well take the machine away again.
"""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ctxkit.errors import ExitCode, StoppedError
from ctxkit.launch import STATUS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

CODES = {
    signal.SIGTERM: ExitCode.PREEMPTED,
    signal.SIGUSR1: ExitCode.PREEMPTED,
    signal.SIGHUP: ExitCode.PREEMPTED,
    signal.SIGINT: ExitCode.INTERRUPTED,
}


def stopped(number: int) -> StoppedError:
    """Return the error that ends a command with the exit code of a signal."""
    by = signal.Signals(number)
    said = f"stopped by {by.name}; everything finished so far is saved"
    return StoppedError(said, "type the same command to continue", exit_code=CODES[by])


@contextmanager
def stoppable() -> Iterator[None]:
    """End what runs within at a signal that would kill the process; one that is handled or ignored already stays so.

    Raises:
        StoppedError: SIGTERM, SIGUSR1 or SIGHUP came.
    """
    received: list[int] = []

    def handle(number: int, _frame: FrameType | None) -> None:
        if not received:
            received.append(number)
            # Not an `Exception`, which a library on the way up might take for a failure of its own and swallow.
            raise KeyboardInterrupt

    main = threading.current_thread() is threading.main_thread()
    if main and STATUS in os.environ:
        # `ctxkit launch` has the launcher ignore it, and a process inherits that: here, nobody asked for it.
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    ours = [number for number in CODES if main and signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, handle)
    try:
        yield
    except BaseException as error:  # click makes an `Abort` of it
        if not received:
            raise
        raise stopped(received[0]) from error
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
