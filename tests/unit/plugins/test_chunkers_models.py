"""The structured chunkers with tokenizers and models of transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from ctxkit.errors import DataError
from ctxkit.spec import Context, Document, EncodedDocument
from ctxkit.spec.intervals import wilson
from ctxkit_chunkers import MultiFileOptions, SnippetQaEvalOptions, SnippetQaOptions
from ctxkit_chunkers.byte_places import ByteTable
from ctxkit_chunkers.snippet_eval import Prompt, SnippetQa, answered

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

pytestmark = pytest.mark.torch

SOURCE = "".join(
    f"def function_{name}(value):\n    return value + {number}\n\n\n" for number, name in enumerate("abcdefghijklmnop")
)
NON_ASCII = 'def größe():\n    return "日本 \U0001f600"\n\n\n'


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    """Return a byte-level tokenizer trained on code."""
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, special_tokens=["<|endoftext|>"], show_progress=False
    )
    raw.train_from_iterator([SOURCE, "QUESTION: Which snippet defines function?\nANSWER: 12\n"] * 3, trainer)
    fast: Any = PreTrainedTokenizerFast
    wrapped: PreTrainedTokenizerBase = fast(tokenizer_object=raw, eos_token="<|endoftext|>")
    return wrapped


def encoded(tokenizer: PreTrainedTokenizerBase, text: str, name: str, group: str = "g") -> EncodedDocument:
    """Return a document as the core encodes it."""
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return EncodedDocument(Document(text, name, group), np.array([*ids, tokenizer.eos_token_id], dtype=np.int32))


def test_forged_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    """Special tokens spelled in names and texts stay text; those of the structure are single ids, added as asked."""
    options = MultiFileOptions(kind="multi_file", length=512)
    added = [
        AddedToken(token, special=True, normalized=False) for token in options.special_tokens(tokenizer.get_vocab())
    ]
    tokenizer.add_tokens(added, special_tokens=True)
    document = encoded(tokenizer, "x = '<|FILE_END|>'\n", "<|endoftext|>/<|FILE_START|>.py")
    (chunk,) = options.build(Context(tokenizer=tokenizer))([document])
    ids = chunk.input_ids.tolist()
    said = tokenizer.decode(ids)
    assert said == ("<|FILE_START|> <|endoftext|>/<|FILE_START|>.py\nx = '<|FILE_END|>'\n<|FILE_END|>\n<|endoftext|>")
    names = tokenizer.get_added_vocab()
    assert [token for token in tokenizer.convert_ids_to_tokens(ids) if token in names] == [
        "<|FILE_START|>",
        "<|FILE_END|>",
        "<|endoftext|>",
    ]


def test_byte_places_against_offsets(tokenizer: PreTrainedTokenizerBase) -> None:
    """Tokens end where the tokenizer's own offsets say, and a text of other scripts adds up."""
    encoding: Any = tokenizer(SOURCE, add_special_tokens=False, return_offsets_mapping=True)
    table = ByteTable.of(tokenizer)
    ends = table.ends(np.array(encoding["input_ids"], dtype=np.int32), SOURCE.encode())
    assert ends is not None
    assert ends.tolist() == [end for _, end in encoding["offset_mapping"]]
    document = encoded(tokenizer, NON_ASCII, "a.py")
    ends = table.ends(document.input_ids, NON_ASCII.encode())
    assert ends is not None
    pieces = [tokenizer.decode(document.input_ids[: place + 1].tolist()) for place in range(len(ends) - 1)]
    whole = [place for place, piece in enumerate(pieces) if "\ufffd" not in piece]
    assert [int(ends[place]) for place in whole] == [len(pieces[place].encode()) for place in whole]


def test_snippets_with_a_real_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    """Every answer is the number of the snippet that defines the name, read back from the decoded text."""
    options = SnippetQaOptions(kind="snippet_qa", length=1024, questions=5)
    documents = [encoded(tokenizer, NON_ASCII + SOURCE, "a.py"), encoded(tokenizer, "x = 1\n", "b.py")]
    chunks = list(options.build(Context(tokenizer=tokenizer))(documents))
    asked = 0
    for chunk in chunks:
        snippets, *questions = tokenizer.decode(chunk.input_ids.tolist()).split("\nQUESTION: Which snippet defines ")
        for question in questions:
            name, answer = question.removesuffix("<|endoftext|>").split("?\nANSWER: ")
            number = next(p.split("|>")[0] for p in snippets.split("<|SNIPPET_") if f"def {name}(" in p)
            assert answer == f"{number}\n"
            asked += 1
    assert asked == 5 * len(chunks)


def evaluation(documents: list[Document], **said: Any) -> SnippetQa:
    """Return the eval over some documents."""
    settings = {"lengths": (300, 400), "samples": 6, "batch_size": 4, "seed": 1, **said}
    return SnippetQa(documents=documents, cells=Context().cells, **settings)


DOCUMENTS = [Document(SOURCE, "a.py"), Document(SOURCE.replace("function", "other"), "b.py")]


