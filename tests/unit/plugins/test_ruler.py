"""RULER's tasks on models: plumbing, refusals, intervals; that prompts and scores are RULER's is tested apart."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctxkit.errors import DataError
from ctxkit.spec import Context, Document, Measurement, SourceOptions
from ctxkit.spec.cells import in_order
from ctxkit.spec.intervals import wilson
from ctxkit_evals.ruler import measuring, words
from ctxkit_evals.ruler.drawing import Frame
from ctxkit_evals.ruler.measuring import Stream
from ctxkit_evals.ruler.names import NAMES, OWN_TEXT
from ctxkit_evals.ruler.niah import sentences
from ctxkit_evals.ruler.options import RulerOptions
from ctxkit_evals.ruler.scoring import average, longest_at, measured
from ctxkit_evals.ruler.tasks import Given, made
from ctxkit_evals.ruler.texts import Texts
from tests.unit.plugins.evals_models import model, tokenizer

pytestmark = pytest.mark.torch

TEXT = "It was a long road. Nobody knew (or said) where it went! Would she ask? "
CHAT = "{% for m in messages %}<s>{{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}Answer:{% endif %}"


class Texted(SourceOptions):
    """A source of two documents."""

    kind: str = "texted"
    repeats: int = 300

    def build(self, context: Context) -> list[Document]:
        return [Document(TEXT * self.repeats, id="a"), Document(TEXT * self.repeats, id="b")]


def options(**changes: Any) -> RulerOptions:
    """Return options of a short measurement, with changes."""
    return RulerOptions(**{"kind": "ruler", "lengths": (700,), "tasks": ("fwe",), "samples": 3, **changes})


# -- the whole eval


def test_a_random_model_finds_nothing() -> None:
    """Every task is asked at a length that holds it, and each sample says what was asked and written."""
    tasks = ("niah_single_1", "vt", "fwe")
    made = options(tasks=tasks, lengths=(2100, 1900), samples=2)
    made.check(Context(tokenizer=tokenizer()))
    report = made.build(Context())(model(vocab_size=256, max_position_embeddings=2000), tokenizer())
    names = ["score", *(f"score_{task}" for task in tasks)]
    assert [(found.metric, found.length) for found in report.measurements] == [
        (name, length) for length in (2100, 1900) for name in names
    ]
    assert all(found.value < 20 and found.low <= found.value < found.high <= 100 for found in report.measurements)
    assert [sample.metadata["task"] for sample in report.samples[::2]] == [*tasks, *tasks]
    assert len({sample.id for sample in report.samples}) == 12
    one = report.samples[0]
    assert one.input.endswith("mentioned in the provided text is")
    assert one.target.isdigit()
    assert 0 < len(one.output) <= 128
    assert all(0.7 * sample.length < sample.metadata["tokens"] < sample.length - 29 for sample in report.samples)
    assert report.metadata["tasks"] == "3 of RULER's 13: the mean is not RULER's"
    assert report.metadata["longest_at_threshold"] == 0
    assert report.metadata["beyond_window"] == "2100"
    assert not report.failures


class Scripted:
    """What writes a given text, however it is asked."""

    text = ""

    def __init__(self, _: object) -> None:
        pass

    def write(self, ids: list[list[int]], most: int, enough: Callable[[list[int]], bool]) -> list[list[int]]:
        written: list[int] = []
        for token in tokenizer()(self.text)["input_ids"][:most]:
            written.append(token)
            if enough(written):
                break
        return [written]


@pytest.mark.parametrize(("said", "score"), [(slice(3), 100.0), (slice(2), 66.67), (slice(0), 0.0)])
def test_what_is_written_is_judged(said: slice, score: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the share of the answers that it holds; writing ends when all are there."""
    (task,) = made(["fwe"], Given())
    answers = next(task.prompts(700, Texts(tokenizer(), chat=False).count)).answers
    monkeypatch.setattr(Scripted, "text", f" {'? '.join(answers[said]).upper()} {'more ' * 20}")
    monkeypatch.setattr(measuring, "Reader", Scripted)
    report = options(samples=1).build(Context())(model(), tokenizer())
    assert [found.value for found in report.measurements] == [score, score]
    assert report.samples[0].target == ", ".join(answers)
    assert ("more more" in report.samples[0].output) == (score < 100)
    assert report.metadata["longest_at_threshold"] == (700 if score == 100 else 0)


