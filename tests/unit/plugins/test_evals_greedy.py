"""Reading with a kept prefix equals plain reading, and writing equals `generate` of transformers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BambaConfig,
    Gemma2Config,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    Phi3Config,
    PreTrainedModel,
    Qwen2Config,
)

from ctxkit.errors import CtxkitError
from ctxkit_evals import greedy
from ctxkit_evals.greedy import Reader, shares

pytestmark = pytest.mark.torch

VOCABULARY = 97
SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 32, "initializer_range": 0.3,
    "eos_token_id": None, "bos_token_id": None, "pad_token_id": None,
}  # fmt: skip
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}
LONGROPE = {
    "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4, "long_factor": [1.0, 2.0, 3.0, 4.0],
    "original_max_position_embeddings": 32,
}  # fmt: skip
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 32}
SHARED = {
    "llama": LlamaConfig(**SMALL),
    "llama yarn": LlamaConfig(**SMALL, rope_parameters=YARN),
    "qwen2": Qwen2Config(**SMALL),
    "gemma": GemmaConfig(**SMALL, head_dim=8),
    "gpt2": GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=128, eos_token_id=None),
}
READ_ANEW = {
    "mistral with a window": MistralConfig(**SMALL, sliding_window=8),
    "gemma2": Gemma2Config(**SMALL, head_dim=8, sliding_window=8),
    "llama dynamic": LlamaConfig(**SMALL, rope_parameters=DYNAMIC),
    "phi3 longrope": Phi3Config(
        **{**SMALL, "max_position_embeddings": 128}, original_max_position_embeddings=32, rope_parameters=LONGROPE
    ),
    "bamba": BambaConfig(
        **SMALL, attn_layer_indices=[1], mamba_n_heads=8, mamba_d_head=8, mamba_n_groups=1, mamba_d_state=8
    ),
    "mamba": MambaConfig(
        vocab_size=VOCABULARY, hidden_size=32, state_size=8, num_hidden_layers=2, eos_token_id=None, bos_token_id=None
    ),
}
EVERY = {**SHARED, **READ_ANEW}


def made(config: Any) -> PreTrainedModel:
    """Return a random model of a config."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    model.generation_config.pad_token_id = 0
    return model.eval()


def random_ids(rows: int, tokens: int, seed: int = 0) -> list[list[int]]:
    """Return random token ids."""
    return torch.randint(1, VOCABULARY, (rows, tokens), generator=torch.Generator().manual_seed(seed)).tolist()


def plainly(model: PreTrainedModel, rows: list[list[int]], keep: int) -> torch.Tensor:
    """Return the logits of the last places by one forward pass over everything."""
    with torch.no_grad():
        return model(input_ids=torch.tensor(rows), use_cache=False).logits[:, -keep:]


