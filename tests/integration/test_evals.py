"""The evals measure what they say, judged against computations that share none of their code."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from pydantic import ValidationError
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ctxkit.errors import DataError
from ctxkit.spec import Context, Document
from ctxkit.spec.intervals import wilson
from ctxkit_evals.passkey import Passkey, Prompt, Wording, recalled
from ctxkit_evals.passkey_options import PasskeyOptions
from ctxkit_sources.options import RepeatsOptions

pytestmark = pytest.mark.torch


def track(items, description: str, total: int) -> Iterator:
    """Show no progress."""
    return iter(items)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer without merges: one token a byte."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    built = Tokenizer(models.BPE())
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    built.train_from_iterator(
        [], trainers.BpeTrainer(vocab_size=257, special_tokens=["<eos>"], initial_alphabet=alphabet)
    )
    return PreTrainedTokenizerFast(tokenizer_object=built, eos_token="<eos>")


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    """A random model."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=257, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.3,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


TEXT = [Document("The quick brown fox jumps over the lazy dog. " * 30, id=f"fox/{n}") for n in range(6)]


def passkey(samples: int = 10, **changes: object) -> Passkey:
    """An eval over short prompts."""
    options = {
        "documents": TEXT, "lengths": (64, 128), "depths": (0.0, 0.5, 1.0), "samples": samples, "batch_size": 7,
        "wording": Wording(" key={key}; ", " key="), "seed": 0, "track": track,
    }  # fmt: skip
    return Passkey(**{**options, **changes})


def test_untrained_model_recalls_nothing(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """A random model scores 0 %, though the key stands in its prompt."""
    with torch.no_grad():
        report = passkey()(model, tokenizer)
    assert {measurement.value for measurement in report.measurements} == {0.0}


def test_prompts_are_exactly_as_long_and_as_deep_as_said(tokenizer: PreTrainedTokenizerFast) -> None:
    """Prompt and answer have the stated tokens, the key stands once at its depth, and the answer ends the row."""
    for prompt in passkey().prompts(tokenizer):
        text = tokenizer.decode(prompt.ids)
        key = text[-5:]
        assert len(prompt.ids) == prompt.length
        assert prompt.answer_length == 5
        assert text.endswith(f" key={key}")
        needle = f" key={key}; "
        assert text.count(needle) == 1
        room = prompt.length - len(needle) - len(" key=") - 5
        assert text.index(needle) == round(prompt.depth * room)


def test_prompts_do_not_depend_on_anything_but_the_seed(tokenizer: PreTrainedTokenizerFast) -> None:
    """The same seed gives the same prompts, another seed gives others."""
    first = [prompt.id for prompt in passkey().prompts(tokenizer)]
    assert first == [prompt.id for prompt in passkey(batch_size=1).prompts(tokenizer)]
    assert not set(first) & {prompt.id for prompt in passkey(seed=1).prompts(tokenizer)}
    assert len(set(first)) == len(first)


def test_recall_is_what_greedy_generation_gives(model: LlamaForCausalLM) -> None:
    """One forward pass finds exactly the prompts whose answer `generate` would produce, hits and misses alike."""
    torch.manual_seed(1)
    prompts = []
    for number in range(12):
        ids = torch.randint(1, 257, (1, 20))
        answer = model.generate(ids, max_new_tokens=4, do_sample=False, pad_token_id=0, eos_token_id=None)[
            0, 20:
        ].tolist()
        if number % 2:
            answer[number % 4] = (answer[number % 4] + 1) % 257
        prompts.append(Prompt([*ids[0].tolist(), *answer], 4, 24, 0.0))
    with torch.no_grad():
        assert recalled(model, prompts) == [number % 2 == 0 for number in range(12)]


def test_answers_of_several_lengths_are_judged_each_on_its_own(model: LlamaForCausalLM) -> None:
    """A batch may hold answers of one and of three tokens; wrong tokens before an answer do not count against it."""
    ids = torch.randint(1, 257, (1, 20), generator=torch.Generator().manual_seed(2))
    answer = model.generate(ids, max_new_tokens=3, do_sample=False, pad_token_id=0, eos_token_id=None)[0, 20:].tolist()
    short = [*ids[0].tolist(), 5, 6]
    with torch.no_grad():
        best = int(model(input_ids=torch.tensor([short])).logits[0, -1].argmax())
        found = recalled(model, [Prompt([*ids[0].tolist(), *answer], 3, 23, 0.0), Prompt([*short, best], 1, 23, 0.0)])
    assert found == [True, True]


def test_length_without_room_for_the_needle_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    """A window too short for needle and question is named, not silently lengthened."""
    with pytest.raises(DataError, match="a length of 16 tokens has no room"):
        list(passkey(lengths=(16,)).prompts(tokenizer))


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    # Published values of Wilson's interval without continuity correction (Newcombe 1998, table I, method 3).
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_equals_the_published_one(successes: int, count: int, low: float, high: float) -> None:
    """The interval agrees with the tables of the literature to four digits."""
    assert wilson(successes, count) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("wrong", [{"depths": ()}, {"lengths": (64, 64)}, {"depths": (0.5, 0.5)}, {"needle": "key"}])
def test_passkey_options_that_measure_nothing_are_refused(wrong: dict) -> None:
    """No depths, a length or depth stated twice, a needle without the key: refused with the recipe."""
    source = RepeatsOptions(kind="repeats", documents=5, length=200)
    with pytest.raises(ValidationError):
        PasskeyOptions(**{"kind": "passkey", "haystack": source, "lengths": (64,), **wrong})


def test_needle_may_hold_braces(tokenizer: PreTrainedTokenizerFast) -> None:
    """Only `{key}` is replaced in a needle; JSON and code stay as they are."""
    prompt = next(passkey(wording=Wording('{"k": "{key}"} ', ' "k": ')).prompts(tokenizer))
    text = tokenizer.decode(prompt.ids)
    assert f'{{"k": "{text[-5:]}"}}' in text


def test_options_build_what_they_say(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """Every option reaches the measurement it is for."""
    source = RepeatsOptions(kind="repeats", documents=5, length=200)
    key = PasskeyOptions(kind="passkey", haystack=source, lengths=(96,), samples=3, depths=(0.5,), batch_size=2)
    with torch.no_grad():
        report = key.build(Context(seed=1))(model, tokenizer)
        assert [(m.length, m.depth, m.count) for m in report.measurements] == [(96, None, 3), (96, 0.5, 3)]
