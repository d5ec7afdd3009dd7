"""LongPPL, judged against the published code and against values worked out by hand."""

from __future__ import annotations

import math
import random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pydantic import ValidationError

from ctxkit.errors import CtxkitError, DataError
from ctxkit.spec import Context, Document, EvalReport
from ctxkit_evals import longppl_judge
from ctxkit_evals.longppl import LongPpl
from ctxkit_evals.longppl_judge import KeyRule, check_evaluator, covered
from ctxkit_evals.longppl_options import LongPplOptions
from ctxkit_sources.options import RepeatsOptions
from tests.unit.plugins.test_perplexity import bytes_tokenizer

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

pytestmark = pytest.mark.torch

WORDS = "the quick brown fox jumps over one lazy dog while nobody at all looks on".split()  # noqa: SIM905
GENERATOR = random.Random(3)
TEXT = " ".join(GENERATOR.choice(WORDS) for _ in range(60))


def llama(seed: int, vocabulary: int) -> LlamaForCausalLM:
    """Return a random model."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=512, initializer_range=0.3,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def words_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of whole words, which has no token for a space."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    built = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="the"))
    built.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=built)


def measure(rule: KeyRule, length: int, evaluator: str | None = None, texts: tuple[str, ...] = (TEXT,)) -> LongPpl:
    """Return an eval over the given texts."""
    documents = [Document(text, id=f"d{number}") for number, text in enumerate(texts)]
    return LongPpl(documents, (length,), len(texts), rule, evaluator, 0, Context().cells)


def run(what: LongPpl, model: Any, tokenizer: Any) -> EvalReport:
    """Return the report, measured as the core measures."""
    import torch

    with torch.no_grad():
        return what(model, tokenizer)


# What `compute_longppl` of github.com/PKU-ML/LongPPL at commit 1decd2a70d9ee78488adea49c088f8bc472f4938 returns for the
# text, tokenizers and models above: trunc_len, sliding_window, alpha and -beta as here; longppl, n_key_token, ppl.
PUBLISHED = {
    "itself": (KeyRule(32, 10, 0.3, 6.0), 102.79407501220703, 40, 1227.2313232421875),
    "another model": (KeyRule(32, 10, 0.3, 6.0), 786.5440673828125, 45, 1227.2313232421875),
    "another tokenizer": (KeyRule(8, 5, 0.3, 3.0), 1059.9532470703125, 47, 1227.2313232421875),
}


@pytest.mark.parametrize("case", PUBLISHED)
def test_equals_the_published_code(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Key tokens and both numbers are those of the authors' code, also where the evaluator splits texts otherwise."""
    rule, longppl, keys, perplexity = PUBLISHED[case]
    tokenizer, other = bytes_tokenizer(), words_tokenizer()
    loaded = {
        "AutoTokenizer": other if case == "another tokenizer" else bytes_tokenizer(),
        "AutoModelForCausalLM": llama(1, len(WORDS) if case == "another tokenizer" else 258),
    }
    monkeypatch.setattr(longppl_judge, "_loaded", lambda kind, *_, **__: loaded[kind.__name__])
    evaluator = None if case == "itself" else "some/model"
    report = run(measure(rule, len(TEXT), evaluator), llama(0, 258), tokenizer)
    assert not report.failures
    assert {item.metric: item.value for item in report.measurements} == pytest.approx(
        {"longppl": longppl, "perplexity": perplexity}, rel=1e-4
    )
    assert report.metadata["key_tokens"] == f"{keys} of {len(TEXT) - 1} at {len(TEXT)}"
    assert report.metadata["evaluator"] == (evaluator or "the measured model itself")


BONUS, VOCABULARY = 5.0, 258


class Recall:
    """A model that gives a bonus to the token which last followed the present one, if it is in the context."""

    def __init__(self) -> None:
        """Be on the CPU."""
        import torch

        self.device, self.dtype = torch.device("cpu"), torch.float32
        self.config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(max_position_embeddings=64))
        self.decoder = SimpleNamespace(forward=lambda input_ids: input_ids)

    def to(self, _: Any) -> None:
        """Stay on the CPU."""

    def eval(self) -> None:
        """Stay as it is."""

    def named_modules(self) -> list[Any]:
        """Return nothing: it has no table of positions."""
        return []

    def get_decoder(self) -> Any:
        """Return what passes the tokens on."""
        return self.decoder

    def __call__(self, input_ids: Any, logits_to_keep: Any, use_cache: bool) -> Any:
        """Return the logits of some places."""
        import torch

        assert not use_cache
        rows = self.decoder.forward(input_ids)
        logits = torch.zeros(len(rows), len(logits_to_keep), VOCABULARY)
        for row, ids in enumerate(rows.tolist()):
            for index, place in enumerate(logits_to_keep.tolist()):
                before = [past for past in range(place) if ids[past] == ids[place]]
                if before:
                    logits[row, index, ids[before[-1] + 1]] = BONUS
        return SimpleNamespace(logits=logits)


