"""Chat templates of strangers: rendered once in a process with limits, before anything waits for one that never ends.

transformers renders them in Jinja's sandbox, which keeps them from Python, and knows no limit of time or memory.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from contextlib import suppress

from transformers import PreTrainedTokenizerBase

from ctxkit.errors import DataError

CPU_SECONDS = 5
"""Of the processor, for two short turns; templates that people use take a thousandth of a second."""
WALL_SECONDS = 60
"""On the clock, for a machine that is busy with other things."""
MEMORY_BYTES = 1 << 30
"""Beyond what the process has already."""
_TURNS = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello"}]
_RENDERED, _NO_MEMORY = 0, 3


def check_template(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Refuse a tokenizer whose chat template never ends, or fills the memory; what it says does not matter here.

    Raises:
        DataError: with the limit that it broke.
    """
    if not tokenizer.chat_template:
        return
    child = os.fork()
    if child == 0:
        _render_and_exit(tokenizer)
    reason = _broken_limit(child)
    if reason:
        said = f"the chat template of the tokenizer {name} {reason} for two short turns"
        raise DataError(said, "take the tokenizer from a place that you trust, or mend its `chat_template`")


def _render_and_exit(tokenizer: PreTrainedTokenizerBase) -> None:
    """Render two turns under limits and end this process: no word and no cleaning up, which are its parent's."""
    code = _RENDERED
    try:
        _limit()
        tokenizer.apply_chat_template(_TURNS, tokenize=False)
    except MemoryError:
        code = _NO_MEMORY
    except Exception:  # noqa: BLE001 - a template that refuses these turns may take others
        code = _RENDERED
    finally:
        os._exit(code)


def _limit() -> None:
    with open("/proc/self/statm", encoding="ascii") as pages:  # noqa: PTH123 - on Linux alone, as are the limits
        size = int(pages.read().split()[0]) * resource.getpagesize()
    most = resource.getrlimit(resource.RLIMIT_AS)[1]
    wanted = size + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)


def _broken_limit(child: int) -> str:
    """Wait for the process; return which limit ended it, or an empty string."""
    deadline = time.monotonic() + WALL_SECONDS
    done, status = os.waitpid(child, os.WNOHANG)
    while not done and time.monotonic() < deadline:
        time.sleep(0.002)
        done, status = os.waitpid(child, os.WNOHANG)
    if not done:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return f"takes more than {WALL_SECONDS} s"
    code = os.waitstatus_to_exitcode(status)
    if code == _NO_MEMORY:
        return f"takes more than {MEMORY_BYTES >> 30} GiB of memory"
    return f"takes more than {CPU_SECONDS} s" if code < 0 else ""
