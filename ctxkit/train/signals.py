"""What happens when a run is told to stop: training ends at a step that is saved, anything else at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ctxkit.errors import ExitCode, StoppedError

_CODES = {signal.SIGTERM: ExitCode.PREEMPTED, signal.SIGUSR1: ExitCode.PREEMPTED, signal.SIGINT: ExitCode.INTERRUPTED}


class StopSignal:
    """Remember the first SIGTERM, SIGUSR1 or SIGINT; a second Ctrl-C ends the process as it would without us."""

    def __init__(self) -> None:
        """Start with nothing received."""
        self.received: int = 0
        self._deferred = False

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handle the signals within, and put the old handlers back after.

        Raises:
            StoppedError: a signal came, outside of `deferred`.
        """
        old = {number: signal.signal(number, self._handle) for number in _CODES}
        try:
            yield
        except KeyboardInterrupt as interrupt:
            if not self.received:
                raise
            raise self.error() from interrupt
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Only remember a signal within, for training to end at the end of its step."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def error(self) -> StoppedError:
        """Return the error that ends the run with the exit code of the signal."""
        name = signal.Signals(self.received).name
        said = f"stopped by {name}; everything finished so far is saved"
        return StoppedError(said, "type the same command to continue", exit_code=_CODES[signal.Signals(self.received)])

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.received and number != signal.SIGINT:
            return  # a launcher passes on what the scheduler sent to every process already
        if self.received:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.received = number
        if not self._deferred:
            # Not an `Exception`, which a library on the way up might take for a failure of its own and swallow.
            raise KeyboardInterrupt
