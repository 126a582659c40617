"""A short list of combinations in which every pair of values occurs; our own, as the known library misses pairs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations, product
from typing import Any

Row = dict[str, Any]
Pair = tuple[tuple[str, int], tuple[str, int]]
Factors = Mapping[str, Sequence[Any]]


def _indices(factors: Factors) -> Iterable[dict[str, int]]:
    names = list(factors)
    for numbers in product(*(range(len(factors[name])) for name in names)):
        yield dict(zip(names, numbers, strict=True))


def _pairs(row: Mapping[str, int]) -> set[Pair]:
    return set(combinations(sorted(row.items()), 2))


def pairwise(factors: Factors, allowed: Callable[[Row], bool] = lambda _: True) -> list[Row]:
    """Rows that hold every pair of values which some allowed row holds.

    Each round takes the row with the most pairs still missing; the first of equals, so the list is the same every time.
    It looks at all combinations, which is quick for some thousands of them and says nothing about millions.
    """

    def row_of(numbers: Mapping[str, int]) -> Row:
        return {name: factors[name][number] for name, number in numbers.items()}

    candidates = [numbers for numbers in _indices(factors) if allowed(row_of(numbers))]
    missing = set().union(*map(_pairs, candidates))
    rows = []
    while missing:
        best = max(candidates, key=lambda numbers: len(_pairs(numbers) & missing))
        missing -= _pairs(best)
        rows.append(row_of(best))
    return rows
