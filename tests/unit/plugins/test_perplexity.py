"""Perplexity in sliding windows, judged against computations that share none of its code."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ctxkit.errors import CtxkitError, DataError
from ctxkit.spec import Context, Document, EvalReport
from ctxkit_evals import likelihood
from ctxkit_evals.intervals import FEW, bootstrap_perplexity, described
from ctxkit_evals.perplexity import Perplexity
from ctxkit_evals.perplexity_options import PerplexityOptions
from ctxkit_evals.perplexity_texts import buckets, parts, stride_at, windows
from ctxkit_evals.perplexity_yarn import YarnPerplexity
from ctxkit_sources.options import RepeatsOptions

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

pytestmark = pytest.mark.torch


def bytes_tokenizer(**changes: Any) -> PreTrainedTokenizerFast:
    """Return a byte-level tokenizer without merges: one token a byte."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    built = Tokenizer(models.BPE())
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    built.train_from_iterator(
        [], trainers.BpeTrainer(vocab_size=258, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet)
    )
    if "bos_token" in changes:
        built.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=built, eos_token="</s>", **changes)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer that sets no begin token."""
    return bytes_tokenizer()


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    """A random model in double precision."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=258, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.3,
    )  # fmt: skip
    return LlamaForCausalLM(config).double().eval()


TEXT = [Document(f"{n} quick brown foxes jump over {n + 3} lazy dogs. " * 30, id=f"fox/{n}") for n in range(6)]


def measure(**changes: Any) -> Perplexity:
    """Return an eval over short texts."""
    chosen = {
        "documents": TEXT, "lengths": (16, 64), "texts": 4, "stride": 4, "batch_size": 3, "seed": 0,
        "cells": Context().cells,
    }  # fmt: skip
    return Perplexity(**{**chosen, **changes})


def run(what: Any, model: Any, tokenizer: Any) -> EvalReport:
    """Return the report, measured as the core measures."""
    import torch

    with torch.no_grad():
        report: EvalReport = what(model, tokenizer)
    return report


def by_name(report: EvalReport) -> dict[tuple[str, int], Any]:
    """Return the measurements that have no positions."""
    return {(item.metric, item.length): item for item in report.measurements if item.positions is None}


def one_by_one(model: Any, row: list[int], length: int, stride: int, begin: bool) -> list[float]:
    """Return the loss of each token but the first by a forward of its own: the context that its window gives it.

    A begin token is the first of each window.
    """
    import torch

    losses = []
    for place in range(1, len(row)):
        # Windows end at length, length + stride, ...: the token belongs to the first that holds it.
        end = min(length + stride * max(0, math.ceil((place + 1 - length) / stride)), len(row))
        context = [row[0], *row[end - length + 1 : place]] if begin else row[end - length : place]
        logits = model(input_ids=torch.tensor([context])).logits[0, -1]
        losses.append(float(torch.logsumexp(logits, 0) - logits[row[place]]))
    return losses


@pytest.mark.parametrize("begin", [False, True], ids=["no begin token", "begin token"])
@pytest.mark.parametrize("stride", [4, 5, 8])
def test_every_loss_equals_a_float64_loop(model: LlamaForCausalLM, begin: bool, stride: int) -> None:
    """Each number equals that of a loop that computes every token alone, at every length over the same tokens."""
    import torch

    tokenizer = bytes_tokenizer(**({"bos_token": "<s>"} if begin else {}))
    perplexity = measure(stride=stride)
    texts = perplexity.chosen(tokenizer)
    report = run(perplexity, model, tokenizer)
    assert report.metadata["bos"] == ("yes" if begin else "no")
    assert not report.failures
    found = by_name(report)
    for length in (16, 64):
        losses = []
        for text in texts:
            row = [0, *text.ids] if begin else text.ids
            assert len(row) == 64
            with torch.no_grad():
                losses.append(one_by_one(model, row, length, stride, begin))
        everything = np.array(losses)
        assert found["perplexity", length].value == pytest.approx(math.exp(everything.mean()), rel=1e-9)
        assert found["perplexity_tail", length].value == pytest.approx(math.exp(everything[:, -16:].mean()), rel=1e-9)
        scores = [sample.score for sample in report.samples if sample.length == length]
        assert scores == pytest.approx(everything.mean(axis=1).tolist(), rel=1e-9)
    for item in (item for item in report.measurements if item.positions is not None):
        first, end = item.positions
        assert item.value == pytest.approx(math.exp(everything[:, first - 1 : end - 1].mean()), rel=1e-9)


