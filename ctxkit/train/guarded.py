"""What stands around the work of every process of a run, so that each end is one that a person can act on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ctxkit.host import Host
from ctxkit.launch import rank
from ctxkit.reading import Located
from ctxkit.rundir import RunDirectory
from ctxkit.train.disk import full_disk_said
from ctxkit.train.memory_errors import Asked, short_memory_said
from ctxkit.train.pulse import FOLDER, Pulse, beating
from ctxkit.train.signals import StopSignal
from ctxkit.train.watchdog import Watchdog, lost_said


@contextmanager
def guarded(located: Located, host: Host, directory: RunDirectory, stop: StopSignal) -> Iterator[None]:
    """Write the pulse of this process, watch over the others, and say what a signal, a disk, a memory or a peer ended.

    Raises:
        CtxkitError: with the exit code of what happened.
    """
    pulse = stop.pulse or Pulse(directory.path / FOLDER, rank())
    watchdog, asked = Watchdog(pulse, directory), Asked(pulse, located, host)
    alive, said = beating(pulse, watchdog), short_memory_said(asked)
    with alive, lost_said(watchdog), said, full_disk_said(directory.path), stop.installed():
        yield