def test_a_failed_cell_costs_no_other() -> None:
    """A task without samples has no score, and no mean is taken without it."""

    def some(kind: str, works: Mapping[str, Any]) -> Any:
        done = in_order(kind, {name: work for name, work in works.items() if name.startswith("fwe")})
        return replace(done, failed={"vt 1900 0-1": "out of memory"})

    report = options(tasks=("fwe", "vt"), lengths=(1900,), samples=2).build(Context(cells=some))(
        model(vocab_size=256), tokenizer()
    )
    assert [found.metric for found in report.measurements] == ["score_fwe"]
    assert report.failures == {"vt 1900 0-1": "out of memory"}


@pytest.mark.parametrize("name", ["vt", "fwe", "niah_multikey_2"])
def test_groups_are_the_same_in_any_order(name: Any) -> None:
    """As where other processes measure the groups between."""
    count = Texts(tokenizer(), chat=False).count
    (task,) = made([name], Given())
    whole = Stream(task, 2000, count)[range(7)]
    stream = Stream(task, 2000, count)
    assert stream[range(5, 7)] == whole[5:]
    assert stream[range(2)] == whole[:2]
    assert stream[range(3, 4)] == whole[3:4]
    assert len({drawn.text for drawn in whole}) == 7


# -- lengths that are too short, and other refusals


@pytest.mark.parametrize("name", NAMES)
def test_too_short(name: Any) -> None:
    """The least length is named, works, and one token less does not; nothing is drawn for ever."""
    source = Texted() if name.endswith(OWN_TEXT) else None
    with pytest.raises(DataError, match=f"200 tokens are too short.*{name} needs [0-9]+") as refused:
        options(tasks=(name,), lengths=(200, 9000), haystack=source).check(Context(tokenizer=tokenizer()))
    least = int(refused.value.message.rsplit(" ", 1)[1])
    options(tasks=(name,), lengths=(least,), haystack=source).check(Context(tokenizer=tokenizer()))
    (task,) = made([name], Given(text=(TEXT * 300).split()))
    count = Texts(tokenizer(), chat=False).count
    assert not task.fits(least - 1, count)
    for length in (least, least + 5, least + 34):
        prompts = Stream(task, length, count)[range(9)] if task.fits(length, count) else []
        assert all(count(drawn.text) + task.room <= length for drawn in prompts)
        assert len({len(drawn.answers) for drawn in prompts}) <= 1
    with pytest.raises(DataError, match="200 tokens"):
        next(task.prompts(200, count))


@pytest.mark.parametrize("length", [4096, 7000, 8500])
def test_where_ruler_never_ends(length: int) -> None:
    """From 4096 tokens on lists are longer; with bytes for tokens they fit only later, and till then are short."""
    (task,) = made(["cwe"], Given())
    count = Texts(tokenizer(), chat=False).count
    drawn = next(task.prompts(length, count))
    assert count(drawn.text) + task.room <= length
    listed = drawn.text.rsplit("above list?", 1)[0].split()
    assert {listed.count(answer) for answer in drawn.answers} <= ({30, 40} if length == 8500 else {6, 7, 9})


def test_too_little_text() -> None:
    """A haystack that does not fill the longest length, or has no word, is refused."""
    asked = options(tasks=("niah_single_2_own_text",), lengths=(50_000,), haystack=Texted())
    with pytest.raises(DataError, match="there are 9000 words, which do not fill 50000 tokens") as refused:
        asked.check(Context(tokenizer=tokenizer()))
    assert refused.value.hint == "add text to `haystack`"
    empty = options(tasks=("niah_single_2_own_text",), lengths=(5000,), haystack=Texted(repeats=0))
    with pytest.raises(DataError, match="holds no text"):
        empty.check(Context(tokenizer=tokenizer()))