RECALLED = math.log(1 + (VOCABULARY - 1) * math.exp(-BONUS))
"""The loss of a token that has the bonus: 1.00 nats; without any bonus, log 258 = 5.55."""


def test_equals_values_by_hand() -> None:
    """Only what can be recalled from beyond the short context is key, and its loss is that of recall.

    `a1` comes again 20 tokens later, beyond a short context of 8 to 9; `b2` comes again 5 tokens later, within it.
    """
    text = "a1" + "ghijklmnopqrstuvw" + "b2" + "xyz" + "b2" + "AB" + "a1" + "CDE"
    first, again = text.index("1"), text.rindex("1")
    assert again - first > 9
    report = run(measure(KeyRule(8, 2, 2.0, 2.0), len(text), None, (text,)), Recall(), bytes_tokenizer())
    found = {item.metric: item.value for item in report.measurements}
    assert report.metadata["key_tokens"] == f"1 of {len(text) - 1} at {len(text)}"
    assert found["longppl"] == pytest.approx(math.exp(RECALLED), rel=1e-6)
    # The bonus is right after the second "b" and the second "a"; it is wrong after the second "2", where it goes to
    # "x", and after the second "1", where it goes to "g"; elsewhere there is none.
    wrong = math.log(VOCABULARY - 1 + math.exp(BONUS))
    unknown = math.log(VOCABULARY)
    total = 2 * RECALLED + 2 * wrong + (len(text) - 1 - 4) * unknown
    assert found["perplexity"] == pytest.approx(math.exp(total / (len(text) - 1)), rel=1e-6)
    assert [sample.score for sample in report.samples] == pytest.approx([RECALLED])


def test_samples_are_named_by_what_was_asked() -> None:
    """Another rule, evaluator or text has another name; another measured model has not."""
    rule = KeyRule(32, 10, 0.3, 6.0)

    def names(what: LongPpl, seed: int = 0) -> tuple[list[str], Any]:
        report = run(what, llama(seed, 258), bytes_tokenizer())
        assert report.metadata["documents"] == 1
        assert report.metadata["interval"] == "bootstrap 95 % over the texts of 1 document: too few to be trusted"
        return [sample.id for sample in report.samples], report.metadata["texts"]

    once = names(measure(rule, 128))
    assert len(once[0]) == 1
    assert names(measure(rule, 128), seed=1) == once
    for other in (
        measure(KeyRule(32, 12, 0.3, 6.0), 128),
        measure(KeyRule(32, 10, 0.2, 6.0), 128),
        measure(rule, 120),
        measure(rule, 128, texts=(TEXT.replace("e", "a"),)),
    ):
        found = names(other)
        assert found[0] != once[0]
        assert found[1] != once[1]


def test_key_tokens_weigh_the_same_in_all_texts() -> None:
    """A text without key tokens has no sample and changes nothing; beta leaves out what stays unlikely."""
    far = "a1" + "ghijklmnopqrstuvw" + "a1" + "ABCDEFGHI"
    none = "ghijklmnopqrstuvwABCDEFGHIJKLMabc"[: len(far)].ljust(len(far), ".")
    assert len(none) == len(far)
    both = run(measure(KeyRule(8, 2, 2.0, 2.0), len(far), None, (far, none)), Recall(), bytes_tokenizer())
    assert {item.metric: item.count for item in both.measurements} == {"longppl": 1, "perplexity": 2}
    assert len(both.samples) == 1
    strict = run(measure(KeyRule(8, 2, 2.0, 0.9), len(far), None, (far,)), Recall(), bytes_tokenizer())
    assert {item.metric for item in strict.measurements} == {"perplexity"}
    assert "no key tokens" in strict.failures[f"{len(far)} tokens"]


def test_begin_token_stands_before_each_context() -> None:
    """With a begin token every text is one token shorter, and key tokens are the same ones."""
    text = "a1" + "ghijklmnopqrstuvw" + "a1" + "ABCDEFGHI"
    report = run(
        measure(KeyRule(9, 2, 2.0, 2.0), len(text) + 1, None, (text,)), Recall(), bytes_tokenizer(bos_token="<s>")
    )
    assert report.metadata["bos"] == "yes"
    assert report.metadata["key_tokens"] == f"1 of {len(text)} at {len(text) + 1}"
    assert {item.metric: item.value for item in report.measurements}["longppl"] == pytest.approx(math.exp(RECALLED))


