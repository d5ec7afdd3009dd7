"""Passkey retrieval: prompts exact to the token, judged as `generate` would write, intervals that cover."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from transformers import MistralConfig, MistralForCausalLM, PreTrainedModel

from ctxkit.errors import DataError
from ctxkit.spec import Context, Document
from ctxkit.spec.cells import in_order
from ctxkit.spec.intervals import wilson
from ctxkit_evals import accuracy, exact
from ctxkit_evals.accuracy import clustered
from ctxkit_evals.exact import begun
from ctxkit_evals.forks import Fork, Trunk, guessed, written
from ctxkit_evals.haystack import FILLER, encoded, gathered
from ctxkit_evals.hiding import Wording
from ctxkit_evals.passkey import Passkey
from ctxkit_evals.passkey_options import PasskeyOptions
from ctxkit_sources.options import RepeatsOptions
from tests.unit.plugins.evals_models import FOX, model, tokenizer

pytestmark = pytest.mark.torch

BYTES, MERGED, BEGINS = tokenizer(), tokenizer(120), tokenizer(60, begins=True)
TEXT = [Document(f"{number} {FOX * 30}", id=f"fox/{number}") for number in range(6)]
NAMED = Wording(" key of {name}={key}; ", " key of {name}=")


def passkey(**changes: Any) -> Passkey:
    """Return an eval over short prompts."""
    options: dict[str, Any] = {
        "documents": TEXT, "lengths": (64, 128), "depths": (0.0, 0.3, 1.0), "samples": 4, "batch_size": 3, "keys": 1,
        "wording": Wording(" key={key}; ", " key="), "seed": 0, "cells": in_order,
    }  # fmt: skip
    return Passkey(**{**options, **changes})


def made(measure: Passkey, of: Any = BYTES, length: int = 64) -> list[Trunk]:
    """Return all prompts of a length."""
    return measure.prompts(of, measure.haystack(of), length, range(measure.samples))


def random_trunks(answers: int) -> list[Trunk]:
    """Return two trunks of one shape and one of another, each with forks at several places."""
    generator = torch.Generator().manual_seed(1)

    def ids(count: int) -> list[int]:
        return torch.randint(1, 256, (count,), generator=generator).tolist()

    def fork(at: int) -> Fork:
        return Fork(at, ids(9), ids(answers), "", "")

    return [Trunk(ids(size), tuple(fork(at) for at in (0, 7, 7, 20)), 0) for size in (20, 20, 22)]


def sliding() -> PreTrainedModel:
    """Return a model whose cache cannot be taken back."""
    config = model().config.to_dict()
    torch.manual_seed(0)
    return MistralForCausalLM(MistralConfig(**{**config, "sliding_window": 8, "model_type": "mistral"})).eval()


@pytest.mark.parametrize("which", [model, sliding])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_guesses_are_what_generate_writes(which: Any, batch_size: int) -> None:
    """An answer is guessed if and only if `generate` writes it, and up to the first difference the two are the same."""
    measured, trunks, number = which(), [], 0
    for trunk in random_trunks(4):
        forks = []
        for fork in trunk.forks:
            prompt = torch.tensor([trunk.prompt(fork)])
            answer = measured.generate(prompt, max_new_tokens=4, do_sample=False, pad_token_id=0)[0, prompt.shape[1] :]
            if number % 3:
                answer[number % 4] = (answer[number % 4] + 1) % 256
            number += 1
            forks.append(Fork(fork.at, fork.ids, answer.tolist(), "", ""))
        trunks.append(Trunk(trunk.ids, tuple(forks), 0))
    number = 0
    for trunk, guesses in zip(trunks, guessed(measured, trunks, batch_size), strict=True):
        for fork, guess in zip(trunk.forks, guesses, strict=True):
            prompt = torch.tensor([trunk.prompt(fork)])
            free = measured.generate(prompt, max_new_tokens=4, do_sample=False, pad_token_id=0)[0, prompt.shape[1] :]
            assert (guess == fork.answer) == (free.tolist() == fork.answer) == (number % 3 == 0)
            found = list(begun(guess, fork.answer))
            assert found == free.tolist()[: len(found)]
            assert len(found) == (number % 4 + 1 if number % 3 else 4)
            number += 1


@pytest.mark.parametrize("which", [model, sliding])
def test_writing_at_forks_is_what_generate_writes(which: Any) -> None:
    """Whatever is shared and batched, each fork gets the tokens of its own prompt, as many as are enough for it."""
    measured, trunks = which(), random_trunks(0)
    found = written(measured, trunks, 2, most=6, enough=lambda fork, tokens: len(tokens) == 2 and fork.at == 7)
    for trunk, tokens in zip(trunks, found, strict=True):
        for fork, own in zip(trunk.forks, tokens, strict=True):
            prompt = torch.tensor([trunk.prompt(fork)])
            free = measured.generate(prompt, max_new_tokens=6, do_sample=False, pad_token_id=0)[0, prompt.shape[1] :]
            assert own == free.tolist()[: 2 if fork.at == 7 else 6]


@pytest.mark.parametrize("merges", [0, 120])
def test_untrained_model_recalls_nothing(merges: int) -> None:
    """A random model scores 0 %, though the key stands in its prompt."""
    report = passkey()(model(), tokenizer(merges))
    assert {measurement.value for measurement in report.measurements} == {0.0}
    assert len(report.samples) == 2 * 3 * 4
    assert not report.failures


@pytest.mark.parametrize("of", [BYTES, MERGED, BEGINS])
@pytest.mark.parametrize("documents", [TEXT, None])
def test_prompts_are_exactly_as_long_and_as_deep_as_said(of: Any, documents: Any) -> None:
    """Prompt and answer have the stated tokens; text, needle, text, question and answer stand where they belong."""
    measure = passkey(documents=documents, wording=Wording(" key={key}; ", " key=", "Find it. "), samples=8)
    for trunk in made(measure, of, 100):
        for fork in trunk.forks:
            prompt = trunk.prompt(fork)
            head = [*([of.bos_token_id] if of is BEGINS else []), *encoded(of, "Find it. ")]
            needle, question = encoded(of, f" key={fork.target}; "), encoded(of, " key=")
            assert len(prompt) + len(fork.answer) == 100
            assert encoded(of, f" key={fork.target}") == [*question, *fork.answer]
            room = 100 - len(head) - len(needle) - len(question) - len(fork.answer)
            start = len(head) + round(fork.depth * room)
            assert prompt[: len(head)] == head
            assert prompt[start : start + len(needle)] == needle
            assert prompt[len(prompt) - len(question) :] == question
            rest = prompt[len(head) : start] + prompt[start + len(needle) : len(prompt) - len(question)]
            assert rest == measure.haystack(of).text(trunk.sample, room)


@pytest.mark.parametrize("keys", [3, 2, 5])
def test_several_keys_stand_at_their_depths(keys: int) -> None:
    """With a key at each depth there is one prompt for all; each is asked for by its name, and once."""
    trunks = made(passkey(keys=keys, wording=NAMED), length=200)
    assert len(trunks) == 4 * -(-3 // keys)
    for trunk in trunks:
        text = BYTES.decode(trunk.ids)
        assert text.count("; ") == keys
        longest = max(len(BYTES.decode(fork.ids)) for fork in trunk.forks)
        assert len(trunk.ids) + longest + 5 == 200
        statements = [f" key of {part.partition('=')[0]}={fork.target}; " for part, fork in parted(trunk)]
        assert len(set(statements)) == len(trunk.forks)
        for statement, fork in zip(statements, trunk.forks, strict=True):
            others = [part + "; " for part in text.partition(statement)[0].split("; ")[:-1]]
            before = text.index(statement) - sum(len(part[part.index(" key of") :]) for part in others)
            stated = sum(len(part[part.index(" key of") :]) for part in (each + "; " for each in text.split("; ")[:-1]))
            assert before == round(fork.depth * (len(text) - stated))
    asked = sorted((fork.depth, trunk.sample) for trunk in trunks for fork in trunk.forks)
    assert asked == sorted((depth, sample) for depth in (0.0, 0.3, 1.0) for sample in range(4))


def parted(trunk: Trunk) -> list[tuple[str, Fork]]:
    """Return the question of each fork without its first words."""
    return [(BYTES.decode(fork.ids).removeprefix(" key of "), fork) for fork in trunk.forks]


def test_depths_share_the_text_of_their_sample() -> None:
    """One trunk a sample holds all depths; samples have texts of their own, filler is one text for all."""
    trunks = made(passkey())
    assert [len(trunk.forks) for trunk in trunks] == [3] * 4
    assert len({tuple(trunk.ids) for trunk in trunks}) == 4
    filler = made(passkey(documents=None))
    assert len({tuple(trunk.ids) for trunk in filler}) == 1
    assert BYTES.decode(filler[0].ids).startswith(FILLER[: len(filler[0].ids)])
    longer = made(passkey(documents=None), length=128)
    assert longer[0].ids[: len(filler[0].ids)] == filler[0].ids


def test_prompts_do_not_depend_on_anything_but_the_seed() -> None:
    """The same seed gives the same prompts whatever the batch and the other lengths, another seed gives others."""
    first = passkey()(model(), BYTES)
    again = passkey(batch_size=1, lengths=(128, 64))(model(), BYTES)
    assert {sample.id: sample.output for sample in first.samples} == {
        sample.id: sample.output for sample in again.samples
    }
    assert first.metadata["prompts"] == passkey()(model(num_hidden_layers=1), BYTES).metadata["prompts"]
    other = passkey(seed=1)(model(), BYTES)
    assert first.metadata["prompts"] != other.metadata["prompts"]
    assert not {sample.id for sample in first.samples} & {sample.id for sample in other.samples}
    assert len({sample.id for sample in first.samples}) == len(first.samples)


def test_samples_can_be_opened() -> None:
    """A sample says what was hidden and asked, what was right, and what the model began to write."""
    sample = passkey()(model(), BYTES).samples[0]
    assert sample.input == f"key={sample.target}; ... key="
    assert sample.output
    assert sample.output != sample.target
    assert sample.metadata == {"sample": 0}


def test_only_a_whole_key_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key is right with all of its digits; one wrong digit at the end, or at the front, makes it wrong."""

    def guess(_: Any, trunks: list[Trunk], __: int) -> list[list[list[int]]]:
        wrong = BYTES("x")["input_ids"]
        places = {0.0: lambda ids: ids, 0.3: lambda ids: [*ids[:-1], *wrong], 1.0: lambda ids: [*wrong, *ids[1:]]}
        return [[places[fork.depth](fork.answer) for fork in trunk.forks] for trunk in trunks]

    monkeypatch.setattr(exact, "guessed", guess)
    report = passkey()(model(), BYTES)
    assert {(m.depth, m.value) for m in report.measurements} == {(None, 1 / 3), (0.0, 1.0), (0.3, 0.0), (1.0, 0.0)}
    whole, last, first = report.samples[:3]
    assert whole.output == whole.target
    assert last.output == f"{last.target[:-1]}x"
    assert first.output == "x"