def test_more_words_than_there_are(tmp_path: Path) -> None:
    """`cwe` at lengths that need more words says where RULER has them, and takes them from there."""
    asked = options(tasks=("cwe",), lengths=(400_000,))
    with pytest.raises(DataError, match="8166 words, which do not fill 400000 tokens") as refused:
        asked.check(Context(tokenizer=tokenizer()))
    assert "english_words.json" in refused.value.hint
    file = tmp_path / "english_words.json"
    file.write_text(json.dumps({str(number): f"word{number}" for number in range(12_000)}), encoding="utf-8")
    more = asked.model_copy(update={"english_words": str(file)})
    (task,) = made(["cwe"], Given(more_words=more.build(Context()).more_words))
    drawn = next(task.prompts(60_000, lambda text: text.count(" ")))
    assert drawn.text.count(" ") > 59_500
    assert all(answer.startswith("word") for answer in drawn.answers)
    file.write_text("[1]", encoding="utf-8")
    with pytest.raises(DataError, match="holds no words"):
        more.check(Context())
    with pytest.raises(DataError, match="cannot be read"):
        options(english_words=str(tmp_path / "none")).check(Context())


def test_no_wonderwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks with words name the extra; others do without."""
    monkeypatch.setattr(words, "find_spec", lambda _: None)
    with pytest.raises(DataError, match="words of niah_single_1, cwe") as refused:
        options(tasks=("niah_single_1", "cwe", "vt"), lengths=(3000,)).check(Context(tokenizer=tokenizer()))
    assert "ctxkit-longcontext[evals]" in refused.value.hint
    options(tasks=("vt", "fwe", "niah_multikey_3"), lengths=(3000,)).check(Context(tokenizer=tokenizer()))


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"tasks": ("vt", "niah_multivalue_own_text")}, "niah_multivalue_own_text of `tasks` needs a `haystack`"),
        ({"tasks": ("vt", "vt")}, "stated twice"),
        ({"lengths": (4096, 4096)}, "stated twice"),
        ({"tasks": ()}, "must name one"),
        ({"tasks": ("niah_single_2",)}, "niah_single_2_own_text"),
        ({"tasks": ("qa_1",)}, "Input should be"),
    ],
)
def test_refused_options(stated: dict[str, Any], message: str) -> None:
    """With what is wrong; RULER's tasks with essays have other names here."""
    with pytest.raises(ValueError, match=message):
        options(**stated)


def test_tasks_unless_stated() -> None:
    """Six without a haystack, eleven with one."""
    assert len(options(tasks=None).build(Context()).tasks) == 6
    assert options(tasks=None, haystack=Texted()).build(Context()).tasks == NAMES


# -- tokens and chat


def test_tokens_are_counted_as_ruler_does() -> None:
    """As `tokenize` does, with no begin token; the model reads one where the tokenizer adds it, and no end token."""
    from tokenizers import processors

    text = "One of the special magic numbers for a-b is: 12345. <s> "
    begins = tokenizer(begins=True, eos_token="<e>")
    assert Texts(begins, chat=False).count(text) == len(begins.tokenize(text, split_special_tokens=True))
    assert begins.decode(Texts(begins, chat=False).ids(text)) == f"<s>{text}"
    end = begins.eos_token_id
    begins.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A <e>", special_tokens=[("<s>", begins.bos_token_id), ("<e>", end)]
    )
    assert end in begins(text)["input_ids"]
    assert end not in Texts(begins, chat=False).ids(text)
    assert tokenizer().decode(Texts(tokenizer(), chat=False).ids(text)) == text


def test_chat() -> None:
    """Each prompt stands in the template, the beginning of the answer after it, and nothing else is added."""
    chats = tokenizer(begins=True, eos_token="</s>")
    chats.chat_template = CHAT
    texts = Texts(chats, chat=True)
    assert texts.frame() == Frame("<s>", "</s>Answer:")
    (task,) = made(["vt"], Given(frame=texts.frame()))
    drawn = next(task.prompts(2500, texts.count))
    assert drawn.text.startswith("<s>Memorize")
    assert "in the text above.</s>Answer: Answer: According" in drawn.text
    assert (drawn.text.count("<s>"), drawn.text.count("Memorize")) == (1, 2)
    ids = texts.ids(drawn.text)
    assert (ids.count(chats.bos_token_id), ids.count(chats.eos_token_id), len(ids)) == (1, 1, texts.count(drawn.text))
    (task,) = made(["cwe"], Given(frame=texts.frame()))
    assert next(task.prompts(4000, texts.count)).text.count("<s>") == 2