def test_equals_the_recipe_of_transformers(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """The number is that of "Perplexity of fixed-length models" in transformers' documentation, where windows fit."""
    import torch

    perplexity = measure(texts=1, lengths=(24, 64), stride=8)
    [text] = perplexity.chosen(tokenizer)
    ids = torch.tensor([text.ids])
    total, tokens, before = 0.0, 0, 0
    for start in range(0, 64, 8):
        end = min(start + 24, 64)
        inputs = ids[:, start:end]
        labels = inputs.clone()
        labels[:, : -(end - before)] = -100
        with torch.no_grad():
            loss = model(inputs, labels=labels).loss
        scored = int((labels != -100).sum()) - (1 if start == 0 else 0)
        total, tokens, before = total + float(loss) * scored, tokens + scored, end
        if end == 64:
            break
    assert tokens == 63
    found = by_name(run(perplexity, model, tokenizer))
    assert found["perplexity", 24].value == pytest.approx(math.exp(total / tokens), rel=1e-6)


# What `compute_perplexity` of eval/perplexity.py in github.com/jquesnelle/yarn, at commit
# 995db5b575e75230b3384d658f8b944c9662f775, returns for the documents and the model below with sliding_window=8:
# (add_start_token, truncate, max_length) -> mean_perplexity.
YARN = {
    (False, False, 16): 1312.197021484375,
    (False, False, 64): 1270.8162841796875,
    (False, True, 16): 1021.4241943359375,
    (False, True, 64): 1136.14697265625,
    (True, False, 16): 1197.1339111328125,
    (True, False, 64): 1498.59033203125,
    (True, True, 16): 643.1210327148438,
    (True, True, 64): 1068.3016357421875,
}


class Numbers:
    """A tokenizer of numbers, with a begin token or without."""

    def __init__(self, bos_token_id: int | None) -> None:
        """State the begin token."""
        self.bos_token_id = bos_token_id

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        """Return the numbers that a text holds."""
        return {"input_ids": [int(word) for word in text.split()]}


@pytest.mark.parametrize("truncate", [False, True], ids=["sliding", "truncated"])
@pytest.mark.parametrize("begin", [False, True], ids=["no begin token", "begin token"])
def test_reference_equals_the_script_of_yarn(begin: bool, truncate: bool) -> None:
    """`reference` gives the numbers that YaRN's own script gave for the same model and tokens."""
    import random

    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=257, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.3,
    )  # fmt: skip
    generator = random.Random(5)
    rows = [[generator.randrange(1, 257) for _ in range(count)] for count in (64, 100, 83)]
    documents = [Document(" ".join(map(str, row)), id=str(number)) for number, row in enumerate(rows)]
    report = run(
        YarnPerplexity([Document("1 2", "short"), *documents], (16, 64), 3, 8, 1, 0, Context().cells, truncate),
        LlamaForCausalLM(config).eval(),
        Numbers(0 if begin else None),
    )
    found = {item.length: item.value for item in report.measurements}
    assert {item.metric for item in report.measurements} == {"perplexity_yarn"}
    assert found == pytest.approx({length: YARN[begin, truncate, length] for length in (16, 64)}, rel=1e-4)
    assert all(item.low <= item.value <= item.high for item in report.measurements)