def test_length_without_room_for_the_needle_is_refused() -> None:
    """A window too short for needle and question is named, not silently lengthened, and the others are measured."""
    with pytest.raises(DataError, match=r"a length of 16 tokens has no room(.|\n)*make it 22 tokens"):
        made(passkey(), length=16)
    report = passkey(lengths=(16, 64))(model(), BYTES)
    assert {measurement.length for measurement in report.measurements} == {64}
    assert list(report.failures) == ["16 tokens, samples 1 to 4"]
    assert made(passkey(depths=(1.0,)), length=22)


def test_haystack_too_short_or_empty_is_said() -> None:
    """Too little text costs the lengths that need more; none at all ends the eval with a reason."""
    report = passkey(documents=[Document("short " * 12, id="a")])(model(), BYTES)
    assert {measurement.length for measurement in report.measurements} == {64}
    assert "the haystack has 72 tokens, 106 are needed" in report.failures["128 tokens, samples 1 to 4"]
    for nothing in ([], [Document("", id="a")]):
        with pytest.raises(DataError, match="holds no text"):
            passkey(documents=nothing)(model(), BYTES)


def test_logits_that_are_not_finite_cost_no_traceback() -> None:
    """Damaged weights: every cell says why, and nothing is measured."""
    damaged = model()
    with torch.no_grad():
        damaged.lm_head.weight[5] = float("nan")
    report = passkey()(damaged, BYTES)
    assert not report.measurements
    assert len(report.failures) == 2
    assert all("not finite" in why for why in report.failures.values())


