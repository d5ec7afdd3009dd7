"""Forecasts are judged as they must be: on models whose every answer is known."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PreTrainedTokenizerFast

from ctxkit.errors import DataError
from ctxkit.spec import Context, Document, EvalReport
from ctxkit_timeseries.forecast import Forecast
from ctxkit_timeseries.greedy import generated
from ctxkit_timeseries.options import ForecastOptions, LotkaVolterraOptions

pytestmark = pytest.mark.torch


def byte_tokenizer(**special: str) -> PreTrainedTokenizerFast:
    """Return a tokenizer of one token a byte."""
    built = Tokenizer(models.BPE())
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    built.train_from_iterator(
        [], trainers.BpeTrainer(vocab_size=258, special_tokens=["<end>", "<begin>"], initial_alphabet=alphabet)
    )
    return PreTrainedTokenizerFast(tokenizer_object=built, eos_token="<end>", **special)


TOKENIZER = byte_tokenizer()


class Scripted:
    """A model that writes what it is told, whatever else it is asked; its cache is how far it has come."""

    device = "cpu"

    def __init__(self, answer: Callable[[str], str]) -> None:
        """Take what makes the answer from the prompt."""
        self.answer = answer
        self.prompts: list[str] = []

    def __call__(self, input_ids: Any, attention_mask: Any, past_key_values: Any, **_: Any) -> Any:
        """Return logits whose greatest is the next byte of each answer, then the end token."""
        if past_key_values is None:
            rows = [ids[mask.bool()[: len(ids)]] for ids, mask in zip(input_ids, attention_mask, strict=True)]
            prompts = [TOKENIZER.decode(row.tolist(), skip_special_tokens=True) for row in rows]
            self.prompts += prompts
            past_key_values = [TOKENIZER(self.answer(prompt))["input_ids"] for prompt in prompts]
        logits = torch.zeros(len(input_ids), 1, 300)
        for row, script in enumerate(past_key_values):
            logits[row, 0, script[0] if script else TOKENIZER.eos_token_id] = 1
        return SimpleNamespace(logits=logits, past_key_values=[script[1:] for script in past_key_values])


def forecast(documents: Any, **changes: Any) -> Forecast:
    """Return an eval of two steps on two series."""
    options = {
        "documents": documents, "horizon": 2, "lengths": (20, 40), "trajectories": 2, "batch_size": 3, "seed": 0,
        "cells": Context().cells,
    }  # fmt: skip
    return Forecast(**{**options, **changes})


def measured(report: EvalReport, length: int) -> dict[str, float]:
    """Return the values of one length."""
    return {item.metric: item.value for item in report.measurements if item.length == length}


HISTORY = "1.00,2.00;3.00,4.00;" * 3
SERIES = [
    Document(f"{HISTORY}5.00,6.00;7.00,8.00;", "one", metadata={"variables": "prey,predator"}),
    Document(f"{HISTORY}1.00,1.00;1.00,1.00;", "two", metadata={"variables": "prey,predator"}),
]


def test_error_by_hand() -> None:
    """The model says 4, 6 and 8, 9 of both: errors of 1, 0, 1, 1 and of 3, 5, 7, 8."""
    model: Any = Scripted(lambda _prompt: "4.00,6.00;8.00,9.00;1.00")
    report = forecast(SERIES)(model, TOKENIZER)
    found = measured(report, 20)
    assert found["mae"] == pytest.approx((3 / 4 + 23 / 4) / 2)
    assert found["mae_prey"] == pytest.approx((1 + 5) / 2)
    assert found["mae_predator"] == pytest.approx((1 / 2 + 13 / 2) / 2)
    assert found["success_rate"] == 1
    # The last step, 3 and 4, is off by 2, 2, 4, 4 and by 2, 3, 2, 3.
    assert found["persistence_mae"] == pytest.approx((3 + 2.5) / 2)
    assert found["gain_over_persistence"] == pytest.approx((3 + 2.5) / 2 - found["mae"])
    assert [(sample.id, sample.length, sample.score) for sample in report.samples[:2]] == [
        ("one", 20, pytest.approx(3 / 4)),
        ("two", 20, pytest.approx(23 / 4)),
    ]


def test_model_that_repeats_gets_what_persistence_gets() -> None:
    """At every length, with no gain and no doubt about it."""
    source = LotkaVolterraOptions(kind="lotka_volterra", split="held_out", trajectories=7, points=40)
    model: Any = Scripted(lambda prompt: prompt[-10:] * 30)
    options = ForecastOptions(kind="forecast", source=source, lengths=(64, 150), horizon=10, trajectories=7)
    report = options.build(Context())(model, TOKENIZER)
    for length in (64, 150):
        found = measured(report, length)
        assert found["mae"] == pytest.approx(found["persistence_mae"], abs=1e-12)
        assert found["mae"] > 0.05
    gains = [item for item in report.measurements if item.metric == "gain_over_persistence"]
    assert all(abs(bound) < 1e-12 for item in gains for bound in (item.value, item.low, item.high))
    more = [item for item in report.measurements if item.metric == "gain_over_64_tokens"]
    assert [(item.length, item.value, item.count) for item in more] == [(150, pytest.approx(0, abs=1e-12), 7)]


def test_oracle_makes_no_error() -> None:
    """A model that knows what follows is off by nothing: the truth is read as the forecast is."""
    documents = [document.text for document in SERIES]
    model: Any = Scripted(lambda _prompt: documents[(len(model.prompts) - 1) % 2][-20:])
    report = forecast(SERIES, batch_size=1)(model, TOKENIZER)
    assert measured(report, 20)["mae"] == 0


@pytest.mark.parametrize("answer", ["", "no idea;", "5.0,6.0;7.0,8.0;", "5.00;", "5,6;7,8;"])
def test_answer_that_is_no_forecast_is_counted_and_costs_the_range(answer: str) -> None:
    """Each variable ranged over 2 before, so every missing step is off by 2."""
    model: Any = Scripted(lambda _prompt: answer)
    found = measured(forecast(SERIES)(model, TOKENIZER), 40)
    assert found["success_rate"] == 0
    assert found["mae"] == pytest.approx(2)


def test_forecast_that_breaks_off_keeps_its_good_steps() -> None:
    """One right step, and one that is missing."""
    model: Any = Scripted(lambda _prompt: "5.00,6.00;7.0")
    found = measured(forecast(SERIES[:1], trajectories=1)(model, TOKENIZER), 20)
    assert (found["success_rate"], found["mae"]) == (0, pytest.approx(1))


def test_complete_forecasts_alone_and_what_was_written() -> None:
    """One forecast is right, the other breaks off: errors of 0 and of (0 + 2) / 2."""
    answers = ["5.00,6.00;7.00,8.00;", "5.00,6.00;"]
    documents = [Document(SERIES[0].text, name) for name in ("one", "two")]
    model: Any = Scripted(lambda _prompt: answers[(len(model.prompts) - 1) % 2])
    report = forecast(documents, batch_size=1)(model, TOKENIZER)
    found = measured(report, 20)
    assert (found["success_rate"], found["mae_of_complete"]) == (0.5, 0)
    assert found["mae"] == pytest.approx((0 + 1) / 2)
    assert [sample.output for sample in report.samples[:2]] == answers
    assert {sample.target for sample in report.samples} == {"5.00,6.00;7.00,8.00;"}


def test_length_that_cannot_be_measured_costs_no_other() -> None:
    """It has no measurement, and its reason is in the report."""

    def answer(prompt: str) -> str:
        if len(prompt) > 20:
            raise RuntimeError("out of memory")
        return "5.00,6.00;7.00,8.00;"

    model: Any = Scripted(answer)
    report = forecast(SERIES)(model, TOKENIZER)
    assert {item.length for item in report.measurements} == {20}
    assert report.failures == {"40/0": "RuntimeError: out of memory"}


def test_prompt_is_not_judged() -> None:
    """A model that writes nothing has no part of its prompt taken for a forecast."""
    model: Any = Scripted(lambda _prompt: "")
    assert measured(forecast(SERIES)(model, TOKENIZER), 20)["success_rate"] == 0


def test_history_is_as_long_as_fits_and_ends_where_the_forecast_begins() -> None:
    """Whole steps of ten bytes each: two of them in 20 to 29 tokens, one fewer with a begin token."""
    for tokenizer, steps in ((TOKENIZER, 2), (byte_tokenizer(bos_token="<begin>"), 1)):
        model: Any = Scripted(lambda _prompt: "")
        forecast(SERIES[:1], lengths=(20,), trajectories=1)(model, tokenizer)
        assert model.prompts == [HISTORY[-10 * steps :]]
    model = Scripted(lambda _prompt: "")
    forecast(SERIES[:1], lengths=(29, 40), trajectories=1)(model, TOKENIZER)
    assert model.prompts == [HISTORY[-20:], HISTORY[-40:]]


def test_model_may_write_no_more_than_it_needs() -> None:
    """It is stopped where it has written enough, and after so many tokens anyway."""
    calls: list[int] = []
    model: Any = Scripted(lambda _prompt: "1" * 500)
    prompt = [TOKENIZER("1.00;")["input_ids"]]
    rows = generated(model, prompt, 24, lambda row: bool(calls.append(len(row))))
    assert [len(row) for row in rows] == [24]
    assert calls == list(range(1, 25))
    rows = generated(model, prompt, 24, lambda row: len(row) == 3)
    assert [len(row) for row in rows] == [3]


@pytest.mark.parametrize(
    ("documents", "said"),
    [
        ([Document("once upon a time; there;", "tale")], "'tale' holds no series: its step 1 is no numbers"),
        ([Document("1.00,2.00;1.00,oh;", "torn")], "'torn' holds no series: its step 2"),
        ([Document("1.00,2.00;1.00,2.00", "open")], "'open' holds no series: its step 2"),
        ([Document("", "empty")], "'empty' holds no series"),
        (
            [Document(HISTORY, "wise", metadata={"scale_points": 5})],
            "scale of 'wise' knows its first 5 of 6 steps, and the last 2",
        ),
        (SERIES[:1], r"of 1 series, 1 have 40 tokens before their last 2 steps, and 2 are needed"),
        ([Document("1.00,2.00;" * 4, "short")] * 3, "of 3 series, 0 have 40 tokens"),
        ([Document("1.00,2.00;", "shorter than the horizon")] * 3, "of 3 series, 0 have 40 tokens"),
    ],
    ids=lambda value: value[0].id if isinstance(value, list) else "",
)
def test_series_that_cannot_be_forecast(documents: list[Document], said: str) -> None:
    """What is wrong is said, with the document."""
    with pytest.raises(DataError, match=said):
        forecast(documents).chosen(TOKENIZER)


def named(name: str, **metadata: Any) -> Document:
    """Return a series of two variables with this metadata."""
    return Document(SERIES[0].text, name, metadata=metadata)


@pytest.mark.parametrize(
    ("documents", "said"),
    [
        ([named("odd", variables="a,b,c")], "`variables` of 'odd' is 'a,b,c', and its steps have 2 values"),
        ([named("odd", variables="a")], "`variables` of 'odd' is 'a'"),
        ([named("odd", variables="a, a")], "`variables` of 'odd' is 'a, a'"),
        ([named("odd", variables="a,")], "`variables` of 'odd' is 'a,'"),
        ([named("odd", variables=None)], "`variables` of 'odd' is None"),
        ([named("odd", scale_points="abc")], "`scale_points` of 'odd' is 'abc', and no number of steps"),
        ([named("odd", scale_points=None)], "`scale_points` of 'odd' is None"),
        ([named("odd", scale_points=1.5)], "`scale_points` of 'odd' is 1.5"),
        ([named("odd", scale_points=-1)], "`scale_points` of 'odd' is -1"),
        (
            [named("one", variables="prey,predator"), named("odd", variables="predator,prey")],
            "'odd' has variables: predator,prey; 'one', with which it is averaged: prey,predator",
        ),
        (
            [named("one"), Document("1.00,2.00,3.00;" * 8, "odd")],
            "'odd' has values a step: 3; 'one', with which it is averaged: 2",
        ),
        ([named("one"), Document("1.000,2.000;" * 8, "odd")], "'odd' has decimals: 3; 'one', .*: 2"),
    ],
)
def test_series_that_do_not_go_together_are_found_by_the_check(documents: list[Document], said: str) -> None:
    """Before anything is trained: they would be averaged under one name, or break the eval at the end."""
    with pytest.raises(DataError, match=said):
        forecast(documents).chosen(TOKENIZER)


def test_names_may_have_blanks_between_and_numbers_do_for_none() -> None:
    """Metadata that says nothing is as good as none."""
    (series,) = forecast([named("one", variables="a, b", scale_points=0)], trajectories=1).chosen(TOKENIZER)
    assert series.names == ("a", "b")
    (series,) = forecast([named("one", variables="")], trajectories=1).chosen(TOKENIZER)
    assert series.names == ("0", "1")


def test_check_finds_a_length_that_holds_no_step() -> None:
    """Before anything is trained."""
    source = LotkaVolterraOptions(kind="lotka_volterra", trajectories=5, precision=6)
    options = ForecastOptions(kind="forecast", source=source, lengths=(8, 64), trajectories=5)
    with pytest.raises(DataError, match="8 tokens hold no step of 'lotka_volterra/0/0'"):
        options.check(Context(tokenizer=TOKENIZER))
    options.model_copy(update={"lengths": (20, 64)}).check(Context(tokenizer=TOKENIZER))


LLAMA = LlamaConfig(
    vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.5, eos_token_id=None, bos_token_id=None,
)  # fmt: skip
GPT2 = GPT2Config(
    vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=64, initializer_range=0.5, eos_token_id=None,
    bos_token_id=None,
)  # fmt: skip


@pytest.mark.parametrize("config", [LLAMA, GPT2], ids=["rotary positions", "learned positions"])
def test_greedy_is_that_of_transformers(config: Any) -> None:
    """Prompts of different lengths in one batch continue as each does alone by `generate`."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    prompts = [torch.randint(0, 64, (count,)).tolist() for count in (3, 11, 7)]
    with torch.no_grad():
        found = generated(model, prompts, 12, lambda _row: False)
        for prompt, row in zip(prompts, found, strict=True):
            whole = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=12, pad_token_id=0)
            assert row == whole[0, len(prompt) :].tolist()
    assert len({tuple(row) for row in found}) == 3
    assert np.unique(found[0]).size > 2
