"""Evolution of factors: mutation, crossover and selection under the constraints of LongRoPE."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

Factors: TypeAlias = tuple[float, ...]
"""One for each pair of rotary dimensions, the fastest first; none is below the one before it."""

SMALLEST = 1.0
"""A factor of one leaves a pair as it was."""
TRIES = 20
"""How often another child is made in place of one that was there before."""
DECIMALS = 6
"""Of a factor that was drawn: steps of 0.01 shall read like it."""


@dataclass(frozen=True)
class Space:
    """The factors that may be: from 1 in steps up to a largest one, none below the one before it."""

    largest: float
    step: float

    def mutated(self, parent: Factors, chance: float, generator: random.Random) -> Factors:
        """Return a parent of which each factor was drawn anew with some chance, between those beside it.

        Source: Ding et al. 2024 (arXiv 2402.13753), algorithm 1.
        """
        child = list(parent)
        for place in range(len(child)):
            if generator.random() < chance:
                low = child[place - 1] if place else SMALLEST
                high = child[place + 1] if place + 1 < len(child) else self.largest
                child[place] = self._drawn(low, high, child[place], generator)
        return tuple(child)

    def _drawn(self, low: float, high: float, present: float, generator: random.Random) -> float:
        """Return a step from low to high, both included, or the present factor where there is none."""
        first, last = self._index(low, math.ceil), self._index(high, math.floor)
        if last < first:
            return present
        drawn = round(SMALLEST + _below(last - first + 1, generator, first) * self.step, DECIMALS)
        return min(max(drawn, low), high)

    def _index(self, factor: float, rounded: Callable[[float], int]) -> int:
        """Return how many steps above the smallest factor another is; a hair beside a step counts as that step."""
        return rounded(round((factor - SMALLEST) / self.step, DECIMALS))


def crossed(first: Factors, second: Factors, chance: float, generator: random.Random) -> Factors:
    """Return a child that has each factor of the second parent with some chance, else of the first.

    Where that would put one below the one before it, it comes from the same parent as the one before.
    """
    child: list[float] = []
    parents, chosen = (first, second), 0
    for place in range(len(first)):
        wanted = int(generator.random() < chance)
        if not child or parents[wanted][place] >= child[-1]:
            chosen = wanted
        child.append(parents[chosen][place])
    return tuple(child)


def _below(count: int, generator: random.Random, first: int = 0) -> int:
    """Return one of `count` whole numbers from `first` on; `random()` alone gives the same in every Python."""
    return first + int(generator.random() * count)


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is tried; the names and values of the paper are in `docs/rope.md`."""

    population: int
    iterations: int
    mutations: int
    crossovers: int
    parents: int
    mutation_probability: float

    @property
    def evaluations(self) -> int:
        """Candidates that are measured at most."""
        return self.population + self.iterations * (self.mutations + self.crossovers)


@dataclass
class Evolution:
    """A search for the factors of the lowest perplexity; the same seed and answers give the same search."""

    space: Space
    sizes: Sizes
    generator: random.Random
    measure: Callable[[Factors], float]
    _scores: dict[Factors, tuple[float, int]] = field(default_factory=dict)
    """Perplexity of everything measured, and when it was: the earlier of two equal ones is the better."""

    def best(self, starts: Sequence[Factors]) -> Factors:
        """Return the best factors found from some to start with; never worse than the best of those."""
        population = list(dict.fromkeys(starts))
        for start in population:
            self.score(start)
        for turn in range(self.sizes.population - len(population)):
            population += self._new(partial(self._mutated, starts[turn % len(starts)]))
        for _ in range(self.sizes.iterations):
            parents = sorted(population, key=self.score)[: self.sizes.parents]
            population = [*parents, *self._children(parents)]
        return min(population, key=self.score)

    def score(self, factors: Factors) -> tuple[float, int]:
        """Return the perplexity of factors, measured once, and the turn at which that was."""
        if factors not in self._scores:
            self._scores[factors] = (self.measure(factors), len(self._scores))
        return self._scores[factors]

    def _children(self, parents: Sequence[Factors]) -> list[Factors]:
        children: list[Factors] = []
        for _ in range(self.sizes.mutations):
            children += self._new(partial(self._mutated_of, parents))
        for _ in range(self.sizes.crossovers if len(parents) > 1 else 0):
            # Parents that differ in one place have no child of their own: as in the reference, a mutation then.
            children += self._new(partial(self._crossed, parents)) or self._new(partial(self._mutated_of, parents))
        return children

    def _mutated_of(self, parents: Sequence[Factors]) -> Factors:
        return self._mutated(parents[_below(len(parents), self.generator)])

    def _mutated(self, parent: Factors) -> Factors:
        return self.space.mutated(parent, self.sizes.mutation_probability, self.generator)

    def _crossed(self, parents: Sequence[Factors]) -> Factors:
        first = _below(len(parents), self.generator)
        second = _below(len(parents) - 1, self.generator)
        pair = parents[first], parents[second + (second >= first)]
        return crossed(*pair, self.sizes.mutation_probability, self.generator)

    def _new(self, make: Callable[[], Factors]) -> list[Factors]:
        """Return a child that was not there before, measured; none where none is found in so many tries."""
        for _ in range(TRIES):
            child = make()
            if child not in self._scores:
                self.score(child)
                return [child]
        return []
