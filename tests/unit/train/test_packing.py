"""Chunks joined into rows: nothing lost, hardly any padding, and each document has the loss that it has alone."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM
from trl.data_utils import pack_dataset
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from ctxkit.recipe import Packing
from ctxkit.train.packing import best_fit
from ctxkit.train.rows import Prepared
from tests.unit.train.builders import Texts, ids_of, prepare, section

pytestmark = pytest.mark.torch


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[int], int]:
    """Draw lengths and a capacity that holds each."""
    capacity = draw(st.integers(1, 50))
    return draw(st.lists(st.integers(1, capacity), max_size=60)), capacity


@given(cases())
def test_best_fit_is_a_permutation_within_capacity(case: tuple[list[int], int]) -> None:
    """Every chunk is in one row, no row is over-full, and no two rows would fit into one."""
    lengths, capacity = case
    rows = best_fit(lengths, capacity)
    assert sorted(chunk for row in rows for chunk in row) == list(range(len(lengths)))
    sums = sorted(sum(lengths[chunk] for chunk in row) for row in rows)
    assert not sums or (sums[-1] <= capacity)
    assert len(sums) < 2 or sums[0] + sums[1] > capacity
    assert all(row == sorted(row) for row in rows)
    assert rows == sorted(rows)


@given(cases())
def test_never_more_rows_than_trl(case: tuple[list[int], int]) -> None:
    """TRL's own packer, given all lengths in one batch, makes as many rows or more."""
    lengths, capacity = case
    if not lengths:
        return
    dataset = Dataset.from_dict({"input_ids": [[1] * length for length in lengths]})
    theirs = pack_dataset(dataset, capacity, "bfd", {"batch_size": len(lengths)})
    assert sum(map(len, theirs["input_ids"])) == sum(lengths)
    assert len(best_fit(lengths, capacity)) <= len(theirs)


def test_by_hand() -> None:
    """Longest first, each into the fullest row that it fits."""
    assert best_fit([3, 7, 5, 4, 1], 10) == [[0, 1], [2, 3, 4]]
    assert best_fit([7, 5, 3], 10) == [[0, 2], [1]], "into the fullest, not the emptiest"
    assert best_fit([10, 10], 10) == [[0], [1]]
    assert best_fit([], 10) == []


def test_chunk_longer_than_a_row_is_refused() -> None:
    """Nothing is cut in silence."""
    with pytest.raises(ValueError, match="a chunk of 11 tokens fits no row of 10"):
        best_fit([3, 11], 10)


def mixes(capacity: int) -> dict[str, np.ndarray]:
    """Return three mixes of lengths, cut to a capacity as the chunkers cut: rests stay as chunks of their own."""
    draw = np.random.default_rng(0)
    code = np.minimum(draw.lognormal(np.log(1500), 1.3, 6000), 157_000).astype(int) + 1
    short = draw.integers(20, 600, 100_000)
    long = draw.exponential(20_000, 5000).astype(int) + 1
    return {name: cut(lengths, capacity) for name, lengths in {"code": code, "short": short, "long": long}.items()}


