"""Whether two reports may be compared: whether the same was asked, and of enough texts to tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctxkit_report.notation import overlap

if TYPE_CHECKING:
    from ctxkit.spec import EvalReport, Measurement, Sample
    from ctxkit_report.paired import Pairs

FEW = 5
"""Texts below which an interval means nothing: that of a single one has no width."""
UNLIKE = "not asked the same"
_HASHES = ("texts", "prompts")
"""Metadata that names all that was asked."""


def asked_alike(first: EvalReport, second: EvalReport, length: int) -> bool:
    """Return whether two reports asked the same at a length: by their samples, or, without any, by their metadata.

    What the metadata names is of all lengths together, so samples come first: two evals may share one length alone.
    """
    one, other = ({(each.id, each.depth) for each in _at(report, length)} for report in (first, second))
    if one or other:
        return one == other
    return all(first.metadata.get(key) == second.metadata.get(key) for key in _HASHES)


def text_of(sample: Sample) -> object:
    """Return what samples share that are not independent: the text that they ask about, or the document.

    Where both are named, the document is what the question came from: many questions have one text.
    """
    return sample.metadata.get("sample", sample.metadata.get("document", (sample.id, sample.depth)))


def apart(first: tuple[EvalReport, Measurement], second: tuple[EvalReport, Measurement], same: Pairs | None) -> bool:
    """Return whether two models differ beyond chance.

    The same prompts decide where there are; else intervals that do not meet, of `FEW` texts or more.
    """
    if same:
        return same.clear
    enough = all(_texts(report, found) >= FEW for report, found in (first, second))
    return enough and not overlap(first[1], second[1])


def _texts(report: EvalReport, found: Measurement) -> int:
    """Count the texts behind a measurement: those of its samples, or as many as the report says."""
    texts = {text_of(sample) for sample in _at(report, found.length)}
    documents = report.metadata.get("documents", found.count)
    return len(texts) or min(found.count, documents if isinstance(documents, int) else found.count)


def _at(report: EvalReport, length: int) -> list[Sample]:
    return [sample for sample in report.samples if sample.length == length]
