"""How near an answer is to the right ones: exact match and F1 as SQuAD has them, ROUGE-L by rouge-score."""

from __future__ import annotations

import importlib.util
import re
import string
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Any

from ctxkit.errors import CtxkitError

if TYPE_CHECKING:
    from collections.abc import Sequence

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def scored(metric: str, output: str, answers: Sequence[str]) -> float:
    """Return the score of an answer from 0 to 1: that beside the right answer which it is nearest to."""
    if metric == "rouge_l":
        return rouge_l(output, answers)
    score = {"f1": f1, "exact_match": exact_match}[metric]
    return max(score(output, answer) for answer in answers)


def normalised(text: str) -> list[str]:
    """Return the words of a text in lower case, without punctuation and articles (Rajpurkar et al. 2016)."""
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def exact_match(output: str, answer: str) -> float:
    """Return 1 where two texts have the same words."""
    return float(normalised(output) == normalised(answer))


def f1(output: str, answer: str) -> float:
    """Return the harmonic mean of precision and recall of words; two texts without any are the same (SQuAD 2.0)."""
    said, wanted = normalised(output), normalised(answer)
    if not said or not wanted:
        return float(said == wanted)
    common = (Counter(said) & Counter(wanted)).total()
    return 2 * common / (len(said) + len(wanted))


def rouge_l(output: str, answers: Sequence[str]) -> float:
    """Return the F-measure of the longest common subsequence of stemmed words (Lin 2004), best over answers.

    Raises:
        CtxkitError: rouge-score is not installed.
    """
    return float(_scorer().score_multi(list(answers), output)["rougeL"].fmeasure)


def check_rouge() -> None:
    """Refuse ROUGE where its library is not installed.

    Raises:
        CtxkitError: it is not.
    """
    if importlib.util.find_spec("rouge_score") is None:
        raise CtxkitError(
            "long_qa: the metric rouge_l needs rouge-score, which is not installed",
            "install ctxkit with its extra `evals`, or leave rouge_l out of `metrics`",
        )


@cache
def _scorer() -> Any:
    check_rouge()
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], use_stemmer=True)