@pytest.mark.parametrize("total", [8, 17, 64, 1000])
@pytest.mark.parametrize("length", [8, 13])
@pytest.mark.parametrize("stride", [1, 3, 256])
def test_windows_score_each_token_once(total: int, length: int, stride: int) -> None:
    """Each token but the first is scored once, with half a window before it or all there is."""
    if length > total:
        return
    scored = []
    for window in windows(total, length, stride_at(length, stride)):
        assert window.end - window.start == length
        places = range(window.end - window.scored, window.end)
        assert all(place - window.start >= length // 2 for place in places) or window.start == 0
        scored += places
    assert scored == list(range(1, total))


@pytest.mark.parametrize("total", [8, 16, 100, 32768])
def test_buckets_double(total: int) -> None:
    """The parts of the positions join, cover all, and each ends at twice where it begins, but for rounding."""
    found = buckets(total)
    assert [first for first, _ in found[1:]] == [end for _, end in found[:-1]]
    assert (found[0][0], found[-1][1]) == (1, total)
    assert all(end - 2 * first in (0, 1) for first, end in found[1:])


def test_cells_are_neither_tiny_nor_huge() -> None:
    """Short texts share a cell; one that costs more than a cell may is alone; none is lost."""
    texts: Any = list(range(10))
    assert [list(part.texts) for part in parts(texts, 64, 100)] == [texts]
    assert [list(part.texts) for part in parts(texts, 64, 2**30)] == [[number] for number in range(10)]
    assert [part.name for part in parts(texts, 64, 2**16)] == [
        "64 tokens, texts 1 to 4", "64 tokens, texts 5 to 8", "64 tokens, texts 9 to 10",
    ]  # fmt: skip


def test_logits_of_a_piece_at_a_time(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few logits exist at once, the numbers are the same, and no more exist than are allowed."""
    seen: list[int] = []
    hook = model.lm_head.register_forward_hook(lambda _, __, logits: seen.append(logits[..., 0].numel()))
    whole = run(measure(), model, tokenizer)
    monkeypatch.setattr(likelihood, "LOGITS", 12)
    seen.clear()
    pieces = run(measure(), model, tokenizer)
    hook.remove()
    assert max(seen) <= 12
    assert sum(seen) == 4 * 63 * 2
    assert [item.value for item in pieces.measurements] == pytest.approx([item.value for item in whole.measurements])
    assert "forward" not in vars(model.model)


def test_decoder_runs_once_for_each_batch(model: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many pieces of logits cost one pass through the layers."""
    import torch

    runs: list[int] = []
    hook = model.model.layers[0].register_forward_hook(lambda *_: runs.append(1))
    monkeypatch.setattr(likelihood, "LOGITS", 4)
    with torch.no_grad():
        likelihood.token_losses(model, [list(range(32))], 31)
    hook.remove()
    assert len(runs) == 1


@pytest.mark.parametrize(
    ("kind", "special"),
    [
        ("cohere", {"logit_scale": 0.3}),
        ("gemma2", {"final_logit_softcapping": 2.0, "head_dim": 16}),
        ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 2}),
        ("granite", {"logits_scaling": 4.0}),
        ("mistral", {"sliding_window": 8}),
    ],
)
@pytest.mark.parametrize("adapter", [False, True], ids=["bare", "with an adapter"])
def test_loss_is_that_of_the_model_itself(kind: str, special: dict[str, Any], adapter: bool) -> None:
    """What a model does to its logits, capping or scaling them, is in the loss; also inside an adapter."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(
        kind, vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, initializer_range=0.5, pad_token_id=0, bos_token_id=1, eos_token_id=2, **special,
    )  # fmt: skip
    model: Any = AutoModelForCausalLM.from_config(config).eval()
    if adapter:
        targets = ["c_attn"] if kind == "gpt2" else ["q_proj", "v_proj"]
        lora = LoraConfig(target_modules=targets, init_lora_weights=False, fan_in_fan_out=kind == "gpt2")
        model = get_peft_model(model, lora).eval()
    row = torch.randint(3, 64, (1, 20))
    with torch.no_grad():
        expected = float(model(input_ids=row, labels=row).loss)
        assert likelihood.token_losses(model, row.tolist(), 19).mean() == pytest.approx(expected, rel=1e-5)


def test_dynamic_frequencies_do_not_depend_on_what_was_measured_before() -> None:
    """After a long row, one of another length has its own frequencies again, which transformers alone would not set."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=16, initializer_range=0.5,
        rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0},
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    row = torch.randint(0, 64, (64,)).tolist()
    with torch.no_grad():
        alone = likelihood.token_losses(model, [row[:32]], 31)
        likelihood.token_losses(model, [row], 63)
        assert likelihood.token_losses(model, [row[:32]], 31) == pytest.approx(alone)


