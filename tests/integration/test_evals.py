"""The evals measure what they say, judged against computations that share none of their code."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ctxkit.errors import DataError
from ctxkit.spec import Context, Document
from ctxkit.spec.intervals import wilson
from ctxkit_evals import perplexity as perplexity_module
from ctxkit_evals.intervals import bootstrap_perplexity
from ctxkit_evals.passkey import Passkey, Prompt, Wording, recalled
from ctxkit_evals.passkey_options import PasskeyOptions
from ctxkit_evals.perplexity import Perplexity, token_losses
from ctxkit_evals.perplexity_options import PerplexityOptions
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


def test_bootstrap_covers_a_known_mean() -> None:
    """The 95 % interval of synthetic documents covers the true perplexity about 95 times in 100."""
    generator = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        sums = 50 * generator.gamma(shape=40, scale=2 / 40, size=60)
        low, high = bootstrap_perplexity(sums, 50, [str(number) for number in range(60)], seed)
        covered += low <= math.exp(2) <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_windows_of_one_document_are_drawn_together() -> None:
    """Repeating each document ten times does not narrow the interval, as it would if windows were independent."""
    sums = 50 * np.random.default_rng(1).gamma(shape=40, scale=2 / 40, size=12)
    names = [str(number) for number in range(12)]
    once = bootstrap_perplexity(sums, 50, names, 0)
    assert bootstrap_perplexity(
        np.repeat(sums, 10), 50, [name for name in names for _ in range(10)], 0
    ) == pytest.approx(once)


def test_no_window_is_taken_twice(tokenizer: PreTrainedTokenizerFast) -> None:
    """A document with three places for a window gives three, however many are asked for."""
    short = [Document("x" * 66, id="a"), Document("y" * 64, id="b")]
    windows = Perplexity(short, (16, 64), windows=50, batch_size=3, seed=0, track=track).chosen(tokenizer)
    assert sorted(window.id for window in windows) == ["a:64", "a:65", "a:66", "b:64"]


def test_token_losses_equal_a_float64_loop(model: LlamaForCausalLM) -> None:
    """Each loss equals -log softmax in double precision, computed one prefix at a time."""
    ids = torch.randint(0, 257, (2, 12), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        found = token_losses(model, ids.tolist())
        for row in range(2):
            for position in range(11):
                logits = model(input_ids=ids[row : row + 1, : position + 1]).logits[0, -1].double()
                expected = torch.logsumexp(logits, 0) - logits[ids[row, position + 1]]
                assert found[row, position] == pytest.approx(float(expected), abs=1e-5)


def test_long_rows_in_blocks_equal_one_forward_pass(model: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows longer than a block give the same losses through the KV cache."""
    ids = torch.randint(0, 257, (2, 50), generator=torch.Generator().manual_seed(4)).tolist()
    with torch.no_grad():
        whole = token_losses(model, ids)
        monkeypatch.setattr(perplexity_module, "FORWARD_TOKENS", 16)
        assert token_losses(model, ids) == pytest.approx(whole, abs=1e-5)


def test_perplexity_is_token_weighted_and_ends_at_the_same_tokens(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    """Windows of every length end at the same token, and the report is exp of the mean loss over all of them."""
    measure = Perplexity(TEXT, (32, 64), windows=4, batch_size=3, seed=0, track=track)
    windows = measure.chosen(tokenizer)
    with torch.no_grad():
        report = measure(model, tokenizer)
        losses = token_losses(model, [window.ids[-32:] for window in windows])
    by_metric = {(item.metric, item.length): item for item in report.measurements}
    assert by_metric["perplexity", 32].value == pytest.approx(math.exp(losses.mean()))
    assert by_metric["perplexity_tail", 32].value == pytest.approx(math.exp(losses[:, -8:].mean()))
    assert all(item.low <= item.value <= item.high for item in report.measurements)
    assert len({window.document_id for window in windows}) == 4


def test_documents_shorter_than_the_window_are_said(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    """With no document of the longest length there is a message, not an empty result."""
    with pytest.raises(DataError, match="no document has 9999 tokens"):
        Perplexity(TEXT, (9999,), windows=4, batch_size=3, seed=0, track=track)(model, tokenizer)


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
    text = PerplexityOptions(kind="perplexity", source=source, lengths=(16, 32), windows=3)
    with torch.no_grad():
        report = key.build(Context(seed=1))(model, tokenizer)
        assert [(m.length, m.depth, m.count) for m in report.measurements] == [(96, None, 3), (96, 0.5, 3)]
        report = text.build(Context(seed=1))(model, tokenizer)
        assert {(m.metric, m.length) for m in report.measurements} == {
            (name, length) for name in ("perplexity", "perplexity_tail") for length in (16, 32)
        }
