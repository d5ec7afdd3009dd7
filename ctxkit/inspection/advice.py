"""Which chunker fits what was found, why, and the `data` section that says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ctxkit.errors import CtxkitError
from ctxkit.inspection.lengths import ENOUGH, WINDOWS, smallest_window
from ctxkit.inspection.notes import SECRETS
from ctxkit.recipe import DataSection

if TYPE_CHECKING:
    from ctxkit.inspection.documents import Documents
    from ctxkit.inspection.histories import History
    from ctxkit.inspection.targets import Target
    from ctxkit.registry import Registry

USUAL = 32_768
"""The window in tokens that is proposed where none of `WINDOWS` holds enough, and where any would do."""
MOSTLY = 0.5
"""From which part of the tokens on a folder or repository counts as code."""
LONGEST_LINE = 2000
"""Characters of an average line from which on a text has too few lines to be cut at."""
SHORT = 4
"""Documents are packed where the middle one fits so often into the window."""
Fit = Literal["best", "good", "possible", "no"]
_ORDER = ("best", "good", "possible", "no")


@dataclass(frozen=True)
class Advice:
    """What one chunker would make of it."""

    chunker: str
    fit: Fit
    why: str
    """One sentence."""
    length: int
    """The window in tokens that suits it."""


def advise(target: Target, documents: Documents, history: History | None) -> tuple[Advice, ...]:
    """Return what is to be said of each chunker, the best first; exactly one is `best`."""
    found = [
        _multi_file(target, documents),
        _commit_chain(history),
        _paragraph(documents),
        _overlap(documents),
    ]
    found.sort(key=lambda advice: _ORDER.index(advice.fit))
    first = found[0]
    return (Advice(first.chunker, "best", first.why, first.length), *found[1:])


def data_section(
    target: Target, documents: Documents, advices: tuple[Advice, ...], registry: Registry
) -> dict[str, Any]:
    """Return a `data` section for the best chunker that is installed, as plain values that were validated.

    Raises:
        CtxkitError: no such chunker is installed.
        ValidationError: the components that are installed take other options.
    """
    chosen = next((advice for advice in advices if advice.chunker in registry.components["chunker"]), None)
    if chosen is None:
        names = ", ".join(advice.chunker for advice in advices)
        raise CtxkitError(f"no installed plugin brings one of the chunkers {names}", "`ctxkit plugins` lists them")
    joined = chosen.chunker in ("multi_file", "commit_chain")
    source = target.history if chosen.chunker == "commit_chain" else target.source
    section: dict[str, Any] = {"sources": [source]}
    if documents.secrets and SECRETS in registry.components["filter"]:
        section["filters"] = [{"kind": SECRETS}]
    section["chunker"] = {"kind": chosen.chunker, "length": chosen.length}
    if not joined and _middle(documents) * SHORT <= chosen.length:
        section["packing"] = {"document_mask": True}
    DataSection.model_validate(section, context=registry.context)
    return section


def _multi_file(target: Target, documents: Documents) -> Advice:
    length = next((window for window in WINDOWS if window >= documents.largest_group), USUAL)
    if target.kind == "hub" or documents.count < 2:
        why = "It joins the files of a repository or folder, and here are rows without paths, or a single document."
        return Advice("multi_file", "no", why, length)
    share = f"{documents.code:.0%} of the tokens are code"
    number = documents.examples[length]
    count = f"about {number:,} example{'s' * (number != 1)} of {length:,} tokens"
    if documents.code >= MOSTLY:
        why = f"{share}: {documents.count:,} files make {count}, in which what a file imports stands before it."
        return Advice("multi_file", "best" if target.kind == "git" else "good", why, length)
    why = f"{documents.count:,} files make {count}, but only {share}, so that few imports say what belongs together."
    return Advice("multi_file", "possible", why, length)


def _commit_chain(history: History | None) -> Advice:
    if history is None or history.lengths is None:
        why = "It follows the changes of files, and there is no git history with files that changed."
        return Advice("commit_chain", "no", why, USUAL)
    length = smallest_window(history.lengths, ENOUGH, USUAL)
    chains, count = history.lengths.count, history.examples[length]
    why = (
        f"{chains:,} files changed at least once, {history.versions:,} versions in all, which make about {count:,} "
        f"example{'s' * (count != 1)} of {length:,} tokens on how code changes."
    )
    return Advice("commit_chain", "good", why, length)


def _paragraph(documents: Documents) -> Advice:
    length = _document_window(documents)
    if _has_no_lines(documents):
        why = f"Lines have {_line(documents):,.0f} characters on average, so it would find few places to cut at."
        return Advice("paragraph", "possible", why, length)
    other = "other " * bool(documents.outliers)
    if _held(documents, length) >= 1:
        whole = f"Every {other}document fits into {length:,} tokens whole"
        why = f"{whole}, so that it cuts none; good for text that is no code."
    else:
        part, whose = _held(documents, length), "tokens of the other documents" if other else "tokens"
        why = f"{length:,} tokens hold {part:.0%} of the {whose} whole, and longer documents end where text does."
    return Advice("paragraph", "good" if documents.code < MOSTLY else "possible", why, length)


def _overlap(documents: Documents) -> Advice:
    length = _document_window(documents)
    if _has_no_lines(documents):
        why = f"Lines have {_line(documents):,.0f} characters on average: windows of {length:,} tokens need none."
        return Advice("overlap", "good", why, length)
    why = "It cuts after so many tokens, in the middle of a word if need be: the simplest, for a baseline or a control."
    return Advice("overlap", "possible", why, length)


def _document_window(documents: Documents) -> int:
    return smallest_window(documents.usual, ENOUGH, USUAL) if documents.usual else USUAL


def _held(documents: Documents, window: int) -> float:
    held = documents.usual
    return next((item.tokens for item in held.windows if item.window == window), 0.0) if held else 0.0


def _middle(documents: Documents) -> int:
    return documents.lengths.holds[50] if documents.lengths else 0


def _line(documents: Documents) -> float:
    return documents.characters / documents.lines


def _has_no_lines(documents: Documents) -> bool:
    return _line(documents) > LONGEST_LINE
