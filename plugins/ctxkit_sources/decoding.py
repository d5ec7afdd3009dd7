"""Bytes of a file to text, in pieces."""

from __future__ import annotations

import codecs
import errno
import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

PIECE = 1 << 20
"""Bytes that are decoded at a time."""
HEAD = 8192
"""Bytes in which a NUL makes a file binary; git looks at the first 8,000."""
BOM = "\ufeff"
Newlines = Literal["normalise", "keep"]
Binary = Literal["skip", "keep", "strict"]
Decoder: TypeAlias = codecs.IncrementalDecoder | io.IncrementalNewlineDecoder
_SURROGATE = re.compile("[\ud800-\udfff]")


class UnusableError(Exception):
    """What cannot become a document: why, in the same words for the same cause; in detail; and a guess at the cure."""

    def __init__(self, reason: str, detail: str, guess: str = "") -> None:
        """Say why."""
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.guess = guess


@dataclass(frozen=True)
class Decoding:
    """How bytes become text; a byte order mark at the front goes in any case."""

    encoding: str = "utf-8"
    errors: Literal["strict", "replace"] = "strict"
    newlines: Newlines = "normalise"
    binary: Binary = "keep"

    def read(self, file: BinaryIO) -> str:
        """Return the text of a file.

        Neither the bytes nor a second text are held as a whole: the peak is the text and a piece. Python keeps a text
        in 1, 2 or 4 bytes a character, by the widest in it.

        Raises:
            UnusableError: bytes that the encoding does not know, or NULs where these are not kept.
            OSError: it cannot be read.
        """
        text = ""
        for piece in self._pieces(file):
            # Not `join`, which needs all pieces beside the whole: CPython lets a text that only one name holds grow in
            # place.
            text += piece
        return text

    def _pieces(self, file: BinaryIO) -> Iterator[str]:
        decoder, fed, begun = self._decoder(), 0, False
        while True:
            piece = _read(file)
            if not fed:
                self._check_bytes(piece)
            fed += len(piece)
            text = self._decoded(decoder, piece, fed)
            if text and not begun:
                self._check_characters(text)
                text, begun = text.removeprefix(BOM), True
            yield text
            if not piece:
                return

    def _decoder(self) -> Decoder:
        decoder = codecs.getincrementaldecoder(self.encoding)(self.errors)
        return decoder if self.newlines == "keep" else io.IncrementalNewlineDecoder(decoder, translate=True)

    def _decoded(self, decoder: Decoder, piece: bytes, fed: int) -> str:
        """Decode the piece that ends at the byte `fed` of the file; the last piece is empty."""
        try:
            return decoder.decode(piece, not piece)
        except UnicodeDecodeError as error:
            # What the decoder held back from earlier pieces stands in front of the piece.
            place = fed - len(error.object) + error.start
            byte = error.object[error.start]
            reason = f"not {self.encoding}"
            guess = "; it begins as UTF-16 does" if fed <= PIECE and piece.startswith(_WIDE_MARKS) else ""
            raise UnusableError(reason, f"is {reason}: byte {byte:#04x} at {place}", guess) from error

    def _check_bytes(self, piece: bytes) -> None:
        # A file in UTF-16 is better refused as another encoding than as binary.
        foreign = self.errors == "strict" and piece.startswith(_WIDE_MARKS)
        if self.binary != "keep" and not self._wide() and not foreign:
            self._refuse_nul(piece[:HEAD].find(b"\0"))

    def _check_characters(self, piece: str) -> None:
        if self.binary != "keep" and self._wide():
            self._refuse_nul(piece[:HEAD].find("\0"))

    def _refuse_nul(self, place: int) -> None:
        if place >= 0:
            raise UnusableError("binary", f"is binary: a NUL at {place}")

    def _wide(self) -> bool:
        """Return whether NUL bytes are a part of ordinary characters."""
        return codecs.lookup(self.encoding).name.startswith(("utf-16", "utf-32"))


def _read(file: BinaryIO) -> bytes:
    piece: bytes | None = file.read(PIECE)
    if piece is None:
        # Files of the system, such as its log, may have more later; they were opened so as not to wait for it.
        raise BlockingIOError(errno.EAGAIN, "it has nothing to read now")
    return piece


_WIDE_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def check_surrogates(text: str) -> None:
    """Refuse half of a surrogate pair that stands alone, as JSON can spell it: no encoding has bytes for it.

    Raises:
        UnusableError: there is one.
    """
    found = None if text.isascii() else _SURROGATE.search(text)
    if found:
        raise UnusableError("lone surrogate", f"holds a lone surrogate, \\u{ord(found.group()):04x} at {found.start()}")


def with_newlines(text: str, newlines: Newlines) -> str:
    """Return a text with its line ends as wanted: CRLF and lone CR as newlines, or all as they are."""
    if newlines == "keep" or "\r" not in text:
        return text
    return text.replace("\r\n", "\n").replace("\r", "\n")


def without_end(line: bytes) -> bytes:
    """Return a line without the LF or CRLF that ends it."""
    return line.removesuffix(b"\n").removesuffix(b"\r")


def lines(file: io.BufferedIOBase, max_bytes: int | None = None) -> Iterator[bytes | None]:
    """Yield the lines of a file, their line feeds included; None for one that is longer than `max_bytes`.

    Only a line feed ends a line. What is too long is read past in pieces, never held.
    """
    size = -1 if max_bytes is None else max_bytes + 2
    while line := file.readline(size):
        too_long = max_bytes is not None and len(without_end(line)) > max_bytes
        rest = line
        while too_long and rest and not rest.endswith(b"\n"):
            rest = file.readline(PIECE)
        yield None if too_long else line
