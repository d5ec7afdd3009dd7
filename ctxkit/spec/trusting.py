"""The mark of options by whose value a stranger's code may run, or data leave the machine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NeedsTrust:
    """`Annotated[str | None, NeedsTrust("...")]`: where a recipe sets it, the command line must say `--trust KEY`."""

    why: str
    """What may happen, as the end of a sentence: `the folder may hold Python that runs as you`."""