def same(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Logits to float tolerance, and the most likely tokens exactly."""
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(found.argmax(-1), expected.argmax(-1))


@pytest.mark.parametrize("name", EVERY)
def test_kept_prefix_equals_plain_reading(name: str) -> None:
    """A trunk that grows, forks of one and several rows, and what is read after they were taken back."""
    model = made(EVERY[name])
    reader = Reader(model)
    trunk, more, forks, last = random_ids(1, 20), random_ids(1, 15, 1), random_ids(3, 9, 2), random_ids(1, 4, 3)
    same(reader.read(trunk), plainly(model, trunk, 1))
    same(reader.read(forks, keep=5), plainly(model, [[*trunk[0], *fork] for fork in forks], 5))
    reader.back_to(20)
    reader.grow(more)
    both = [*trunk[0], *more[0]]
    same(reader.read(forks[:2], keep=9), plainly(model, [[*both, *fork] for fork in forks[:2]], 9))
    again = random_ids(2, 3, 4)
    rows = [[*both, *fork, *end] for fork, end in zip(forks[:2], again, strict=True)]
    same(reader.read(again), plainly(model, rows, 1))
    reader.back_to(30)
    same(reader.read(last), plainly(model, [[*both[:30], *last[0]]], 1))
    reader.back_to(0)
    same(reader.read(forks, keep=2), plainly(model, forks, 2))
    assert reader.length == 9


def test_a_fork_may_be_taken_back_in_parts() -> None:
    """Rows that differ stay apart where only some of what follows is taken back."""
    model = made(SHARED["llama"])
    reader = Reader(model)
    trunk, forks, ends = random_ids(1, 6), random_ids(2, 7, 1), random_ids(2, 5, 2)
    reader.grow(trunk)
    reader.grow(forks)
    reader.read(ends)
    reader.back_to(13)
    rows = [[*trunk[0], *fork, *end] for fork, end in zip(forks, ends, strict=True)]
    same(reader.read(ends), plainly(model, rows, 1))


@pytest.mark.parametrize("name", SHARED)
def test_blocks_equal_one_pass(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens read in blocks, so that the mask stays small, give the logits of one pass, however many are kept."""
    model = made(SHARED[name])
    monkeypatch.setattr(greedy, "MASK", 200)
    trunk, rest = random_ids(2, 9), random_ids(2, 31, 1)
    for keep in (1, 4, 30, 31):
        reader = Reader(model)
        reader.grow(trunk)
        rows = [[*one, *more] for one, more in zip(trunk, rest, strict=True)]
        same(reader.read(rest, keep=keep), plainly(model, rows, keep))


@pytest.mark.parametrize("name", EVERY)
def test_only_what_is_exact_is_shared(name: str) -> None:
    """Windows, states and frequencies that depend on the length are read anew."""
    assert shares(made(EVERY[name])) == (name in SHARED)


def test_shared_prefix_is_read_once() -> None:
    """A question about a long text costs the question's tokens alone; where nothing is shared, all of them."""
    for name, expected in (("llama", [20, 3, 3]), ("mistral with a window", [23, 23])):
        model = made(EVERY[name])
        seen: list[int] = []
        model.get_input_embeddings().register_forward_hook(
            lambda _, inputs, __, seen=seen: seen.append(inputs[0].shape[1])
        )
        reader = Reader(model)
        reader.grow(random_ids(1, 20))
        for seed in (1, 2):
            reader.read(random_ids(1, 3, seed))
            reader.back_to(20)
        assert seen == expected


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("prompt", [12, 28, 40])
def test_writing_equals_generate(name: str, prompt: int) -> None:
    """Token by token what `generate` writes without sampling, inside the window, across its end, and beyond."""
    model = made(EVERY[name])
    ids = random_ids(3, prompt, seed=prompt)
    expected = model.generate(torch.tensor(ids), max_new_tokens=10, do_sample=False, attention_mask=None)[:, prompt:]
    reader = Reader(model)
    assert reader.write(ids, most=10) == expected.tolist()
    assert reader.length == 0
    reader.grow([ids[0][:5]])
    assert reader.write([ids[0][5:]], most=10) == expected[:1].tolist()
    assert reader.length == 5


def test_generation_settings_do_not_matter() -> None:
    """Sampling and penalties that are saved with a model change nothing."""
    model = made(SHARED["llama"])
    ids = random_ids(2, 10)
    plain = Reader(model).write(ids, most=8)
    model.generation_config.do_sample = True
    model.generation_config.repetition_penalty = 5.0
    model.generation_config.forced_eos_token_id = 3
    assert Reader(model).write(ids, most=8) == plain


@pytest.mark.parametrize("several", [False, True])
def test_a_row_ends_where_its_text_ends(*, several: bool) -> None:
    """The end token of each row ends that row alone, is not returned, and may be one of several."""
    model = made(SHARED["llama"])
    ids = random_ids(3, 10)
    free = Reader(model).write(ids, most=8)
    end = free[0][4]
    never = next(token for token in range(VOCABULARY) if all(token not in row for row in free))
    model.generation_config.eos_token_id = [never, end] if several else end
    expected = [row[: row.index(end)] if end in row else row for row in free]
    assert expected[0] == free[0][:4]
    assert Reader(model).write(ids, most=8) == expected


def test_a_row_ends_when_there_is_enough() -> None:
    """Each row ends by itself, whatever its neighbours still write."""
    model = made(SHARED["llama"])
    ids = random_ids(3, 10)
    free = Reader(model).write(ids, most=8)

    def enough(written: list[int]) -> bool:
        return written == free[0][:2] or written == free[1][:5]

    assert Reader(model).write(ids, most=8, enough=enough) == [free[0][:2], free[1][:5], free[2]]
    each = [lambda written, size=size: len(written) == size for size in (1, 8, 3)]
    assert Reader(model).write(ids, most=8, enough=each) == [free[0][:1], free[1], free[2][:3]]
    assert Reader(model).write(ids, most=0) == [[], [], []]


def test_dynamic_frequencies_do_not_depend_on_what_was_read_before() -> None:
    """A row beyond the window has its own frequencies also after a longer one, which transformers would keep."""
    config = READ_ANEW["llama dynamic"]
    fresh = plainly(made(config), random_ids(1, 40), 1)
    model = made(config)
    Reader(model).read(random_ids(1, 120, 1))
    assert not torch.allclose(plainly(model, random_ids(1, 40), 1), fresh, atol=1e-3)
    Reader(model).read(random_ids(1, 120, 1))
    same(Reader(model).read(random_ids(1, 40)), fresh)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_said(value: float) -> None:
    """Damaged weights give a sentence, not an answer."""
    model = made(SHARED["llama"])
    with torch.no_grad():
        model.lm_head.weight[5] = value
    with pytest.raises(CtxkitError, match=r"not finite .* after 10 tokens"):
        Reader(model).read(random_ids(2, 10))


def test_rows_read_together_are_equally_long() -> None:
    """Nothing is padded; unequal rows are a mistake of the caller."""
    with pytest.raises(ValueError, match="equally long"):
        Reader(made(SHARED["llama"])).read([[1, 2], [1]])
