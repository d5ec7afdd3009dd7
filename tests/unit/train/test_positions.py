"""Positions that skip: where they lie, that attention crosses a jump, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from transformers import LlamaConfig, LlamaForCausalLM
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from ctxkit.errors import DataError
from ctxkit.recipe import Packing
from ctxkit.spec import Chunk, Context, Document, EncodedDocument, Span
from ctxkit.train.positions import SharedDocuments, WithPositions
from ctxkit_chunkers.options import PoseOptions
from tests.unit.train.builders import Scripted, Texts, prepare, section

LONG = Texts(lengths=(40, 100, 9))
POSE = PoseOptions(kind="pose", length=16, target_length=64)


def positions(chunk: Chunk) -> list[int]:
    """Return the position of each token, as the contract describes it."""
    found, at = [], 0
    for place in range(len(chunk.input_ids)):
        at += sum(tokens for offset, tokens in chunk.skips if offset == place)
        found.append(at)
        at += 1
    return found


@given(st.integers(2, 200), st.integers(2, 40), st.integers(1, 300), st.integers(2, 6), st.integers(0, 9))
def test_positions_of_windows(tokens: int, length: int, farther: int, parts: int, seed: int) -> None:
    """They begin at 0, only grow, and stay within the target; a window has no more jumps than parts between."""
    document = EncodedDocument(Document("", "a"), np.arange(tokens, dtype=np.int32))
    options = PoseOptions(kind="pose", length=length, target_length=length + farther, parts=parts)
    for chunk in options.build(Context(seed=seed))([document]):
        found = positions(chunk)
        assert found[0] == 0
        assert (np.diff(found) >= 1).all()
        assert found[-1] < length + farther
        assert len(chunk.skips) < parts


def test_jumps_are_uniform() -> None:
    """With two parts the jump is as likely anywhere in the room there is, and so is its place (chi-square, 1 %)."""
    document = EncodedDocument(Document("", "a"), np.arange(8 * 6000, dtype=np.int32))
    options = PoseOptions(kind="pose", length=8, target_length=15)
    chunks = list(options.build(Context(seed=0))([document]))
    sizes = np.bincount([chunk.skips[0][1] if chunk.skips else 0 for chunk in chunks], minlength=8)
    places = np.bincount([chunk.skips[0][0] for chunk in chunks if chunk.skips], minlength=8)[1:]
    assert len(sizes) == 8
    assert ((sizes - 750) ** 2 / 750).sum() < 18.48  # seven degrees of freedom
    assert ((places - places.mean()) ** 2 / places.mean()).sum() < 16.81  # six


@pytest.fixture(scope="module", params=["sdpa", "eager"])
def model(request: pytest.FixtureRequest) -> LlamaForCausalLM:
    """A tiny random model in float32."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=300, max_position_embeddings=64, attn_implementation=request.param, **sizes)
    return LlamaForCausalLM(config).eval()


def batch(rows: Any, *numbers: int) -> dict[str, Any]:
    """Return rows as the trainer hands them to the model."""
    return WithPositions(DataCollatorForLanguageModeling(pad_token_id=0))([rows[number] for number in numbers])


def test_what_comes_after_a_jump_sees_what_came_before(model: LlamaForCausalLM, tmp_path: Path) -> None:
    """Another first token changes the logits behind the jump; without a mask transformers would cut there."""
    rows = prepare(section(LONG, chunker=POSE), tmp_path).train
    number = next(n for n, row in enumerate(rows) if (np.diff(row["position_ids"]) > 1).any())
    given_ = batch(rows, number)
    jump = int(np.diff(given_["position_ids"][0]).argmax()) + 1
    changed = {**given_, "input_ids": given_["input_ids"].clone()}
    changed["input_ids"][0, 0] += 1

    def behind(inputs: dict[str, Any]) -> torch.Tensor:
        with torch.no_grad():
            logits: torch.Tensor = model(**inputs, use_cache=False).logits  # as TRL's trainer calls it
        return logits[0, jump:]

    assert not torch.equal(behind(given_), behind(changed))
    bare = [{key: value for key, value in each.items() if key != "attention_mask"} for each in (given_, changed)]
    assert torch.equal(behind(bare[0]), behind(bare[1])), "transformers needs no mask any more: leave it out"


