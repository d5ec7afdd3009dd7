"""What happens when a run is told to stop: training ends at a step that is saved, anything else at once."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING

from ctxkit.errors import StoppedError
from ctxkit.launch import rank
from ctxkit.stopping import CODES, stopped

if TYPE_CHECKING:
    from ctxkit.train.pulse import Pulse


class StopSignal:
    """Remember the first SIGTERM, SIGUSR1, SIGHUP or SIGINT; a second Ctrl-C ends the process as it would without us.

    SIGHUP comes when the terminal is closed; where somebody had it ignored, as `nohup` does, it stays ignored.
    """

    def __init__(self, pulse: Pulse | None = None) -> None:
        """Start with nothing received; `pulse` knows what a stop has to wait for."""
        self.received: int = 0
        self.pulse = pulse
        self._deferred = False

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handle the signals within, and put the old handlers back after.

        Raises:
            StoppedError: a signal came, outside of `deferred`.
        """
        # A shell has SIGINT ignored for what it starts in the background; sent to a run, it means the run all the same.
        deaf = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        heard = [number for number in CODES if not (number == signal.SIGHUP and deaf)]
        old = {number: signal.signal(number, self._handle) for number in heard}
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
        return stopped(self.received)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.received and number != signal.SIGINT:
            return  # a launcher passes on what the scheduler sent to every process already
        if self.received:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.received = number
        self._say(number)
        if not self._deferred:
            # Not an `Exception`, which a library on the way up might take for a failure of its own and swallow.
            raise KeyboardInterrupt

    def _say(self, number: int) -> None:
        """Say what the end has to wait for, so that it is known whether the time that is left is enough."""
        if rank() != 0 or self.pulse is None or not self._deferred:
            return
        step, save = self.pulse.longest_step, self.pulse.longest_save
        took = f"; steps took up to {step:.1f} s, saving {save:.1f} s" if step else ""
        said = f"{signal.Signals(number).name}: training ends with this step, and saves{took}\n"
        # Not by `print`: a handler may come in the midst of one, and a terminal that was closed cannot be written to.
        with suppress(OSError):
            os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, said.encode())
