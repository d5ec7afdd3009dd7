"""The tasks by name, with the settings of RULER (its synthetic.yaml)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ctxkit_evals.ruler.common_words import CommonWords
from ctxkit_evals.ruler.drawing import Frame, Task
from ctxkit_evals.ruler.frequent_words import FrequentWords
from ctxkit_evals.ruler.names import OWN_TEXT, TaskName
from ctxkit_evals.ruler.niah import Niah
from ctxkit_evals.ruler.tracking import Tracking

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class Given:
    """What tasks are made of."""

    seed: int = 42
    frame: Frame = field(default_factory=Frame)
    text: Sequence[str] = ()
    """The words of the user's haystack."""
    more_words: tuple[str, ...] = ()


def made(names: Sequence[TaskName], given: Given) -> list[Task]:
    """Return tasks, in the order of their names."""
    return [_made(name, given) for name in names]


def _made(name: TaskName, given: Given) -> Task:
    if name == "vt":
        return Tracking(name, given.seed, given.frame)
    if name == "cwe":
        return CommonWords(name, given.seed, given.frame, given.more_words)
    if name == "fwe":
        return FrequentWords(name, given.seed, given.frame)
    text = given.text if name.endswith(OWN_TEXT) else ()
    return Niah(name, seed=given.seed, frame=given.frame, text=text, **_NIAH[name])


_NIAH: Mapping[str, Mapping[str, Any]] = {
    "niah_single_1": {"haystack": "noise"},
    "niah_single_2_own_text": {"haystack": "text"},
    "niah_single_3_own_text": {"haystack": "text", "values": "uuids"},
    "niah_multikey_1_own_text": {"haystack": "text", "stated": 4},
    "niah_multikey_2": {"haystack": "needles"},
    "niah_multikey_3": {"haystack": "needles", "keys": "uuids", "values": "uuids"},
    "niah_multivalue_own_text": {"haystack": "text", "values_each": 4},
    "niah_multiquery_own_text": {"haystack": "text", "stated": 4, "asked": 4},
}