def test_a_tokenizer_with_a_short_limit_neither_cuts_nor_warns(caplog: pytest.LogCaptureFixture) -> None:
    """`model_max_length` says nothing about the prompts; a tokenizer may have neither begin nor end."""
    short = tokenizer(model_max_length=16)
    assert (short.bos_token_id, short.eos_token_id) == (None, None)
    with caplog.at_level(logging.WARNING):
        report = passkey()(model(), short)
    assert {sample.length for sample in report.samples} == {64, 128}
    assert not caplog.records


def test_lengths_beyond_the_window_are_measured_and_flagged() -> None:
    """That is the point of the eval; the report says which they are."""
    report = passkey(lengths=(64, 160, 200))(model(), BYTES)
    assert report.metadata["beyond_window"] == "160, 200"
    assert {measurement.length for measurement in report.measurements} == {64, 160, 200}
    assert "beyond_window" not in passkey()(model(), BYTES).metadata


def test_cells_hold_as_many_samples_as_are_worth_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long prompts are spread over more cells than short ones, and the report is the same."""
    whole = passkey()(model(), BYTES)
    monkeypatch.setattr(accuracy, "CELL", 800)
    seen: list[str] = []

    def cells(kind: str, works: Any) -> Any:
        seen.extend(works)
        return in_order(kind, works)

    assert passkey(cells=cells)(model(), BYTES) == whole
    assert len(seen) == 1 + 2
    assert seen[0] == "64 tokens, samples 1 to 4"


def test_only_prompts_that_share_a_text_of_their_own_are_clustered() -> None:
    """Of filler all prompts have the same text and keys drawn apart; other texts, and other keys, are shared."""
    filler = passkey(documents=None)(model(), BYTES).measurements[0]
    assert (filler.low, filler.high) == wilson(0, 12)
    texts = passkey()(model(), BYTES).measurements[0]
    assert (texts.low, texts.high) == wilson(0, 4)
    keys = passkey(documents=None, keys=3, wording=NAMED, lengths=(200,))(model(), BYTES).measurements[0]
    assert (keys.low, keys.high) == wilson(0, 4)


def test_interval_over_texts_is_wilson_where_nothing_is_shared() -> None:
    """One answer a text, or texts of which each has as many right as chance gives, keep the plain interval."""
    assert clustered([[1.0], [0.0], [1.0]]) == wilson(2, 3)
    alike = [[1.0, 1.0], [0.0, 0.0]] * 10
    assert clustered(alike) == pytest.approx(wilson(10, 20), abs=0.01)
    assert clustered([[1.0] * 5] * 20) == wilson(20, 20)
    assert clustered([[1.0, 0.0]] * 20) == wilson(20, 40)


@pytest.mark.parametrize(("alike", "least", "plain"), [(0.0, 0.93, 0.93), (0.5, 0.92, 0.0), (3.0, 0.91, 0.0)])
def test_interval_over_texts_covers(alike: float, least: float, plain: float) -> None:
    """Answers of one text that go together: the interval holds the true share about 95 times in 100."""
    generator = np.random.default_rng(0)
    covered = naive = 0
    for _ in range(1000):
        # Beta-distributed shares of 30 texts, five answers to each; the correlation is alike / (1 + alike).
        shares = generator.beta(0.8 / alike, 0.2 / alike, size=30) if alike else np.full(30, 0.8)
        scores = (generator.random((30, 5)) < shares[:, None]).astype(float)
        low, high = clustered(scores.tolist())
        covered += low <= 0.8 <= high
        low, high = wilson(scores.sum(), 150)
        naive += low <= 0.8 <= high
    assert covered >= 1000 * least
    assert naive >= 930 if plain else naive < 870


@pytest.mark.parametrize(
    "wrong",
    [
        {"depths": ()},
        {"lengths": (64, 64)},
        {"depths": (0.5, 0.5)},
        {"needle": "key"},
        {"keys": 2, "needle": "{key}"},
        {"keys": 2, "question": "?"},
        {"keys": 0},
    ],
)
def test_options_that_measure_nothing_are_refused(wrong: dict[str, Any]) -> None:
    """No depths, a length or depth stated twice, a needle without the key, keys without names: refused."""
    with pytest.raises(ValidationError):
        PasskeyOptions(**{"kind": "passkey", "lengths": (64,), **wrong})


def test_needle_may_hold_braces() -> None:
    """Only `{key}` is replaced in a needle; JSON and code stay as they are."""
    fork = made(passkey(wording=Wording('{"k": "{key}"} ', ' "k": ')))[0].forks[0]
    assert f'{{"k": "{fork.target}"}}' in BYTES.decode(fork.ids)


def test_options_build_what_they_say() -> None:
    """Every option reaches the measurement it is for."""
    source = RepeatsOptions(kind="repeats", documents=5, length=200)
    options = PasskeyOptions(
        kind="passkey", haystack=source, lengths=(200,), samples=3, depths=(0.5,), batch_size=2, preamble="Mind! "
    )
    report = options.build(Context(seed=1))(model(), BYTES)
    assert [(m.length, m.depth, m.count) for m in report.measurements] == [(200, None, 3), (200, 0.5, 3)]
    assert report.samples[0].input == (
        f"The pass key is {report.samples[0].target}. Remember it. ... What is the pass key? The pass key is"
    )
    report = PasskeyOptions(kind="passkey", lengths=(400,), samples=2, keys=5).build(Context())(model(), BYTES)
    assert [m.depth for m in report.measurements] == [None, 0.0, 0.25, 0.5, 0.75, 1.0]
    assert report.samples[0].input.count("pass key of") == 3
    with pytest.raises(DataError, match="a length of 60 tokens has no room"):
        PasskeyOptions(kind="passkey", lengths=(400, 60)).check(Context(tokenizer=BYTES))


def test_texts_of_samples_are_drawn_from_all_that_was_read() -> None:
    """Documents are read until there is enough for texts that differ; a shorter text is the front of the longer one."""
    haystack = gathered((Document(FOX, id=str(n)) for n in range(10_000)), BYTES, longest=100, seed=3)
    assert 5000 < len(haystack.ids) < 5200
    assert haystack.text(4, 50) == haystack.text(4, 80)[:50]
    assert len({tuple(haystack.text(sample, 60)) for sample in range(20)}) > 10
