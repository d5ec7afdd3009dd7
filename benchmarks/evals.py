"""Compare the evals of recall with plain `generate` on the same prompts and model, in CPU seconds of one thread.

Plain is what public scripts do: one prompt after the other through `model.generate`, without sampling, as many new
tokens as the answer has. `batched` hands it the prompts of a sample at once. Prompts are made before the clock starts;
weights are random, since time does not depend on them. In each round all three measure the same prompts, in the next
round in the opposite order; a ratio is of one round, generate / ctxkit, and what is written is the median of all rounds
with the least and the greatest. The tokens of generate must begin with what ctxkit says that greedy decoding writes.

    python benchmarks/evals.py                  # into benchmarks/results/evals.md
    python benchmarks/evals.py --rounds 1 --print
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import statistics
import time
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ["OMP_NUM_THREADS"] = "1"

from ctxkit.spec import Context
from ctxkit_evals.exact import begun
from ctxkit_evals.forks import guessed
from ctxkit_evals.key_value_options import KeyValueOptions
from ctxkit_evals.passkey_options import PasskeyOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ctxkit_evals.forks import Fork, Trunk

RESULT = Path(__file__).parent / "results" / "evals.md"
LENGTH = 1024
FIVE = (0.0, 0.25, 0.5, 0.75, 1.0)
TEN = tuple(number / 9 for number in range(10))


@dataclass(frozen=True)
class Setup:
    """A model, the vocabulary of its tokenizer, how keys are worded for it, and how much is measured."""

    name: str
    shape: dict[str, int]
    vocabulary: int
    wording: dict[str, str]
    samples: int


SETUPS = (
    # As in recipes/tiny_yarn.yaml: a token is a byte, so the words are short.
    Setup(
        "0.5 M",
        {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4},
        256,
        {"needle": " key of {name}={key}; ", "question": " key of {name}="},
        4,
    ),
    Setup(
        "28 M",
        {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8, "num_attention_heads": 8},
        4096,
        {},
        1,
    ),
)


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    model: str
    case: str
    prompts: int
    ctxkit: list[float]
    """CPU seconds of each round."""
    plain: list[float]
    batched: list[float]


def cases(setup: Setup, tokenizer: Any) -> Iterator[tuple[str, list[Trunk]]]:
    """Yield the prompts of each case by its name."""
    for keys, depths in ((1, FIVE), (5, FIVE), (10, TEN)):
        options = PasskeyOptions(kind="passkey", lengths=(LENGTH,), keys=keys, depths=depths, **setup.wording)
        measure = options.build(Context())
        prompts = measure.prompts(tokenizer, measure.haystack(tokenizer), LENGTH, range(setup.samples))
        yield f"passkey, {len(depths)} depths, {'one key' if keys == 1 else f'`keys: {keys}`'}", prompts
    options = KeyValueOptions(kind="key_value", lengths=(LENGTH,))
    yield "key_value, 5 depths", options.build(Context()).prompts(tokenizer, LENGTH, range(setup.samples))


def main() -> None:
    """Measure everything and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--print", action="store_true", help="print the page instead of writing it")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    rows = []
    for setup in SETUPS:
        tokenizer, model = trained_tokenizer(setup.vocabulary), made(setup)
        for name, trunks in cases(setup, tokenizer):
            rows.append(measured(setup.name, model, name, trunks, options.rounds))
    text = page(rows, options.rounds)
    if options.print:
        print(text)
    else:
        RESULT.write_text(text, encoding="utf-8")


def trained_tokenizer(vocabulary: int) -> Any:
    """Return a tokenizer of bytes, joined as they are in Python's standard library."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    built = Tokenizer(models.BPE())
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    texts = (path.read_text(encoding="utf-8") for path in sorted(Path(os.__file__).parent.glob("[a-d]*.py")))
    built.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=alphabet))
    return PreTrainedTokenizerFast(tokenizer_object=built)


def made(setup: Setup) -> Any:
    """Return a Llama with random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        **setup.shape,
        vocab_size=setup.vocabulary,
        max_position_embeddings=2 * LENGTH,
        tie_word_embeddings=True,
        eos_token_id=None,
        bos_token_id=None,
    )
    return LlamaForCausalLM(config).eval()


