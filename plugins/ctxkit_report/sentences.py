"""What terminal and page both say of a data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctxkit_report.notation import number, percent, rough
from ctxkit_report.visible import label

if TYPE_CHECKING:
    from ctxkit_report.prepared import Prepared


def heading(item: Prepared) -> str:
    """Name the stages of a data set, or its folder where none is known."""
    return ", ".join(label(stage, 40) for stage in item.stages) or f"data/{label(item.key)}"


def claim(item: Prepared) -> str:
    """Say what there is to train on: `11.6M tokens to train on, in 370 rows of up to 32,768`."""
    train = item.train
    if train is None or train.tokens is None:
        return "What there is to train on is not recorded"
    tokens = train.tokens if train.trained is None else train.trained
    rows = "1 row" if train.rows == 1 else f"{number(train.rows)} rows"
    window = f" of up to {item.window:,}" if item.window else ""
    return f"{rough(tokens)} tokens to train on, in {rows}{window}"


def setting(item: Prepared) -> str:
    """Say how the rows were made."""
    parts = (
        f"chunker {label(item.chunker)}" if item.chunker else "",
        f"packed by {label(item.packing)}" if item.packing else "one chunk a row",
        f"window {item.window:,} tokens" if item.window else "",
        f"tokenizer of {item.vocabulary:,} entries" if item.vocabulary else "",
    )
    return "; ".join(part for part in parts if part)


def share_name(share: float) -> str:
    """Name a share of the window: `25 % of the window`."""
    return "the whole window" if share == 1 else f"{percent(share, 1)} of the window"