def test_losses_that_are_not_finite_cost_their_cell_alone(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A length at which the loss is NaN has no number but a reason; the others have theirs."""
    import torch

    forward = model.lm_head.forward

    def broken(hidden: Any) -> Any:
        logits = forward(hidden)
        return logits * math.nan if hidden.shape[1] > 16 else logits

    monkeypatch.setattr(model.lm_head, "forward", broken)
    report = run(measure(), model, tokenizer)
    assert {item.length for item in report.measurements} == {16}
    assert {sample.length for sample in report.samples} == {16}
    [(cell, why)] = report.failures.items()
    assert cell == "64 tokens, texts 1 to 4"
    assert "not finite" in why
    with pytest.raises(CtxkitError, match="2 of 3 tokens is not finite, first of token 1 of x"):
        likelihood.check_finite(np.array([math.inf, 0, math.nan]), "x")
    assert torch.is_grad_enabled()


def test_lengths_beyond_the_window_are_measured_and_flagged(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    """A length beyond the model's window is no error; the report says so."""
    report = run(measure(lengths=(64, 96, 128)), model, tokenizer)
    assert report.metadata["beyond_window"] == "96, 128"
    assert {item.length for item in report.measurements} == {64, 96, 128}
    assert "beyond_window" not in run(measure(), model, tokenizer).metadata


def test_short_limit_of_the_tokenizer_cuts_nothing(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """A tokenizer that states a short `model_max_length` gives the same report."""
    short = bytes_tokenizer(model_max_length=10)
    assert run(measure(), model, short) == run(measure(), model, tokenizer)


def test_no_text_is_taken_twice(tokenizer: PreTrainedTokenizerFast) -> None:
    """A document with three places for a text gives three, however many are asked for."""
    short = [Document("x" * 66, id="a"), Document("y" * 64, id="b")]
    texts = measure(documents=short, texts=50).chosen(tokenizer)
    assert sorted(text.id for text in texts) == ["a:64", "a:65", "a:66", "b:64"]


def test_texts_are_spread_over_documents(tokenizer: PreTrainedTokenizerFast) -> None:
    """Each document gives one text before any gives two, and another seed draws others."""
    texts = measure().chosen(tokenizer)
    assert len({text.document_id for text in texts}) == 4
    assert [text.id for text in measure(seed=1).chosen(tokenizer)] != [text.id for text in texts]


def test_documents_shorter_than_the_window_are_said(tokenizer: PreTrainedTokenizerFast) -> None:
    """With no document of the longest length there is a message, not an empty result; a begin token has its place."""
    with pytest.raises(DataError, match="no document has 9999 tokens"):
        measure(lengths=(9999,)).chosen(tokenizer)
    exact = [Document("x" * 63, id="a")]
    assert len(measure(documents=exact, texts=1).chosen(bytes_tokenizer(bos_token="<s>"))) == 1
    with pytest.raises(DataError, match="no document has 64 tokens"):
        measure(documents=exact).chosen(tokenizer)


def test_bootstrap_covers_a_known_mean() -> None:
    """The 95 % interval of synthetic documents covers the true perplexity about 95 times in 100."""
    generator = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        sums = 50 * generator.gamma(shape=40, scale=2 / 40, size=60)
        low, high = bootstrap_perplexity(sums, 50, [str(number) for number in range(60)], seed)
        covered += low <= math.exp(2) <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_texts_of_one_document_are_drawn_together() -> None:
    """Repeating each document ten times does not narrow the interval, as it would if texts were independent."""
    sums = 50 * np.random.default_rng(1).gamma(shape=40, scale=2 / 40, size=12)
    names = [str(number) for number in range(12)]
    once = bootstrap_perplexity(sums, 50, names, 0)
    assert bootstrap_perplexity(
        np.repeat(sums, 10), 50, [name for name in names for _ in range(10)], 0
    ) == pytest.approx(once)


def test_one_document_has_the_interval_of_its_texts() -> None:
    """With a single document the texts are drawn; those with more tokens weigh more."""
    low, high = bootstrap_perplexity([10.0, 90.0], [10, 30], ["a", "a"], 0)
    assert (low, high) == pytest.approx((math.e, math.exp(3)))


def test_few_documents_are_said(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """The metadata do not present an interval over fewer than five documents as one to be trusted."""
    assert (
        run(measure(texts=4), model, tokenizer).metadata["interval"].endswith("over 4 documents: too few to be trusted")
    )
    assert run(measure(texts=FEW), model, tokenizer).metadata["interval"] == "bootstrap 95 % over documents"
    assert described(1) == "bootstrap 95 % over the texts of 1 document: too few to be trusted"


def ids_and_texts(what: Any, model: Any, tokenizer: Any) -> tuple[set[str], Any]:
    """Return the names of the samples of a report, and that of all texts."""
    report = run(what, model, tokenizer)
    return {sample.id for sample in report.samples}, report.metadata["texts"]


def yarn(**changes: Any) -> YarnPerplexity:
    """Return an eval by YaRN's script over short texts."""
    chosen = {
        "documents": TEXT, "lengths": (16, 64), "texts": 4, "stride": 4, "batch_size": 3, "seed": 0,
        "cells": Context().cells, "truncate": False,
    }  # fmt: skip
    return YarnPerplexity(**{**chosen, **changes})


@pytest.mark.parametrize("kind", [measure, yarn])
def test_samples_are_named_by_what_was_asked(
    kind: Any, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    """Two reports share names only where tokens, length and stride are the same, whatever the model."""
    from transformers import AutoModelForCausalLM

    texts = [Document(document.text[:150], id=document.id) for document in TEXT]
    once = ids_and_texts(kind(documents=texts), model, tokenizer)
    assert len(once[0]) == 8
    other = AutoModelForCausalLM.from_config(model.config).eval()
    assert ids_and_texts(kind(documents=texts), other, tokenizer) == once
    edited = [Document(document.text.replace("quick", "quiet"), id=document.id) for document in texts]
    for change in ({"stride": 2}, {"documents": edited}, {"lengths": (32, 64), "stride": 3}):
        ids, named = ids_and_texts(kind(**{"documents": texts, **change}), model, tokenizer)
        assert not ids & once[0]
        assert named != once[1]
    moved = [Document(document.text, id=f"elsewhere/{document.id}") for document in texts]
    assert ids_and_texts(kind(documents=moved), model, tokenizer)[1] == once[1]


@pytest.mark.parametrize("reference", [None, "yarn", "yarn_truncate"])
def test_options_build_what_they_say(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, reference: str | None
) -> None:
    """Every option reaches the measurement it is for."""
    source = RepeatsOptions(kind="repeats", documents=5, length=200)
    options = PerplexityOptions(
        kind="perplexity", source=source, lengths=(16, 32), windows=3, stride=6, reference=reference
    )
    options.check(Context(tokenizer=tokenizer))
    report = run(options.build(Context(seed=1)), model, tokenizer)
    names = {"perplexity", "perplexity_tail"} if reference is None else {"perplexity_yarn"}
    assert by_name(report).keys() == {(name, length) for name in names for length in (16, 32)}
    assert {item.count for item in report.measurements} == {3}
    assert str(report.metadata.get("reference", "")).endswith(
        {None: "", "yarn": "sliding_window 6", "yarn_truncate": "truncated"}[reference]
    )