@pytest.mark.parametrize("theirs", ["", "<s>"], ids=["no begin token there", "begin token there"])
@pytest.mark.parametrize("other", [False, True], ids=["same tokens", "other tokens"])
@pytest.mark.parametrize("ours", ["", "<s>"], ids=["no begin token here", "begin token here"])
def test_evaluator_and_model_may_begin_otherwise(
    ours: str, other: bool, theirs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key token is the same one, whichever of the two has a begin token, and whether they share a tokenizer."""
    tokenizer, evaluator = (bytes_tokenizer(**({"bos_token": token} if token else {})) for token in (ours, theirs))
    if other:
        evaluator.add_tokens(["never said"])
    loaded = {"AutoTokenizer": evaluator, "AutoModelForCausalLM": Recall()}
    monkeypatch.setattr(longppl_judge, "_loaded", lambda kind, *_, **__: loaded[kind.__name__])
    text = "a1" + "ghijklmnopqrstuvw" + "a1" + "ABCDEFGHI"
    report = run(measure(KeyRule(9, 2, 2.0, 2.0), len(text) + len(ours[:1]), "x/y", (text,)), Recall(), tokenizer)
    assert [sample.metadata["key_tokens"] for sample in report.samples] == [1]
    assert [sample.score for sample in report.samples] == pytest.approx([RECALLED])


@pytest.mark.parametrize(
    ("tokens", "spans", "expected"),
    [
        ([(0, 1), (1, 4), (4, 6)], [(1, 4)], [1]),
        ([(0, 1), (1, 4), (4, 6)], [(1, 3), (3, 6)], [1, 2]),
        ([(0, 2), (2, 4)], [(1, 4)], [1]),
        ([(0, 2), (2, 2), (2, 4)], [(0, 4)], [0, 2]),
        ([(0, 2)], [], []),
    ],
)
def test_tokens_within_spans(tokens: list[Any], spans: list[Any], expected: list[int]) -> None:
    """A token is key if all its characters are; spans that touch are one; a token without characters is not."""
    found = covered(np.array(tokens), np.array(spans, dtype=np.int64).reshape(-1, 2))
    assert found.tolist() == expected


def test_evaluator_that_is_not_there_is_named() -> None:
    """A misspelt evaluator is found before anything is measured."""
    with pytest.raises(CtxkitError, match="the evaluator no/such-model cannot be loaded"):
        check_evaluator("no/such-model", bytes_tokenizer())


def test_slow_tokenizers_that_differ_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens of a slow tokenizer cannot be set beside those of another one."""
    slow: Any = SimpleNamespace(is_fast=False, get_vocab=dict)
    monkeypatch.setattr(longppl_judge, "_loaded", lambda *_, **__: slow)
    with pytest.raises(CtxkitError, match="one of the two is slow"):
        check_evaluator("some/model", bytes_tokenizer())


@pytest.mark.parametrize("wrong", [{"lengths": (64, 64)}, {"lengths": (32, 64)}, {"short_context": 2}])
def test_options_that_measure_nothing_are_refused(wrong: dict[str, Any]) -> None:
    """A length that is no longer than the short context has no far context."""
    source = RepeatsOptions(kind="repeats", documents=5, length=200)
    with pytest.raises(ValidationError):
        LongPplOptions(**{"kind": "longppl", "source": source, "lengths": (64,), "short_context": 32, **wrong})


def test_options_build_what_they_say() -> None:
    """Every option reaches the measurement; documents that are too short are found before it."""
    source = RepeatsOptions(kind="repeats", documents=5, length=200)
    options = LongPplOptions(
        kind="longppl", source=source, lengths=(64, 96), short_context=16, stride=8, windows=3, alpha=0.0, beta=9.0
    )
    context = Context(seed=1, tokenizer=bytes_tokenizer())
    options.check(context)
    report = run(options.build(context), llama(0, 258), context.tokenizer)
    assert {(item.metric, item.length) for item in report.measurements} == {
        (name, length) for name in ("longppl", "perplexity") for length in (64, 96)
    }
    assert all(item.low <= item.value <= item.high for item in report.measurements)
    with pytest.raises(DataError, match="longppl: no document has 999 tokens"):
        options.model_copy(update={"lengths": (999,)}).check(context)
