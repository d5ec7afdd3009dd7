"""Where a text may be cut, told from its token ids alone by a table over the vocabulary."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

PLAIN, SENTENCE, LINE, BLANK_LINE, SECTION, INNER_DEFINITION, DEFINITION = range(7)
"""How strong the boundary after a token is; the last two are not told from ids but from parsed code."""

# traits of a token, a bit each; the lowest two bits count line ends in its trailing whitespace, at most 2
LINE_ENDS = 3
BLANK = 4  # nothing but whitespace
OPENS_BLANK = 8  # begins with whitespace
CLOSER = 16  # nothing but closing quotes and brackets, through which a sentence end shows
STOP = 32  # ends a sentence, if what follows agrees
FREE_END = 64  # ends in whitespace, or in a script that puts none between sentences
HASH = 128  # begins with the mark of a heading
FEED = 256  # begins with a form feed, which begins a page
FEED_INSIDE = 512  # holds one further on

# look-alikes below are meant: quotation marks and full stops of other scripts
CLOSERS = "\"'”’)\\]}»」』"  # noqa: RUF001
STOPS = re.compile(rf"[.!?…。！？][{CLOSERS}]*\s*\Z")  # noqa: RUF001
ONLY_CLOSERS = re.compile(rf"[{CLOSERS}]+\s*")
FREE_ENDS = re.compile(r"[\s。！？」』]\Z")  # noqa: RUF001


def token_text(tokenizer: PreTrainedTokenizerBase, token: str) -> str:
    """Return what a token adds to a text: decoders of SentencePiece kind strip the first token's space."""
    alone = tokenizer.convert_tokens_to_string([token])
    return tokenizer.convert_tokens_to_string([token, token])[len(alone) :]


def traits_of(text: str) -> int:
    """Return the traits of a token with this text."""
    tail = text[len(text.rstrip()) :]
    traits = min(tail.count("\n"), 2)
    traits |= BLANK * (text == tail)
    traits |= OPENS_BLANK * text[:1].isspace()
    traits |= CLOSER * bool(ONLY_CLOSERS.fullmatch(text))
    traits |= STOP * bool(STOPS.search(text))
    traits |= HASH * text.startswith("#")
    traits |= FEED * text.startswith("\f") | FEED_INSIDE * ("\f" in text[1:])
    return traits | FREE_END * bool(FREE_ENDS.search(text))


@dataclass(frozen=True)
class BoundaryTable:
    """The traits of every token of a vocabulary."""

    traits: NDArray[np.uint16]
    """Shape (largest id + 1,)."""

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> BoundaryTable:
        """Return the table of a tokenizer; about 0.5 s for 128,000 tokens."""
        vocabulary = tokenizer.get_vocab()
        traits = np.zeros(max(vocabulary.values(), default=-1) + 1, dtype=np.uint16)
        for token, index in vocabulary.items():
            traits[index] = traits_of(token_text(tokenizer, token))
        return cls(traits)

    def strengths(self, input_ids: NDArray[np.int32], *, headings: bool = False) -> NDArray[np.uint8]:
        """Return how strong the boundary after each token is, shape (tokens,).

        With `headings` a section begins at a `#` after a blank line. It begins at a form feed in any case.
        """
        traits = self.traits[input_ids]
        strengths = np.where(_ends_sentence(traits), np.uint8(SENTENCE), np.uint8(PLAIN))
        places = np.flatnonzero(traits & LINE_ENDS != 0)
        strengths[places] = np.where(_ends_blank_line(traits, places), np.uint8(BLANK_LINE), np.uint8(LINE))
        sections = traits[1:] & FEED != 0
        if headings:
            sections |= (strengths[:-1] == BLANK_LINE) & (traits[1:] & HASH != 0)
        strengths[:-1][sections] = SECTION
        strengths[traits & FEED_INSIDE != 0] = SECTION
        return strengths


def _ends_blank_line(traits: NDArray[np.uint16], places: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Tell at which of the line ends a blank line ends: two within one token, or only whitespace since the last."""
    whitespace = np.searchsorted(np.flatnonzero(traits & BLANK != 0), places, side="right")
    blank: NDArray[np.bool_] = np.diff(whitespace, prepend=0) == np.diff(places, prepend=-2)
    return blank | (traits[places] & LINE_ENDS > 1)


def _ends_sentence(traits: NDArray[np.uint16]) -> NDArray[np.bool_]:
    """Tell after which tokens a sentence ends: a stop, any closing marks, and whitespace on either side."""
    ends: NDArray[np.bool_] = traits & STOP != 0
    closers = np.flatnonzero(traits & CLOSER != 0)
    first = np.diff(closers, prepend=-2) > 1
    before = closers[first][np.cumsum(first) - 1] - 1
    # a run of closers ends a sentence if the token before it does; at -1 there is none, and a closer is no stop
    ends[closers] = ends[np.maximum(before, 0)]
    free = traits & FREE_END != 0
    free[:-1] |= traits[1:] & OPENS_BLANK != 0
    ends &= free
    return ends


def cut_end(strengths: NDArray[np.uint8], start: int, shortest: int, longest: int) -> int:
    """Return where a chunk from `start` ends: at the latest of the strongest boundaries after so many tokens."""
    reach = strengths[start + shortest - 1 : start + longest]
    return start + longest - int(np.argmax(reach[::-1]))