def test_prompts(tokenizer: PreTrainedTokenizerBase) -> None:
    """Prompts fill their length, ask for a name that one snippet defines, and end in its number."""
    prompts = list(evaluation(DOCUMENTS).prompts(tokenizer))
    assert [prompt.length for prompt in prompts] == [300] * 6 + [400] * 6
    for prompt in prompts:
        assert prompt.length - 20 < len(prompt.ids) <= prompt.length
        text = tokenizer.decode(prompt.ids)
        context, question = text.split("\nQUESTION: Which snippet defines ")
        name, answer = question.split("?\nANSWER: ")
        holders = [piece for piece in context.split("<|SNIPPET_") if f"def {name}(" in piece]
        assert [piece.split("|>")[0] for piece in holders] == [answer.removesuffix("\n")]
        assert tokenizer.decode(prompt.ids[-prompt.answer_length :]) == f" {answer}"
        assert prompt.depth == pytest.approx(context.index(holders[0]) / len(context), abs=0.1)
    again = list(evaluation(DOCUMENTS).prompts(tokenizer))
    assert again == prompts
    assert list(evaluation(DOCUMENTS, seed=2).prompts(tokenizer)) != prompts


@pytest.mark.parametrize(
    ("documents", "said"),
    [
        ([Document("def a(): ...\n", "a.py")], r"the source has \d+ tokens, 400 are needed"),
        ([Document("no names at all\n" * 200, "a.txt")], "no name is defined exactly once within 300 tokens"),
        ([Document("def same(): ...\n\n" * 200, "a.py")], "no name is defined exactly once"),
        ([], "has 0 tokens"),
    ],
)
def test_nothing_to_ask(tokenizer: PreTrainedTokenizerBase, documents: list[Document], said: str) -> None:
    """A source that is too short, or defines no name once, is refused before anything is trained."""
    with pytest.raises(DataError, match=said):
        list(evaluation(documents).prompts(tokenizer))


def tiny(tokenizer: PreTrainedTokenizerBase) -> Any:
    """Return a small model with random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=512,
    )
    return LlamaForCausalLM(config).eval()


def test_judged_as_generated(tokenizer: PreTrainedTokenizerBase) -> None:
    """A prompt counts exactly if the model's own greedy generation gives the answer."""
    import torch

    model = tiny(tokenizer)
    fronts = [[5, 6, 7], [8, 9, 10, 11], [12, 13, 14]]
    with torch.no_grad():
        own = [
            model.generate(torch.tensor([ids]), max_new_tokens=2, do_sample=False)[0, -2:].tolist() for ids in fronts
        ]
    right = [Prompt([*ids, *answer], 2, 8, 0.0) for ids, answer in zip(fronts, own, strict=True)]
    wrong = [Prompt([*ids, answer[0], answer[1] + 1], 2, 8, 0.0) for ids, answer in zip(fronts, own, strict=True)]
    off = []
    for ids, (first, _) in zip(fronts, own, strict=True):
        with torch.no_grad():
            second = model(torch.tensor([[*ids, first + 1]])).logits[0, -1].argmax().item()
        off.append(Prompt([*ids, first + 1, second], 2, 8, 0.0))
    short = [Prompt([*ids, answer[0]], 1, 8, 0.0) for ids, answer in zip(fronts, own, strict=True)]
    with torch.no_grad():
        assert answered(model, [*right, *wrong, *off, *short]) == [True] * 3 + [False] * 6 + [True] * 3


def test_report(tokenizer: PreTrainedTokenizerBase) -> None:
    """The report has one accuracy for each length, with Wilson's interval, and a score for each prompt."""
    import torch

    with torch.no_grad():
        report = evaluation(DOCUMENTS)(tiny(tokenizer), tokenizer)
    assert report.task == "snippet_qa"
    assert [(item.metric, item.length, item.count, item.depth) for item in report.measurements] == [
        ("accuracy", 300, 6, None),
        ("accuracy", 400, 6, None),
    ]
    assert len(report.samples) == 12
    assert report.metadata["interval"] == "Wilson 95 %"
    assert "beyond_window" not in report.metadata
    model = tiny(tokenizer)
    model.config.max_position_embeddings = 350
    with torch.no_grad():
        assert evaluation(DOCUMENTS)(model, tokenizer).metadata["beyond_window"] == "400"
    hits = [sum(sample.score for sample in report.samples if sample.length == length) for length in (300, 400)]
    assert [item.value for item in report.measurements] == [hit / 6 for hit in hits]


def test_check_and_build(tokenizer: PreTrainedTokenizerBase, tmp_path: Any) -> None:
    """The options make the eval from a source, and refuse before training what cannot be asked."""
    from ctxkit.host import Host
    from ctxkit.registry import collect

    (tmp_path / "a.py").write_text("def same(): ...\n\n" * 200)
    values = {"kind": "snippet_qa", "source": {"kind": "files", "paths": [f"{tmp_path}/*.py"]}, "lengths": [256]}
    context = collect(Host()).context
    options = SnippetQaEvalOptions.model_validate(values, context=context)
    with pytest.raises(DataError, match="no name is defined exactly once"):
        options.check(Context(tokenizer=tokenizer))
    (tmp_path / "a.py").write_text(SOURCE + SOURCE.replace("function", "other"))
    options.check(Context(tokenizer=tokenizer))
    options.check(Context())
    with pytest.raises(ValueError, match="a length is stated twice"):
        SnippetQaEvalOptions.model_validate({**values, "lengths": [256, 256]}, context=context)


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662)],
)
def test_wilson(successes: int, count: int, low: float, high: float) -> None:
    """The interval agrees with Newcombe's table of 1998, where he gives 81 of 263, and with values by hand."""
    assert wilson(successes, count) == pytest.approx((low, high), abs=6e-5)