def measured(name: str, model: Any, case: str, trunks: list[Trunk], rounds: int) -> Row:
    """Return the CPU seconds of each contender, after a warm-up on one sample; their answers are compared."""
    contenders = {"ctxkit": ours, "plain": plain, "batched": batched}
    for work in contenders.values():
        work(model, trunks[:1])
    seconds: dict[str, list[float]] = {each: [] for each in contenders}
    for number in range(rounds):
        found = {}
        for each in list(contenders)[:: -1 if number % 2 else 1]:
            start = time.process_time()
            found[each] = contenders[each](model, trunks)
            seconds[each].append(time.process_time() - start)
        for guess, free, together in zip(found["ctxkit"], found["plain"], found["batched"], strict=True):
            if not guess == free[: len(guess)] == together[: len(guess)]:
                raise SystemExit(f"{case}: the answers differ")
    forks = sum(len(trunk.forks) for trunk in trunks)
    return Row(name, case, forks, seconds["ctxkit"], seconds["plain"], seconds["batched"])


def ours(model: Any, trunks: list[Trunk]) -> list[list[int]]:
    """Return what greedy decoding begins with, for each prompt."""
    return [
        list(begun(guess, fork.answer))
        for trunk, of_trunk in zip(trunks, guessed(model, trunks, batch_size=10), strict=True)
        for fork, guess in zip(trunk.forks, of_trunk, strict=True)
    ]


def plain(model: Any, trunks: list[Trunk]) -> list[list[int]]:
    """Return what `generate` writes, one prompt after the other."""
    return [
        tokens for trunk in trunks for fork in trunk.forks for tokens in generated(model, [trunk.prompt(fork)], fork)
    ]


def batched(model: Any, trunks: list[Trunk]) -> list[list[int]]:
    """Return what `generate` writes, neighbouring prompts of one length together."""
    every = [(trunk.prompt(fork), fork) for trunk in trunks for fork in trunk.forks]
    return [
        tokens
        for _, group in groupby(every, key=lambda each: len(each[0]))
        for alike in [list(group)]
        for tokens in generated(model, [prompt for prompt, _ in alike], alike[0][1])
    ]


def generated(model: Any, prompts: list[list[int]], fork: Fork) -> list[list[int]]:
    """Return the new tokens."""
    import torch

    ids = torch.tensor(prompts)
    output = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=len(fork.answer),
        do_sample=False,
        pad_token_id=0,
    )
    return output[:, ids.shape[1] :].tolist()


def page(rows: list[Row], rounds: int) -> str:
    """Return the page of results."""
    lines = [
        "# The evals of recall against plain `generate`",
        "",
        f"Written by `python benchmarks/evals.py --rounds {rounds}`: CPU seconds of one thread at {LENGTH:,} tokens,",
        "random weights, the same prompts for all. A ratio is `generate` / ctxkit in one round:",
        f"median [least, greatest] of {rounds} rounds. The answers are equal. {versions()}.",
        "",
        "| model | eval | prompts | ctxkit, s a prompt | `generate` one by one, ratio | batched, ratio |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        each = statistics.median(row.ctxkit) / row.prompts
        cells = [row.model, row.case, str(row.prompts), f"{each:.3f}"]
        lines.append(f"| {' | '.join([*cells, ratios(row.plain, row.ctxkit), ratios(row.batched, row.ctxkit)])} |")
    return "\n".join([*lines, "", NOTE, ""])


NOTE = """What saves: the text before a key is read once for all depths, and one pass over prompt and answer tells what
greedy decoding would write. With one key a prompt, the text after the key has to be read for each key again, since it
has seen another key. That is half of the tokens on average, and the half whose attention is dearest: a factor of 5 is
not to be had there without changing the answers. Where one text holds all keys (`keys`, `key_value`, `num_needle_k`),
it is read once for all questions, and the factor grows with their number."""


def ratios(others: list[float], own: list[float]) -> str:
    """Return the median of the ratios with the least and the greatest."""
    found = [other / mine for other, mine in zip(others, own, strict=True)]
    return f"{statistics.median(found):.1f} [{min(found):.1f}, {max(found):.1f}]"


def versions() -> str:
    """Return what it was measured with."""
    named = [f"{name} {importlib.metadata.version(name)}" for name in ("torch", "transformers")]
    return ", ".join([*named, f"Python {platform.python_version()}"])


if __name__ == "__main__":
    main()
