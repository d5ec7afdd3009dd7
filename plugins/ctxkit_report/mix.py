"""Set what the recipe asks of each source and class of length beside what is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctxkit_report.notation import NONE, number, percent
from ctxkit_report.visible import label

if TYPE_CHECKING:
    from ctxkit_report.prepared import Prepared, Share

HEADS = ("asked", "share", "trained", "share")


@dataclass(frozen=True)
class MixRow:
    """One part of the mix, written out."""

    name: str
    cells: tuple[str, str, str, str]
    """Tokens asked for and their share, tokens trained and their share."""
    why: str


def mix_rows(item: Prepared) -> tuple[MixRow, ...]:
    """Write out all together, each source and each class of length; nothing where nothing was asked."""
    parts = item.mix if item.mix and len(item.sources) > 1 else tuple(filter(_asked, item.mix))
    return tuple(_row(part) for part in parts) if any(map(_asked, parts)) else ()


def _asked(part: Share) -> bool:
    return part.asked_tokens is not None or part.asked_share is not None


def _row(part: Share) -> MixRow:
    cells = (number(part.asked_tokens), _percent(part.asked_share), number(part.tokens), _percent(part.share))
    return MixRow(label(part.name, 60), cells, label(part.why, 300))


def _percent(share: float | None) -> str:
    return NONE if share is None else percent(share, 1)
