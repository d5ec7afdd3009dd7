"""What the comparisons of `data.py` work on: Python sources, a tokenizer trained on them, and a repository."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sysconfig
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

END = "<|end_of_text|>"
LLAMA_3_SPLIT = "|".join(  # noqa: FLY002 - one alternative a line
    [
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
        r"[^\r\n\p{L}\p{N}]?\p{L}+",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)
"""How Llama 3 cuts a text into words, as its published `tokenizer.json` has it."""
BATCH = 64
"""Documents encoded at once."""


@dataclass(frozen=True)
class Corpus:
    """Texts on disk, made once and kept: one JSON object a line, an Arrow file, a tokenizer and the ids of all."""

    folder: Path

    @property
    def lines(self) -> Path:
        """`{"text": ...}` a line, which ctxkit and Axolotl read."""
        return self.folder / "corpus.jsonl"

    @property
    def arrow(self) -> Path:
        """The same as `datasets` stores it, which TRL reads."""
        return self.folder / "corpus.arrow"

    @property
    def tokenizer(self) -> Path:
        """The folder of the tokenizer."""
        return self.folder / "tokenizer"

    @cached_property
    def texts(self) -> list[str]:
        """All documents."""
        with self.lines.open(encoding="utf-8") as file:
            return [json.loads(line)["text"] for line in file]

    @cached_property
    def documents(self) -> list[NDArray[np.int32]]:
        """The ids of each document, without an end token."""
        ids, ends = np.load(self.folder / "ids.npy"), np.load(self.folder / "ends.npy")
        return np.split(ids, ends[:-1])

    def load_tokenizer(self) -> Any:
        """Return the tokenizer as transformers loads it."""
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast.from_pretrained(str(self.tokenizer))

    def load_backend(self) -> Any:
        """Return the tokenizer of the `tokenizers` library alone, special tokens in a text split."""
        from tokenizers import Tokenizer

        backend = Tokenizer.from_file(str(self.tokenizer / "tokenizer.json"))
        backend.encode_special_tokens = True
        return backend

    def facts(self) -> dict[str, Any]:
        """Return what the results say about it."""
        tokens = [len(ids) for ids in self.documents]
        return {
            "megabytes": round(sum(len(text.encode()) for text in self.texts) / 1e6, 2),
            "documents": len(self.texts),
            "tokens": sum(tokens) + len(tokens),  # an end token each
            "longest_document_tokens": max(tokens) + 1,
            "sha256": hashlib.sha256(self.lines.read_bytes()).hexdigest(),
        }


def make_corpus(folder: Path, megabytes: float, vocabulary: int, seed: int) -> Corpus:
    """Return a corpus of that size below a folder; its tokenizer is kept there for the next time."""
    lines = "".join(json.dumps({"text": text}) + "\n" for text in python_sources(megabytes, seed))
    key = hashlib.sha256(f"{vocabulary} {lines}".encode()).hexdigest()[:12]
    corpus = Corpus(folder / f"corpus-{key}")
    if not (corpus.folder / "ends.npy").exists():
        corpus.folder.mkdir(parents=True, exist_ok=True)
        corpus.lines.write_text(lines, encoding="utf-8")
        _write_arrow(corpus)
        train_tokenizer(corpus.texts, vocabulary, corpus.tokenizer)
        _write_ids(corpus)
    return corpus


def python_sources(megabytes: float, seed: int) -> Iterator[str]:
    """Yield sources of the standard library and of installed packages, each once, in an order drawn from a seed."""
    paths = sysconfig.get_paths()
    files = [*_sources(Path(paths["stdlib"])), *_sources(Path(paths["purelib"]))]
    random.Random(seed).shuffle(files)
    left, seen = megabytes * 1e6, set()
    for file in files:
        data = file.read_bytes()
        digest = hashlib.sha256(data).digest()
        text = _decoded(data)
        if digest not in seen and text:
            seen.add(digest)
            left -= len(data)
            yield text
        if left <= 0:
            return


def _sources(folder: Path) -> list[Path]:
    found = (path for path in folder.rglob("*.py") if "site-packages" not in path.relative_to(folder).parts)
    return sorted(path for path in found if path.is_file())


def _decoded(data: bytes) -> str:
    try:
        return data.decode().replace("\r\n", "\n")
    except UnicodeDecodeError:
        return ""


def _write_arrow(corpus: Corpus) -> None:
    from datasets.arrow_writer import ArrowWriter

    with ArrowWriter(path=str(corpus.arrow)) as writer:
        for text in corpus.texts:
            writer.write({"text": text})
        writer.finalize()


def _write_ids(corpus: Corpus) -> None:
    encoded = [np.array(ids, dtype=np.int32) for ids in encode(corpus.load_backend(), corpus.texts)]
    np.save(corpus.folder / "ids.npy", np.concatenate(encoded))
    np.save(corpus.folder / "ends.npy", np.cumsum([len(ids) for ids in encoded]))


def encode(backend: Any, texts: Sequence[str]) -> Iterator[list[int]]:
    """Yield the ids of each text, the fastest way that the `tokenizers` library has."""
    for start in range(0, len(texts), BATCH):
        for item in backend.encode_batch_fast(texts[start : start + BATCH], add_special_tokens=False):
            yield item.ids


def train_tokenizer(texts: Iterable[str], vocabulary: int, folder: Path) -> None:
    """Train a byte-level BPE that cuts words as Llama 3 does."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend: Any = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA_3_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=END, pad_token=END).save_pretrained(folder)


