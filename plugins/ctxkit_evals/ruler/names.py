"""The names of the tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

if TYPE_CHECKING:
    from collections.abc import Sequence

TaskName: TypeAlias = Literal[
    "niah_single_1",
    "niah_single_2_own_text",
    "niah_single_3_own_text",
    "niah_multikey_1_own_text",
    "niah_multikey_2",
    "niah_multikey_3",
    "niah_multivalue_own_text",
    "niah_multiquery_own_text",
    "vt",
    "cwe",
    "fwe",
]
OWN_TEXT = "_own_text"
"""What the name of a task ends with that RULER has with essays, and that has the user's documents here."""
OF_RULER = 13
"""How many tasks RULER has."""
WORDED = ("niah_single", "niah_multikey_1", "niah_multikey_2", "niah_multivalue", "niah_multiquery", "cwe")
"""How the names of tasks begin that need lists of words."""
NAMES: tuple[TaskName, ...] = get_args(TaskName)


def of_words(names: Sequence[str]) -> list[str]:
    """Return the tasks that need lists of words."""
    return [name for name in names if name.startswith(WORDED)]