def cut(lengths: np.ndarray, capacity: int) -> np.ndarray:
    """Return the lengths of chunks: full ones, and what is left."""
    full = np.repeat(capacity, int((lengths // capacity).sum()))
    rests = lengths % capacity
    return np.concatenate([full, rests[rests > 0]])


@pytest.mark.parametrize("capacity", [8192, 32_768])
@pytest.mark.parametrize("mix", ["code", "short", "long"])
def test_rows_are_full(mix: str, capacity: int) -> None:
    """At least 99 % of the window, whatever the mix."""
    lengths = mixes(capacity)[mix]
    rows = best_fit(lengths.tolist(), capacity)
    assert sum(map(len, rows)) == len(lengths)
    assert lengths.sum() / (len(rows) * capacity) >= 0.99


PACKED = Texts(lengths=tuple(5 + (number * 13) % 40 for number in range(60)))


def test_packed_rows_hold_every_chunk(tmp_path: Path) -> None:
    """Packed or not, the same chunks; packed, each at the place that `seq_lengths` says."""
    (tmp_path / "alone").mkdir()
    alone = sorted(ids_of(prepare(section(PACKED, length=32), tmp_path / "alone")))
    prepared = prepare(section(PACKED, length=32, packing=Packing()), tmp_path)
    assert sorted(chunk for row in prepared.train for chunk in apart(row["input_ids"], row["seq_lengths"])) == alone
    assert prepared.manifest["train"]["efficiency"] > 0.97
    assert prepared.manifest["packing"] == {"strategy": "best_fit", "document_mask": True}


def apart(ids: np.ndarray, lengths: list[int]) -> list[list[int]]:
    """Return the chunks of a packed row."""
    edges = np.cumsum([0, *lengths]).tolist()
    return [ids[start:end].tolist() for start, end in pairwise(edges)]


def test_rows_longer_than_chunks(tmp_path: Path) -> None:
    """`packing.length` makes rows of several windows; without a mask they carry no lengths."""
    packing = Packing(length=128, document_mask=False)
    prepared = prepare(section(PACKED, length=32, packing=packing), tmp_path)
    assert max(len(row["input_ids"]) for row in prepared.train) == 128
    assert set(prepared.train[0]) == {"input_ids", "labels"}


def test_overlap_stays_masked_in_packed_rows(tmp_path: Path) -> None:
    """Each chunk brings its mask along to where it lies in the row."""
    prepared = prepare(section(PACKED, length=16, overlap=6, packing=Packing(length=64)), tmp_path)
    trained = sum(int((row["labels"] != -100).sum()) for row in prepared.train)
    assert trained == prepared.manifest["train"]["tokens_trained"] == sum(PACKED.lengths) + len(PACKED.lengths)
    for row in prepared.train:
        hidden = apart(row["labels"], row["seq_lengths"])
        assert all((-100 in chunk) == (chunk[0] == -100) for chunk in hidden)


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    """A tiny random model in float32 on sdpa."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=258, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=256, attn_implementation="sdpa", initializer_range=0.3,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def packed_loss(model: LlamaForCausalLM, prepared: Prepared, batch_size: int) -> tuple[float, int]:
    """Return sum and number of the token losses of all rows, batched by TRL's own collator."""
    padding_free = "seq_lengths" in prepared.train[0]
    collator = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=padding_free)
    rows = list(prepared.train)
    total, count = 0.0, 0
    for start in range(0, len(rows), batch_size):
        batch = collator(rows[start : start + batch_size])
        labels = batch.pop("labels")
        with torch.no_grad():
            logits = model(**batch, use_cache=False).logits  # as TRL's trainer calls it
        total += float(token_losses(logits, labels).sum())
        count += int((labels[:, 1:] != -100).sum())
    return total, count


def token_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the loss of each token that has a label and one before it."""
    return torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1).double(), labels[:, 1:].flatten(), reduction="none", ignore_index=-100
    )


def loss_alone(model: LlamaForCausalLM, prepared: Prepared) -> tuple[float, int]:
    """Return sum and number of the token losses of all rows, each run alone."""
    total, count = 0.0, 0
    for row in prepared.train:
        ids, labels = torch.tensor(row["input_ids"])[None], torch.tensor(row["labels"])[None]
        with torch.no_grad():
            total += float(token_losses(model(input_ids=ids).logits, labels).sum())
        count += int((labels[:, 1:] != -100).sum())
    return total, count


@pytest.mark.parametrize("overlap", [0, 5])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_packed_loss_is_that_of_the_documents_alone(
    overlap: int, batch_size: int, model: LlamaForCausalLM, tmp_path: Path
) -> None:
    """Rows that TRL's collator puts together, on sdpa, give each token the loss it has without neighbours."""
    (tmp_path / "alone").mkdir()
    alone = prepare(section(PACKED, length=32, overlap=overlap), tmp_path / "alone")
    packed = prepare(section(PACKED, length=32, overlap=overlap, packing=Packing(length=96)), tmp_path)
    expected, tokens = loss_alone(model, alone)
    found, counted = packed_loss(model, packed, batch_size)
    assert counted == tokens
    assert found / tokens == pytest.approx(expected / tokens, abs=1e-5)


def test_without_the_mask_the_loss_is_another(model: LlamaForCausalLM, tmp_path: Path) -> None:
    """Shows that the test above can fail: attention over the whole row changes the loss."""
    (tmp_path / "alone").mkdir()
    expected, tokens = loss_alone(model, prepare(section(PACKED, length=32), tmp_path / "alone"))
    rows = prepare(section(PACKED, length=32, packing=Packing(length=96, document_mask=False)), tmp_path)
    found, counted = packed_loss(model, rows, 1)
    assert counted > tokens, "the first token of each document but one has one before it"
    assert abs(found / counted - expected / tokens) > 1e-2