def make_repository(folder: Path, texts: Sequence[str], commits: int, seed: int) -> Path:
    """Return a bare repository with a history drawn from a seed: edits mostly, some new, renamed and deleted files."""
    path = folder / f"history-{commits}-{seed}.git"
    if not path.exists():
        temporary = folder / f"{path.name}.new-{os.getpid()}"
        _git(["init", "--quiet", "--bare", "--initial-branch=main", str(temporary)], b"")
        history = b"".join(_History(random.Random(seed), texts).commits(commits))
        _git(["--git-dir", str(temporary), "fast-import", "--quiet"], history)
        _git(["--git-dir", str(temporary), "repack", "-a", "-d", "-f", "-q"], b"")
        temporary.rename(path)
    return path


def _git(arguments: list[str], data: bytes) -> None:
    subprocess.run(["git", *arguments], check=True, input=data, capture_output=True)


class _History:
    """A stream for `git fast-import`; the texts of the corpus are its files."""

    def __init__(self, generator: random.Random, texts: Sequence[str]) -> None:
        self._generator, self._texts = generator, texts
        self._files: dict[str, list[str]] = {}
        self._made = 0

    def commits(self, count: int) -> Iterator[bytes]:
        """Yield the commits; the first holds a tenth as many files as there are commits."""
        for number in range(count):
            committer = f"A <a@example.org> {1_600_000_000 + number * 3600} +0000"
            yield f"commit refs/heads/main\ncommitter {committer}\n".encode()
            yield _data(f"Change {number}".encode())
            if number == 0:
                for _ in range(max(count // 10, 5)):
                    yield self._add()
            for _ in range(self._generator.choice((1, 1, 2, 3))):
                yield self._change()

    def _change(self) -> bytes:
        kinds = (self._edit, self._add, self._rename, self._delete, self._binary)
        return self._generator.choices(kinds, weights=(90, 4, 2, 2, 2))[0]()

    def _add(self) -> bytes:
        self._made += 1
        text = self._generator.choice(self._texts)
        path = f"package{self._made % 12}/module{self._made}.py"
        self._files[path] = text.splitlines(keepends=True)[:600]
        return self._write(path)

    def _edit(self) -> bytes:
        path = self._any()
        lines = self._files[path]
        place = self._generator.randrange(len(lines) + 1)
        removed = self._generator.choice((0, 1, 3))
        added = self._generator.choice((1, 1, 4, 12))
        new = (f"    value_{self._generator.randrange(10**6)} = load()\n" for _ in range(added))
        lines[place : place + removed] = new
        return self._write(path)

    def _rename(self) -> bytes:
        old = self._any()
        self._made += 1
        new = f"package{self._made % 12}/renamed{self._made}.py"
        self._files[new] = self._files.pop(old)
        return f"R {old} {new}\n".encode()

    def _delete(self) -> bytes:
        if len(self._files) < 5:
            return self._add()
        path = self._any()
        del self._files[path]
        return f"D {path}\n".encode()

    def _binary(self) -> bytes:
        return b"M 100644 inline data/table.bin\n" + _data(b"\0" + self._generator.randbytes(4000))

    def _any(self) -> str:
        return self._generator.choice(list(self._files))

    def _write(self, path: str) -> bytes:
        return f"M 100644 inline {path}\n".encode() + _data("".join(self._files[path]).encode())


def _data(data: bytes) -> bytes:
    return f"data {len(data)}\n".encode() + data + b"\n"