def test_chat_refused() -> None:
    """Without a template; with one that leaves the question out; with documents that would break out of it."""
    with pytest.raises(DataError, match="no chat template"):
        options(chat=True).check(Context(tokenizer=tokenizer()))
    chats = tokenizer(begins=True)
    chats.chat_template = "Hello"
    with pytest.raises(DataError, match="writes what a user says 0 times"):
        options(chat=True).check(Context(tokenizer=chats))
    chats.chat_template = CHAT
    documents = [Document("a <s> b", id="x.txt")]
    with pytest.raises(DataError, match=r"document x\.txt .* special token <s>"):
        Texts(chats, chat=True).words(documents, 9)
    assert Texts(chats, chat=False).words(documents, 9) == ["a", "<s>", "b"]


# -- words and sentences


def test_pairs_are_all_in_their_order() -> None:
    """As sorting the set of all gives them, first words that begin others included."""
    firsts = ["blue", "red", "blue-eyed", "a", "blue-eyed-old", "red", "re", "x b"]
    seconds = ["zoo", "eyed-zoo", "eye", "arm-rest", "eyed", "old-arm"]
    known = sorted({f"{first}-{second}" for first in firsts for second in seconds})
    pairs = words.Pairs(firsts, seconds)
    assert list(pairs) == known
    assert len(pairs) == len(known)
    assert list(pairs[3:9]) == known[3:9]
    assert random.Random(5).choices(pairs, k=9) == random.Random(5).choices(known, k=9)


def test_sentences() -> None:
    """Nothing is lost where a text is cut."""
    assert sentences('He said "no." Then (he left!) A. b') == ['He said "no."', "Then (he left!)", "A.", "b"]
    assert " ".join(sentences(" ".join((TEXT * 9).split()))) == (TEXT * 9).strip()


# -- intervals


def test_interval_of_a_task() -> None:
    """Wilson's where samples are right or wrong or all alike; else that of the mean."""
    low, high = wilson(7, 10)
    found = measured("score_vt", 4096, [1.0] * 7 + [0.0] * 3, 0)
    assert (found.value, found.low, found.high, found.count) == (70, pytest.approx(low * 100), high * 100, 10)
    assert measured("score_vt", 4096, [1.0] * 100, 0).low == pytest.approx(wilson(100, 100)[0] * 100)
    shares = np.random.default_rng(0).integers(0, 11, 400) / 10
    half = 1.96 * shares.std() / 20 * 100
    found = measured("score_cwe", 4096, shares.tolist(), 0)
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half), abs=0.2 * half)


def test_interval_of_the_mean_covers() -> None:
    """Of 400 repeated measurements, about 95 % of the intervals hold the true mean over tasks."""
    chance = np.random.default_rng(1)
    true, hits = (0.99, 0.9, 0.5), 0
    for _ in range(400):
        tasks = [measured("t", 1, chance.binomial(1, share, 100).astype(float).tolist(), 0) for share in true]
        found = average("score", tasks)
        hits += found.low <= 100 * sum(true) / 3 <= found.high
    assert 0.93 <= hits / 400 <= 0.985


def test_interval_of_the_mean() -> None:
    """Computed by hand: (10, 3) and (10, 4) added in squares, halved."""
    found = average("score", [Measurement("a", 8, 80, 70, 90, 5), Measurement("b", 8, 60, 57, 64, 7)])
    assert (found.value, found.length, found.count) == (70, 8, 12)
    assert (found.low, found.high) == pytest.approx((70 - 109**0.5 / 2, 70 + 116**0.5 / 2))


def test_the_longest_at_the_threshold() -> None:
    """Also where a shorter one is below it, as in the paper."""
    scores = [Measurement("score", length, value, 0, 100, 1) for length, value in ((4, 90.0), (8, 85.5), (16, 85.6))]
    assert longest_at(85.6, scores) == 16
    assert longest_at(86, scores) == 4
    assert longest_at(91, scores) == 0
