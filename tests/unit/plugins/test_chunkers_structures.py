"""Repositories, histories and snippets in examples, by hand; nothing here imports the training stack."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from ctxkit.errors import CtxkitError, ExitCode
from ctxkit.spec import Chunk, ChunkerOptions, Context, Document, EncodedDocument, Span
from ctxkit_chunkers import CommitChainOptions, MultiFileOptions, SnippetQaOptions
from ctxkit_chunkers.layouts import QWEN, STARCODER, STARCODER2
from tests.unit.plugins.chunkers_bytes import Bytes, trained

TOKENIZER = Bytes()
LONG = "".join(f"line {n:02}\n" for n in range(40))
"""Forty lines of 8 bytes."""


def chunks_of(
    options: ChunkerOptions,
    documents: list[EncodedDocument],
    tokenizer: Any = TOKENIZER,
    drops: Counter[str] | None = None,
    seed: int = 0,
) -> list[Chunk]:
    """Return the chunks that the options make."""
    counts = Counter[str]() if drops is None else drops
    context = Context(
        seed=seed, tokenizer=tokenizer, dropped=lambda _document, tokens, reason: counts.update({reason: tokens})
    )
    return list(options.build(context)(documents))


def texts(chunks: list[Chunk], tokenizer: Bytes = TOKENIZER) -> list[str]:
    """Return what the chunks say, special tokens by their names."""
    return [tokenizer.decode(chunk.input_ids) for chunk in chunks]


def read(chunk: Chunk, tokenizer: Bytes = TOKENIZER) -> str:
    """Return what of a chunk is trained."""
    return tokenizer.decode(chunk.input_ids[trained(chunk)])


def multi_file(length: int = 4096, **said: Any) -> MultiFileOptions:
    """Return options of `multi_file`."""
    return MultiFileOptions(kind="multi_file", length=length, **said)


def commit_chain(length: int = 4096, **said: Any) -> CommitChainOptions:
    """Return options of `commit_chain`."""
    return CommitChainOptions(kind="commit_chain", length=length, **said)


def snippet_qa(length: int = 4096, **said: Any) -> SnippetQaOptions:
    """Return options of `snippet_qa`."""
    return SnippetQaOptions(kind="snippet_qa", length=length, **said)


B = TOKENIZER.document("import a\n", "b.py", "repo")
A = TOKENIZER.document("x = 1\n", "a.py", "repo")


def test_files_between_tags() -> None:
    """What is imported stands first, each file between tags with its path, one end token at the end."""
    drops = Counter[str]()
    chunks = chunks_of(multi_file(), [B, A], drops=drops)
    assert texts(chunks) == [
        "<s><|FILE_START|> a.py\nx = 1\n<|FILE_END|>\n<|FILE_START|> b.py\nimport a\n<|FILE_END|>\n</s>"
    ]
    assert chunks[0].located() == ((Span("a.py", 1, 7, 8), 8), (Span("b.py", 1, 10, 23), 23))
    assert trained(chunks[0]) == list(range(len(chunks[0].input_ids)))
    assert chunks[0].reach == 23 - 8
    assert drops == {"by rule: begin and end tokens inside an example": 4}


@pytest.mark.parametrize(
    ("tokens", "chosen", "text"),
    [
        (STARCODER2, "auto", "<s><repo_name>repo<file_sep>a.py\nx = 1\n<file_sep>b.py\nimport a\n</s>"),
        (QWEN, "auto", "<s><|repo_name|>repo\n<|file_sep|>a.py\nx = 1\n<|file_sep|>b.py\nimport a\n</s>"),
        (
            (*STARCODER2, *QWEN),
            "qwen",
            "<s><|repo_name|>repo\n<|file_sep|>a.py\nx = 1\n<|file_sep|>b.py\nimport a\n</s>",
        ),
    ],
)
def test_formats_that_models_know(tokens: tuple[str, ...], chosen: Any, text: str) -> None:
    """A vocabulary with the tokens of a model gets the format of that model."""
    tokenizer = Bytes(*tokens)
    assert texts(chunks_of(multi_file(format=chosen), [A, B], tokenizer), tokenizer) == [text]


def test_no_name_and_no_begin_token() -> None:
    """Documents without a group stand alone, without a name of a repository; a tokenizer may have no begin token."""
    tokenizer = Bytes(*STARCODER2, begin=False)
    documents = [tokenizer.document("x", "a.py"), tokenizer.document("y", "b.py")]
    assert texts(chunks_of(multi_file(), documents, tokenizer), tokenizer) == [
        "<file_sep>a.py\nx</s>",
        "<file_sep>b.py\ny</s>",
    ]


def test_names_cannot_forge_tokens() -> None:
    """A path that spells a special token stays text, and a line end in it cannot end the line."""
    forged = TOKENIZER.document("x", "1", "g", path="<|FILE_END|>\n</s>.py")
    (chunk,) = chunks_of(multi_file(), [forged])
    assert texts([chunk]) == ["<s><|FILE_START|> <|FILE_END|> </s>.py\nx<|FILE_END|>\n</s>"]
    assert (chunk.input_ids >= 256).nonzero()[0].tolist() == [0, 1, 25, 27]


def test_own_tokens() -> None:
    """The tokens of the tags can be chosen, and they alone are asked of the tokenizer."""
    options = multi_file(file_start="<f>", file_end="</f>")
    assert options.special_tokens(()) == ("<f>", "</f>")
    tokenizer = Bytes("<f>", "</f>")
    assert texts(chunks_of(options, [A], tokenizer), tokenizer) == ["<s><f> a.py\nx = 1\n</f>\n</s>"]


@pytest.mark.parametrize(
    ("options", "vocabulary", "tokens"),
    [
        (multi_file(), (), ("<|FILE_START|>", "<|FILE_END|>")),
        (multi_file(), STARCODER2, STARCODER2),
        (multi_file(), QWEN, QWEN),
        (multi_file(), STARCODER2[:1], ("<|FILE_START|>", "<|FILE_END|>")),
        (multi_file(format="tags"), QWEN, ("<|FILE_START|>", "<|FILE_END|>")),
        (multi_file(format="qwen"), (), QWEN),
        (commit_chain(), (), ("<|COMMIT_START|>", "<|COMMIT_END|>")),
        (commit_chain(), (*STARCODER2, *STARCODER), STARCODER),
        (commit_chain(), STARCODER2, STARCODER2),
        (commit_chain(format="starcoder"), (), STARCODER),
        (snippet_qa(), (), ()),
    ],
)
def test_special_tokens(options: ChunkerOptions, vocabulary: tuple[str, ...], tokens: tuple[str, ...]) -> None:
    """A chunker asks for the tokens of the format that it will use, and for no others."""
    assert options.special_tokens(vocabulary) == tokens


def test_missing_token() -> None:
    """A tokenizer without the tokens of the format is refused with the name of one."""
    with pytest.raises(CtxkitError, match=r"no token <\|repo_name\|>") as caught:
        multi_file(format="qwen").build(Context(tokenizer=Bytes()))  # type: ignore[arg-type]
    assert caught.value.exit_code == ExitCode.RECIPE


@pytest.mark.parametrize("options", [multi_file(), commit_chain(), snippet_qa()], ids=lambda options: options.kind)
def test_without_tokenizer(options: ChunkerOptions) -> None:
    """These chunkers write text, so a context without a tokenizer is a fault of the recipe."""
    with pytest.raises(CtxkitError, match=f"'{options.kind}' needs a tokenizer") as caught:
        options.build(Context())
    assert caught.value.exit_code == ExitCode.RECIPE


def test_next_file_goes_to_the_next_example() -> None:
    """A file that does not fit in what is left begins another example; nothing is cut that fits whole."""
    documents = [TOKENIZER.document("x" * size, f"{size}.txt", "g") for size in (40, 41, 60)]
    chunks = chunks_of(multi_file(128, order="given"), documents)
    assert [[(span.document_id, span.start, span.end) for span in chunk.spans] for chunk in chunks] == [
        [("40.txt", 1, 41), ("41.txt", 1, 42)],
        [("60.txt", 1, 61)],
    ]


def test_exact_fit() -> None:
    """An example may be full to the last token; one byte more and the last file goes to the next."""
    frame = len("<8.txt\n>\n") + 1  # start tag, blank, path, line end, end tag, line end

    def lengths(last: int) -> list[int]:
        documents = [TOKENIZER.document("x" * size, f"{name}.txt", "g") for name, size in ((1, 50), (2, last))]
        return [len(chunk.input_ids) for chunk in chunks_of(multi_file(128, order="given"), documents)]

    room = 128 - 2 - 2 * frame - 50
    assert lengths(room) == [128]
    assert lengths(room + 1) == [2 + frame + 50, 2 + frame + room + 1]


def test_long_file() -> None:
    """A file longer than an example is cut at line ends, its path repeated but not trained again."""
    document = TOKENIZER.document(LONG, "long.txt", "g")
    after = TOKENIZER.document("z", "z.txt", "g")
    chunks = chunks_of(multi_file(128), [document, after])
    said = texts(chunks)
    header = "<s><|FILE_START|> long.txt\n"
    assert [text[: len(header)] for text in said] == [header] * 3
    assert [text.removeprefix(header)[:7] for text in said] == ["line 00", "line 14", "line 28"]
    assert all(text.endswith("\n") for text in said[:2]), "no end token where the file goes on"
    assert said[2].endswith("line 39\n<|FILE_END|>\n<|FILE_START|> z.txt\nz<|FILE_END|>\n</s>")
    assert read(chunks[0]) == said[0]
    assert read(chunks[1]) == "<s>" + said[1].removeprefix(header)
    spans = [span for chunk in chunks for span in chunk.spans if span.document_id == "long.txt"]
    assert (spans[0].start, spans[-1].end) == (1, 321)
    assert all(one.end == two.start for one, two in pairwise(spans))


def test_long_path() -> None:
    """A path that would fill the example is shortened to its end, and the file is kept whole."""
    path = "folder/" * 100 + "name.py"
    (chunk,) = chunks_of(multi_file(256), [TOKENIZER.document("x", "1", "g", path=path)])
    (text,) = texts([chunk])
    header = text.removeprefix("<s><|FILE_START|> ").removesuffix("\nx<|FILE_END|>\n</s>")
    assert path.endswith(header)
    assert header.endswith("name.py")
    assert len(header) <= 256 // 8


def test_empty_documents() -> None:
    """A document without text is no file; its begin and end tokens are counted as what they are."""
    drops = Counter[str]()
    nothing = EncodedDocument(Document("", "no.py", "g"), np.array([], dtype=np.int32))
    assert chunks_of(multi_file(), [TOKENIZER.document("", "e.py", "g"), nothing], drops=drops) == []
    assert drops == {"empty document": 2}


def test_groups_stay_apart() -> None:
    """Files of two repositories never share an example, and a group ends where another begins."""
    documents = [
        TOKENIZER.document("x", name, group) for name, group in (("a", "1"), ("b", "1"), ("c", "2"), ("d", "1"))
    ]
    chunks = chunks_of(multi_file(), documents)
    assert [[span.document_id for span in chunk.spans] for chunk in chunks] == [["a", "b"], ["c"], ["d"]]


def test_one_group_at_a_time() -> None:
    """A repository is written as soon as the next one begins."""
    taken = []

    def documents() -> Any:
        for name, group in (("a", "1"), ("b", "1"), ("c", "2"), ("d", "3")):
            taken.append(name)
            yield TOKENIZER.document("x", name, group)

    tokenizer: Any = TOKENIZER
    next(multi_file().build(Context(tokenizer=tokenizer))(documents()))
    assert taken == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("order", "names"),
    [
        ("dependency", ["lib/z.py", "lib/y.py", "main.py", "tests/test_z.py"]),
        ("directory", ["main.py", "lib/y.py", "lib/z.py", "tests/test_z.py"]),
        ("given", ["tests/test_z.py", "main.py", "lib/z.py", "lib/y.py"]),
        ("related", ["lib/y.py", "main.py", "tests/test_z.py", "lib/z.py"]),
    ],
)
def test_order(order: Any, names: list[str]) -> None:
    """Each order of one small repository, worked out by hand."""
    files = {
        "tests/test_z.py": "from lib.z import special_zebra\n",
        "main.py": "from lib import y\nunusual_name\n",
        "lib/z.py": "special_zebra = other_word\n",
        "lib/y.py": "from .z import special_zebra as s\nunusual_name\n",
    }
    documents = [TOKENIZER.document(text, name, "g") for name, text in files.items()]
    (chunk,) = chunks_of(multi_file(order=order), documents)
    assert [span.document_id for span in chunk.spans] == names


def test_reach_counts_within_an_example() -> None:
    """The reach is the farthest import in the same example; what stands in another example does not count."""
    files = {"a.py": "x" * 50, "b.py": "import a\n", "c.py": "import a, b\n"}
    documents = [TOKENIZER.document(text, name, "g") for name, text in files.items()]
    (whole,) = chunks_of(multi_file(), documents)
    places = {span.document_id: offset for span, offset in whole.located()}
    assert whole.reach == places["c.py"] - places["a.py"]
    first, second = chunks_of(multi_file(70), documents)
    places = {span.document_id: offset for span, offset in second.located()}
    assert (first.reach, second.reach) == (0, places["c.py"] - places["b.py"])


def commits(*sizes: int) -> list[EncodedDocument]:
    """Return a history of so many bytes a commit, in lines of four."""
    return [
        TOKENIZER.document(f"{n:03}\n" * (size // 4), f"d{n}", "a.py", commit=f"{n}" * 40, subject=f"change {n}")
        for n, size in enumerate(sizes)
    ]


def test_commits_between_tags() -> None:
    """Each commit stands between tags with its name, shortened, and its subject."""
    drops = Counter[str]()
    (chunk,) = chunks_of(commit_chain(max_sha=7), commits(4, 8), drops=drops)
    assert texts([chunk]) == [
        (
            "<s><|COMMIT_START|> 0000000 change 0\n000\n<|COMMIT_END|>\n"
            "<|COMMIT_START|> 1111111 change 1\n001\n001\n<|COMMIT_END|>\n</s>"
        )
    ]
    assert trained(chunk) == list(range(len(chunk.input_ids)))
    (one, first), (two, second) = chunk.located()
    assert (one.document_id, two.document_id, chunk.reach) == ("d0", "d1", second - first)
    assert drops == {"by rule: begin and end tokens inside an example": 4}


def test_one_example_at_a_time() -> None:
    """A long chain is not gathered first: an example comes as soon as the next commit does not fit."""
    taken = []

    def documents() -> Any:
        for document in commits(*[200] * 9):
            taken.append(document.document.id)
            yield document

    tokenizer: Any = TOKENIZER
    next(commit_chain(256).build(Context(tokenizer=tokenizer))(documents()))
    assert taken == ["d0", "d1"]


def test_default_abbreviation() -> None:
    """Twelve characters of the name are written unless the recipe says otherwise; a commit without one has its id."""
    assert "<|COMMIT_START|> 000000000000 change 0\n" in texts(chunks_of(commit_chain(), commits(4)))[0]
    plain = TOKENIZER.document("x", "an id", "g")
    assert "<|COMMIT_START|> an id \nx" in texts(chunks_of(commit_chain(), [plain]))[0]


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (STARCODER, "<s><commit_before>000\n<commit_msg>change 1<commit_after>001\n</s>"),
        (
            STARCODER2,
            "<s><repo_name>a.py<file_sep>000000000000 change 0\n000\n<file_sep>111111111111 change 1\n001\n</s>",
        ),
    ],
)
def test_commit_formats(tokens: tuple[str, ...], text: str) -> None:
    """A model with tokens for commits, or for files, gets its own format."""
    tokenizer = Bytes(*tokens)
    history = [
        tokenizer.document(f"{n:03}\n", f"d{n}", "a.py", commit=f"{n}" * 40, subject=f"change {n}") for n in range(2)
    ]
    assert texts(chunks_of(commit_chain(), history, tokenizer), tokenizer) == [text]


def test_chain_goes_on_without_overlap() -> None:
    """A chain that is too long goes on in the next example with the next commit."""
    chunks = chunks_of(commit_chain(256), commits(120, 120, 120))
    assert [[span.document_id for span in chunk.spans] for chunk in chunks] == [["d0"], ["d1"], ["d2"]]
    assert [chunk.context_length for chunk in chunks] == [0, 0, 0]


def test_chain_goes_on_with_overlap() -> None:
    """With overlap the next example begins with the last commits, masked, cut at a line so that the next fits."""
    chunks = chunks_of(commit_chain(192, overlap=80), commits(40, 40, 40, 40))
    assert [[span.document_id for span in chunk.spans] for chunk in chunks] == [
        ["d0", "d1"],
        ["d1", "d2"],
        ["d2", "d3"],
    ]
    for chunk, name in zip(chunks[1:], ("2", "3"), strict=True):
        head = TOKENIZER.decode(chunk.input_ids[: chunk.context_length])
        assert head.startswith("<s><|COMMIT_START|> ")
        assert head.endswith("<|COMMIT_END|>\n")
        assert read(chunk).startswith(f"<|COMMIT_START|> {name * 12} change {name}\n")
        assert chunk.masked == ()
    assert [read(chunk).count("COMMIT_START") for chunk in chunks] == [2, 1, 1]


def test_overlap_yields_to_the_next_commit() -> None:
    """Context never pushes a commit that fits alone out of its example; it is cut at a line to make room."""
    (_, chunk) = chunks_of(commit_chain(192, overlap=96), commits(80, 100))
    assert [(span.document_id, span.end - span.start) for span in chunk.spans][1] == ("d1", 100)
    context = chunk.spans[0]
    assert (context.start - 1) % 4 == 0, "a line begins there"
    assert len(chunk.input_ids) > 192 - 4, "as much context as there is room for"
    frame = len("<000000000000 change 0\n>\n") + 1
    assert len(chunk.input_ids) == 2 + 2 * frame + (context.end - context.start) + 100


def test_long_commit() -> None:
    """A commit longer than an example goes on in the next, after what of it was last, masked."""
    (document,) = commits(400)
    chunks = chunks_of(commit_chain(192, overlap=0.25), [document])
    assert len(chunks) > 2
    joined = "".join(read(chunk).removeprefix("<s>") for chunk in chunks)
    assert joined == "<|COMMIT_START|> 000000000000 change 0\n" + "000\n" * 100 + "<|COMMIT_END|>\n</s>"
    for one, two in pairwise(chunks):
        assert two.context_length > 0
        assert two.spans[0].end == one.spans[-1].end == two.spans[1].start
        assert two.spans[0].start < two.spans[0].end
        assert texts([two])[0].count("<|COMMIT_START|>") == 1


def test_context_has_no_gap() -> None:
    """Where a line end cuts the context short, nothing from further back fills what is left."""
    history = [
        TOKENIZER.document(("x" * 59 + "\n") * lines, f"d{n}", "g", commit=f"{n}" * 40)
        for n, lines in enumerate((2, 2, 1, 3))
    ]
    _, last = chunks_of(commit_chain(384, overlap=192), history)
    held = [(span.document_id, span.end - span.start) for span in last.spans]
    assert held == [("d1", 60), ("d2", 60), ("d3", 180)]


CODE = "import os\n\n\ndef alpha():\n    return 1\n\n\nclass Beta:\n    def alpha2(self):\n        pass\n"


def test_questions() -> None:
    """Snippets are numbered, names are asked for, and only the answers are trained."""
    drops = Counter[str]()
    documents = [TOKENIZER.document(CODE, "a.py", "g"), TOKENIZER.document("def gamma(): ...\n", "b.py")]
    (chunk,) = chunks_of(snippet_qa(questions=3), documents, drops=drops)
    (text,) = texts([chunk])
    snippets, *asked = text.split("\nQUESTION: ")
    assert snippets == (
        "<s>\n<|SNIPPET_0|>\nimport os\n\n\n"
        "\n<|SNIPPET_1|>\ndef alpha():\n    return 1\n\n\n"
        "\n<|SNIPPET_2|>\nclass Beta:\n    def alpha2(self):\n        pass\n"
        "\n<|SNIPPET_3|>\ndef gamma(): ...\n"
    )
    assert sorted([*asked[:-1], asked[-1].removesuffix("</s>")]) == [
        "Which snippet defines Beta?\nANSWER: 2\n",
        "Which snippet defines alpha?\nANSWER: 1\n",
        "Which snippet defines gamma?\nANSWER: 3\n",
    ]
    assert sorted(read(chunk).split()) == ["1", "2", "3"]
    assert drops == {"by rule: begin and end tokens inside an example": 4}


def test_reach_of_a_question() -> None:
    """The reach is the way from the question to the marker of its snippet."""
    (chunk,) = chunks_of(snippet_qa(questions=1), [TOKENIZER.document("def alpha(): ...\n", "a.py")])
    ids = chunk.input_ids.tolist()
    question = bytes(id_ for id_ in ids if id_ < 256).index(b"\nQUESTION") + 1  # after the begin token
    assert chunk.reach == question - 1


def test_only_unambiguous_names_are_asked_for() -> None:
    """A name that two snippets define, be it inside a class, is never asked for, nor is one inside a class."""
    both = TOKENIZER.document("def twice(): ...\n\n\ndef once(): ...\n", "a.py")
    inner = TOKENIZER.document("class Case:\n    def twice(self): ...\n    def method(self): ...\n", "b.py")
    (chunk,) = chunks_of(snippet_qa(questions=9), [both, inner])
    names = {line.split()[-1].rstrip("?") for line in texts([chunk])[0].splitlines() if line.startswith("QUESTION")}
    assert names == {"once", "Case"}


def test_nothing_to_ask() -> None:
    """Snippets without a name are dropped with a word, or trained whole where all is trained."""
    document = TOKENIZER.document("plain words\n", "a.txt")
    drops = Counter[str]()
    assert chunks_of(snippet_qa(), [document], drops=drops) == []
    assert drops == {"no name to ask for among the snippets": 12, "by rule: begin and end tokens inside an example": 2}
    (chunk,) = chunks_of(snippet_qa(train_on="all"), [document])
    assert read(chunk) == "<s>\n<|SNIPPET_0|>\nplain words\n</s>"


def test_questions_by_seed() -> None:
    """The same seed asks the same, another seed something else."""
    source = "".join(f"def name{n}(): ...\n\n" for n in range(40))
    asked = [
        texts(chunks_of(snippet_qa(questions=3), [TOKENIZER.document(source, "a.py")], seed=seed)) for seed in (1, 1, 2)
    ]
    assert asked[0] == asked[1] != asked[2]


def test_text_that_does_not_add_up() -> None:
    """Where tokens and text do not match, nothing is lost, and no name is asked for whose place is not known."""
    document = TOKENIZER.document(CODE, "a.py")
    changed = EncodedDocument(Document(CODE + "x", "a.py"), document.input_ids)
    drops = Counter[str]()
    assert chunks_of(snippet_qa(), [changed], drops=drops) == []
    assert drops["no name to ask for among the snippets"] == len(CODE)
    other = TOKENIZER.document("def alpha(): ...\n\ndef delta(): ...\n", "b.py")
    (chunk,) = chunks_of(snippet_qa(), [changed, other])
    assert texts([chunk])[0].count("QUESTION") == 1
    assert "defines delta?" in texts([chunk])[0]


def test_long_snippets_are_cut() -> None:
    """A long function becomes several snippets, and its name belongs to the first."""
    body = "def long():\n" + "".join(f"    value_{n:02} = {n}\n" for n in range(30))
    (chunk,) = chunks_of(snippet_qa(1024, questions=1), [TOKENIZER.document("\n" + body, "a.py")])
    (text,) = texts([chunk])
    assert text.count("<|SNIPPET_") > 4
    assert max(span.end - span.start for span in chunk.spans) <= 1024 // 8
    number = text.split("ANSWER: ")[1].split("\n")[0]
    assert f"<|SNIPPET_{number}|>\ndef long():\n" in text


def test_no_question_about_a_definition_that_is_cut() -> None:
    """Where a snippet ends between `def` and the name, neither side is said to define it."""
    drops = Counter[str]()
    document = TOKENIZER.document("async def name_on_the_edge(): ...\n", "a.py")
    assert chunks_of(snippet_qa(snippet_length=16), [document], drops=drops) == []
    assert drops["no name to ask for among the snippets"] == 34


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kind": "multi_file", "length": 63}, "greater than or equal to 64"),
        ({"kind": "multi_file", "length": 64, "file_start": "x", "file_end": "x"}, "must differ"),
        ({"kind": "multi_file", "length": 64, "file_end": ""}, "at least 1 character"),
        ({"kind": "commit_chain", "length": 64, "overlap": 33}, "at most half of length: 33 of 64"),
        ({"kind": "commit_chain", "length": 64, "overlap": 0.6}, "at most half of length: 38 of 64"),
        ({"kind": "commit_chain", "length": 64, "commit_start": "x", "commit_end": "x"}, "must differ"),
        ({"kind": "commit_chain", "length": 64, "max_sha": 0}, "greater than 0"),
        ({"kind": "snippet_qa", "length": 255}, "greater than or equal to 256"),
        ({"kind": "snippet_qa", "length": 256, "snippet_length": 65}, "at most a quarter of length: 65 of 256"),
        ({"kind": "snippet_qa", "length": 256, "questions": 0}, "greater than 0"),
    ],
)
def test_refused_options(options: dict[str, Any], said: str) -> None:
    """Options that contradict each other do not validate."""
    classes: dict[str, type[ChunkerOptions]] = {
        "multi_file": MultiFileOptions,
        "commit_chain": CommitChainOptions,
        "snippet_qa": SnippetQaOptions,
    }
    with pytest.raises(ValidationError, match=said):
        classes[options["kind"]].model_validate(options)
