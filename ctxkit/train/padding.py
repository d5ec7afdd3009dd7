"""Rows padded on the right need no attention mask: no token before the padding looks at it, and it is not trained.

With sdpa a batch that holds any padding builds a dense mask of tokens x tokens all the same, 16 GiB at 131,072 of them,
and takes attention off its fast path. Flash attention builds none.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from trl import SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from ctxkit.layouts import layout
from ctxkit.reading import Located
from ctxkit.recipe import Stage
from ctxkit.train.positions import SharedDocuments, WithPositions
from ctxkit.train.progress import say

MASK, POSITIONS = "attention_mask", "position_ids"


def fit_batches(trainer: SFTTrainer, located: Located, stage: Stage) -> None:
    """Give a trainer the batches that the rows of a stage need, and its model no mask that they do not need."""
    packing, collator = stage.data.packing, cast("Any", trainer.data_collator)
    if packing and packing.document_mask and layout(located, stage).sp > 1:
        trainer.data_collator = SharedDocuments(collator.pad_token_id, stage.data.row_length)
    elif stage.data.skips:
        trainer.data_collator = WithPositions(trainer.data_collator)
    without_mask(trainer, stage.name)


def without_mask(trainer: SFTTrainer, stage: str) -> bool:
    """Have a trainer's model get no attention mask where that changes nothing; return whether it does.

    Exact for causal attention by sdpa and TRL's batches, which are padded on the right. Not for packed rows and rows
    whose positions skip, which need other batches; not where the load of experts is balanced, which counts tokens by
    the mask; and not under context parallelism, which drops the mask itself.
    """
    model, collator, args = cast("Any", trainer.model), trainer.data_collator, cast("Any", trainer.args)
    exact = (
        model.config.get_text_config()._attn_implementation == "sdpa"  # noqa: SLF001 - transformers has no other name
        and type(collator) is DataCollatorForLanguageModeling
        and not collator.padding_free
        and not trainer.aux_loss_enabled
        and trainer.get_cp_size() == 1
    )
    if exact:
        # Around the model, not in the batch: tokens are counted there by the mask.
        model.register_forward_pre_hook(_dropped, with_kwargs=True)
        if args.per_device_train_batch_size > 1 or args.pad_to_multiple_of:
            say(f"stage {stage}: rows that are padded are so on the right: sdpa gets no mask and builds none")
    return exact


def _dropped(_: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a forward pass without the mask.

    Where there are positions, as under sequence parallelism, they go on over the padding: transformers would take the
    zeros there for documents of their own, and build a mask.
    """
    kept = {name: value for name, value in named.items() if name != MASK}
    if MASK in named and (positions := kept.get(POSITIONS)) is not None:
        kept[POSITIONS] = positions[:, :1] + torch.arange(positions.shape[1], device=positions.device)
    return arguments, kept
