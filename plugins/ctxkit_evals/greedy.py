"""Reading and writing with a model, token ids in and token ids out: what the evals of recall have in common.

Keys and values are kept wherever that is exact, so that texts with a common beginning are read once. Nothing is padded:
rows read together are equally long, and no attention mask is passed, since under sdpa a mask with padding is a dense
matrix of length times length.
"""

from __future__ import annotations

import inspect
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

from ctxkit.errors import CtxkitError
from ctxkit_evals.reach import check_reach, learned_positions

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    from transformers import Cache, PreTrainedModel

    Enough: TypeAlias = Callable[[list[int]], bool]

MASK = 1 << 27
"""Cells of the causal mask that are made at once where tokens are read after others, one byte each."""


class Reader:
    """A model that has read tokens; more can be appended and taken back.

    Keys and values are kept where that is exact (see `shares`); elsewhere everything is read anew. After one row has
    been read, several can be appended at once: each of them goes on from it.
    """

    def __init__(self, model: PreTrainedModel, *, keep_cache: bool | None = None) -> None:
        """Begin with nothing read; `keep_cache` overrules what `shares` says, for rows that are never taken back."""
        self._model = model
        self._keeps = shares(model) if keep_cache is None else keep_cache
        self._cache: Cache | None = None
        self._rows: list[list[int]] = [[]]
        self._common = 0
        self._positions = learned_positions(model)

    @property
    def length(self) -> int:
        """Tokens read, in each row."""
        return len(self._rows[0])

    def grow(self, ids: Sequence[Sequence[int]]) -> None:
        """Read tokens whose logits nobody asks for; free where everything is read anew."""
        if self._keeps and ids[0]:
            self.read(ids)
        else:
            self._append(ids)

    def read(self, ids: Sequence[Sequence[int]], keep: int = 1) -> Any:
        """Read equally long rows of one token or more; return the logits of the last `keep` places.

        Returns:
            A tensor of shape (rows, keep, vocabulary): the place of a token holds the logits of the one after it.

        Raises:
            CtxkitError: the logits are not finite.
        """
        before = self.length
        check_reach(self._positions, before + len(ids[0]))
        self._append(ids)
        # A keep of 0 would be every place to transformers.
        logits = self._continued(ids, before, keep) if self._keeps else self._anew(keep)
        # The largest logit is NaN where any is; some models rule tokens out by a logit of minus infinity.
        if not logits.amax(dim=-1).isfinite().all():
            raise CtxkitError(
                f"the model's logits are not finite (NaN or infinite) after {self.length} tokens",
                "its weights are damaged, or overflow in float16: load it in bfloat16 or float32",
            )
        return logits

    def back_to(self, length: int) -> None:
        """Forget all but the first `length` tokens of each row; of rows that were one until there, one is left."""
        if self._cache is not None and length:
            self._cache.crop(length - self.length)
        elif not length:
            self._cache = None
        self._rows = [row[:length] for row in self._rows]
        if length <= self._common and len(self._rows) > 1:
            self._one_row()

    def write(
        self, ids: Sequence[Sequence[int]], most: int, enough: Enough | Sequence[Enough] = lambda _: False
    ) -> list[list[int]]:
        """Read rows, then write after each by greedy decoding; afterwards be where it was before it read them.

        The most likely token is taken, whatever the model's generation settings say. A row ends with `most` tokens,
        before a token that ends a text by the model's settings, or when `enough`, one for all rows or one for each,
        says so of what was written so far.

        Returns:
            The tokens written, for each row; one that ends a text is not among them.
        """
        before = self.length
        writer = self._writer(before + len(ids[0]), most)
        rows = ids if writer is self else self._after(ids)
        each = [enough] * len(ids) if callable(enough) else enough
        written = _written(writer, rows, most, each, _ends(self._model))
        if writer is self:
            self.back_to(before)
        return written

    def _writer(self, length: int, most: int) -> Reader:
        """Return the reader that writes: where nothing can be shared, one whose cache only grows, as in `generate`."""
        if self._keeps or not _caches(self._model) or _crosses(self._model, length, length + most):
            return self
        return Reader(self._model, keep_cache=True)

    def _after(self, ids: Sequence[Sequence[int]]) -> list[list[int]]:
        """Return each row after what has been read."""
        ours = self._rows * len(ids) if len(self._rows) == 1 else self._rows
        return [[*row, *more] for row, more in zip(ours, ids, strict=True)]

    def _append(self, ids: Sequence[Sequence[int]]) -> None:
        if len({len(row) for row in ids}) != 1:
            raise ValueError("rows that are read together must be equally long")
        if len(self._rows) == 1:
            self._common = self.length + (len(ids[0]) if len(ids) == 1 else 0)
            if self._cache is not None and len(ids) > 1:
                self._cache.batch_repeat_interleave(len(ids))
        self._rows = self._after(ids)

    def _one_row(self) -> None:
        import torch

        self._rows = self._rows[:1]
        if self._cache is not None:
            self._cache.batch_select_indices(torch.tensor([0], device=self._model.device))

    def _continued(self, ids: Sequence[Sequence[int]], before: int, keep: int) -> Any:
        """Return the logits after tokens that follow what the cache holds, read in blocks that bound the mask."""
        if self._cache is None:
            settle(self._model)
            self._cache = _new_cache(self._model)
        total = len(ids[0])
        size = max(MASK // (before + total), 1) if before else total
        # The last block holds all the places that are kept.
        starts = [*range(0, max(total - keep, 1), size), total]
        for start, stop in pairwise(starts):
            block = [row[start:stop] for row in ids]
            places = _places(self._model, before + start, before + stop)
            logits = _forward(self._model, block, keep, past_key_values=self._cache, use_cache=True, **places)
        return logits

    def _anew(self, keep: int) -> Any:
        settle(self._model)
        return _forward(self._model, self._rows, keep, use_cache=False)


def shares(model: PreTrainedModel) -> bool:
    """Return whether keys and values of a model can be kept and taken back, with the logits of reading anew.

    They cannot where the rotary frequencies depend on the length (`dynamic`, `longrope`), nor where a layer forgets
    what it read: a sliding or chunked window, linear attention, a state.
    """
    from transformers.cache_utils import DynamicLayer

    if not _caches(model) or {"dynamic", "longrope"} & _rope_types(model).keys():
        return False
    return all(type(layer) is DynamicLayer for layer in _new_cache(model).layers)


def _written(
    reader: Reader, ids: Sequence[Sequence[int]], most: int, enough: Sequence[Enough], ends: set[int]
) -> list[list[int]]:
    """Return what greedy decoding writes after each row; a row that has ended waits for the others."""
    written: list[list[int]] = [[] for _ in ids]
    open_rows = set(range(len(ids)))
    logits = reader.read(ids)
    while most and open_rows:
        tokens = logits[:, -1].argmax(dim=-1).tolist()
        for row in sorted(open_rows):
            if tokens[row] not in ends:
                written[row].append(tokens[row])
            if tokens[row] in ends or len(written[row]) == most or enough[row](written[row]):
                open_rows.remove(row)
        if open_rows:
            logits = reader.read([[token] for token in tokens])
    return written


def _forward(model: Any, ids: Sequence[Sequence[int]], keep: int, **others: Any) -> Any:
    import torch

    rows = torch.tensor([list(row) for row in ids], device=model.device)
    with torch.no_grad():
        return model(input_ids=rows, logits_to_keep=keep, **others).logits


def _places(model: Any, start: int, stop: int) -> dict[str, Any]:
    """Return the positions for a model with a state: some of these do not count what the cache holds, as others do."""
    import torch

    if not getattr(model, "_is_stateful", False) or "position_ids" not in _arguments(model):
        return {}
    return {"position_ids": torch.arange(start, stop, device=model.device)[None]}


def settle(model: Any) -> None:
    """Let `dynamic` frequencies forget the longest row so far, which transformers keeps for all but short ones."""
    if "dynamic" in _rope_types(model):
        _forward(model, [[0]], 1, use_cache=False)


def _new_cache(model: PreTrainedModel) -> Cache:
    from transformers import DynamicCache

    return DynamicCache(config=model.config)


def _caches(model: Any) -> bool:
    """Return whether a model takes keys and values back; one with nothing but a state does not."""
    return "past_key_values" in _arguments(model)


def _arguments(model: Any) -> Container[str]:
    """Return the arguments that a model takes; an adapter around it would take any."""
    bare = model.get_base_model() if hasattr(model, "get_base_model") else model
    return inspect.signature(bare.forward).parameters


def _crosses(model: PreTrainedModel, start: int, stop: int) -> bool:
    """Return whether `longrope` changes its factors between two lengths; a cache would keep those of the shorter."""
    parameters = _rope_types(model).get("longrope", {})
    border = parameters.get("original_max_position_embeddings")
    return border is not None and start <= border < stop


def _rope_types(model: PreTrainedModel) -> dict[str, dict[str, Any]]:
    """Return the rotary parameters by their type; some models have several, by the kind of the layer."""
    parameters = getattr(model.config.get_text_config(), "rope_parameters", None) or {}
    each = [parameters, *(value for value in parameters.values() if isinstance(value, dict))]
    return {found["rope_type"]: found for found in each if "rope_type" in found}


def _ends(model: PreTrainedModel) -> set[int]:
    """Return the tokens that end a text, by the settings saved with the model."""
    settings = [getattr(model, "generation_config", None), model.config.get_text_config()]
    found: Any = next((ids for each in settings if (ids := getattr(each, "eos_token_id", None)) is not None), [])
    return {found} if isinstance(found, int) else set(found)
