"""Prompts that share their beginning: a trunk that is read once, and forks that go on from places in it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from ctxkit_evals.greedy import Reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from transformers import PreTrainedModel

    Ask: TypeAlias = Callable[[Reader, list["Fork"]], list[list[int]]]
    Enough: TypeAlias = Callable[["Fork", list[int]], bool]


@dataclass(frozen=True)
class Fork:
    """One prompt: the trunk up to a place, then tokens of its own; and what it asks."""

    at: int
    """Tokens of the trunk that come first."""
    ids: list[int]
    """Tokens from there to the end of the prompt."""
    answer: list[int]
    """Tokens of the right answer."""
    input: str
    """What is asked, in short."""
    target: str
    targets: tuple[str, ...] = ()
    """The parts of the target, where it has several."""
    depth: float | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """What forks have in common that can be read together."""
        return self.at, len(self.ids), len(self.answer)


@dataclass(frozen=True)
class Trunk:
    """Tokens that several prompts begin with."""

    ids: list[int]
    forks: tuple[Fork, ...]
    """In the order of their places."""
    sample: int | None
    """What the prompts of one sample share and others do not, such as their text; None where that is nothing."""

    def prompt(self, fork: Fork) -> list[int]:
        """Return all tokens of a prompt."""
        return [*self.ids[: fork.at], *fork.ids]

    @property
    def metadata(self) -> dict[str, int]:
        """Return what is kept with the samples, so that those that may be alike are known."""
        return {} if self.sample is None else {"sample": self.sample}

    @property
    def forks_at_one_place(self) -> bool:
        """Whether there are several, and the trunk is the same for all."""
        return len(self.forks) > 1 and len({fork.at for fork in self.forks}) == 1

    @property
    def shape(self) -> tuple[Any, ...]:
        """What trunks have in common that can be read together."""
        return len(self.ids), *(fork.shape for fork in self.forks)


def guessed(model: PreTrainedModel, trunks: Sequence[Trunk], batch_size: int) -> list[list[list[int]]]:
    """Return for each fork of each trunk the most likely tokens at the places of its answer, given those before.

    They are the answer if and only if greedy decoding gives exactly it; and up to the first that differs they are what
    greedy decoding writes.
    """

    def guess(reader: Reader, forks: list[Fork]) -> list[list[int]]:
        rows = [[*fork.ids, *fork.answer[:-1]] for fork in forks]
        tokens: list[list[int]] = reader.read(rows, keep=len(forks[0].answer)).argmax(dim=-1).tolist()
        return tokens

    return _visited(model, trunks, batch_size, guess)


def written(
    model: PreTrainedModel,
    trunks: Sequence[Trunk],
    batch_size: int,
    most: int,
    enough: Enough,
) -> list[list[list[int]]]:
    """Return for each fork of each trunk what greedy decoding writes: `most` tokens, or until that is enough."""

    def write(reader: Reader, forks: list[Fork]) -> list[list[int]]:
        return reader.write([fork.ids for fork in forks], most, [partial(enough, fork) for fork in forks])

    return _visited(model, trunks, batch_size, write)


def _visited(model: PreTrainedModel, trunks: Sequence[Trunk], batch_size: int, ask: Ask) -> list[list[list[int]]]:
    """Return what came of asking at each fork, in at most `batch_size` rows at once."""
    found: list[list[list[int]]] = [[] for _ in trunks]
    apart = [index for index, trunk in enumerate(trunks) if not trunk.forks_at_one_place]
    for index in set(range(len(trunks))).difference(apart):
        found[index] = _together(Reader(model), trunks[index], batch_size, ask)
    for batch in _alike({index: trunks[index].shape for index in apart}, batch_size):
        for answers in _side_by_side(Reader(model), [trunks[index] for index in batch], ask):
            for index, answer in zip(batch, answers, strict=True):
                found[index].append(answer)
    return found


def _alike(shapes: Mapping[int, Any], most: int) -> Iterator[list[int]]:
    """Yield the indices of what has the same shape, at most `most` of them at once."""
    by_shape: dict[Any, list[int]] = {}
    for index, shape in shapes.items():
        by_shape.setdefault(shape, []).append(index)
    for indices in by_shape.values():
        for start in range(0, len(indices), most):
            yield indices[start : start + most]


def _together(reader: Reader, trunk: Trunk, batch_size: int, ask: Ask) -> list[list[int]]:
    """Return what came of asking several forks at once, which all begin where the trunk ends.

    Their common beginning is read with the trunk.
    """
    at = trunk.forks[0].at
    rows = [fork.ids for fork in trunk.forks]
    shared = min(shared_tokens(rows), min(map(len, rows)) - 1)
    reader.grow([[*trunk.ids[:at], *rows[0][:shared]]])
    forks = [replace(fork, at=at + shared, ids=fork.ids[shared:]) for fork in trunk.forks]
    found: list[list[int]] = [[] for _ in forks]
    for batch in _alike({index: fork.shape for index, fork in enumerate(forks)}, batch_size):
        for index, answer in zip(batch, ask(reader, [forks[index] for index in batch]), strict=True):
            found[index] = answer
        reader.back_to(at + shared)
    return found


def shared_tokens(rows: Sequence[Sequence[int]]) -> int:
    """Return with how many tokens all rows begin alike."""
    places = enumerate(zip(*rows, strict=False))
    return next((place for place, tokens in places if len(set(tokens)) > 1), min(map(len, rows)))


def _side_by_side(reader: Reader, trunks: list[Trunk], ask: Ask) -> Iterator[list[list[int]]]:
    """Yield at each fork what came of asking there, for each trunk; trunks that are the same are read as one."""
    rows = [trunk.ids for trunk in trunks]
    rows = rows[:1] if all(row == rows[0] for row in rows) else rows
    for forks in zip(*(trunk.forks for trunk in trunks), strict=True):
        reader.grow([row[reader.length : forks[0].at] for row in rows])
        yield ask(reader, list(forks))
        reader.back_to(forks[0].at)
