"""A short list of combinations in which every pair of values occurs. Our own, as the known library misses pairs."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations_with_replacement, product
from typing import Any

Row = dict[str, Any]
Factors = Mapping[str, Sequence[Any]]


def pairwise(factors: Factors, allowed: Callable[[Row], bool] = lambda _: True) -> list[Row]:
    """Return rows that hold every pair of values which some allowed row holds.

    Each round takes the row with the most missing pairs; the first one of equals, so the result is always the same. All
    combinations are examined, which is fast for tens of thousands of them and impossible for millions. The pairs of a
    row are the bits of an integer, because that makes a round fifty times as fast as with sets.
    """
    numbers = [range(len(factors[name])) for name in factors]
    bits: dict[tuple[int, ...], int] = {}
    rows: list[Row] = []
    candidates: list[tuple[int, tuple[int, ...]]] = []
    for chosen in product(*numbers):
        if allowed(_row(factors, chosen)):
            pairs = ((i, j, chosen[i], chosen[j]) for i, j in combinations_with_replacement(range(len(chosen)), 2))
            candidates.append((sum(1 << bits.setdefault(pair, len(bits)) for pair in pairs), chosen))
    missing = (1 << len(bits)) - 1
    while missing:
        found, best = max(candidates, key=lambda candidate: (candidate[0] & missing).bit_count())
        missing &= ~found
        rows.append(_row(factors, best))
    return rows


def _row(factors: Factors, numbers: Sequence[int]) -> Row:
    return {name: factors[name][number] for name, number in zip(factors, numbers, strict=True)}