@pytest.mark.parametrize("seed", [0, 1])
def test_padded_rows_give_the_logits_of_each(seed: int, model: LlamaForCausalLM, tmp_path: Path) -> None:
    """Rows of a batch, padded on the right, give the logits that each gives alone with its positions."""
    rows = prepare(section(LONG, chunker=POSE), tmp_path, seed=seed).train
    together = batch(rows, 0, len(rows) - 1)
    with torch.no_grad():
        logits = model(**together, use_cache=False).logits
        for place, number in enumerate((0, len(rows) - 1)):
            ids, own = (torch.as_tensor(rows[number][name])[None] for name in ("input_ids", "position_ids"))
            alone = model(input_ids=ids, position_ids=own, attention_mask=torch.ones_like(ids), use_cache=False).logits
            torch.testing.assert_close(logits[place, : ids.shape[1]], alone[0], rtol=1e-4, atol=1e-5)


def test_rows_hold_what_the_chunker_says(tmp_path: Path) -> None:
    """Positions go through the files and back; all tokens are trained, and the manifest says what positions do."""
    prepared = prepare(section(LONG, chunker=POSE), tmp_path)
    assert prepared.manifest["positions"] == "skipped"
    assert prepared.manifest["sources"][0]["tokens_kept"] == 40 + 100 + 9 + 3
    spans = [int(row["position_ids"][-1]) for row in prepared.train]
    assert max(spans) > 40
    assert all(len(row["position_ids"]) == len(row["input_ids"]) for row in prepared.train)
    plain = prepare(section(LONG), tmp_path / "plain")
    assert plain.manifest["positions"] == "in a row"
    assert "position_ids" not in plain.train[0]


@pytest.mark.parametrize(
    ("skips", "said"),
    [
        (((0, 3),), r"jump at \[0\]"),
        (((4, 3),), r"jump at \[4\]"),
        (((2, 1), (1, 1)), r"jump at \[2, 1\]"),
        (((2, -1),), "reach 3 tokens"),
        (((2, 61),), "reach 65 tokens, where 64 are allowed"),
        (((2, 1.5),), "pairs of whole numbers"),
    ],
)
def test_impossible_jumps(skips: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A jump at the front, behind the end, backwards or beyond the target is the chunker's fault."""

    def made(_: Context, documents: Any) -> Any:
        for document in documents:
            yield Chunk(document.input_ids[:4], (Span(document.document.id, 0, 4),), skips=skips)

    monkeypatch.setattr(Scripted, "made", made, raising=False)
    monkeypatch.setattr(Scripted, "positions", lambda _: 64)
    with pytest.raises(DataError, match=said):
        prepare(section(Texts(lengths=(3,)), chunker=Scripted(kind="scripted", length=16)), tmp_path)


def test_what_cannot_stand_together() -> None:
    """Packed rows have positions of their own, and a target within the window leaves nothing to skip."""
    with pytest.raises(ValidationError, match="cannot have packing beside a chunker whose positions skip"):
        section(LONG, chunker=POSE, packing=Packing())
    with pytest.raises(ValidationError, match="needs target_length above length"):
        PoseOptions(kind="pose", length=16, target_length=16)


def test_positions_count_against_the_window() -> None:
    """A recipe is judged by how far positions reach."""
    data = section(LONG, chunker=POSE)
    assert (data.sequence_length, data.row_length) == (64, 16)


def test_documents_of_a_shared_row_begin_anew() -> None:
    """By hand: two documents of three and two tokens in a row of eight; first tokens have no label, nor has padding."""
    row = {"input_ids": [5, 6, 7, 8, 9], "labels": [5, 6, 7, 8, -100], "seq_lengths": [3, 2]}
    batch = SharedDocuments(pad_token_id=1, length=8)([row])
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9, 1, 1, 1]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1, 0, 1, 2]]
    assert batch["labels"].tolist() == [[-100, 6, 7, -100, -100, -100, -100, -100]]
    with pytest.raises(ValueError, match="unpack"):
        SharedDocuments(pad_token_id=1, length=8)([row, row])
