"""The files to rewrite, and the notes about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from .table import Place


class Note(NamedTuple):
    """A line that the owner should look at. `is_certain` means that it cannot work unchanged."""

    path: str
    line: int
    text: str
    is_certain: bool = True

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


@dataclass(frozen=True)
class Source:
    """A file, and what must be known of the service around it.

    Args:
        path: Where the file is, relative to the service.
        package: The service's package, such as `orders`.
        exported: Names that other files of the owner import from this one.
        passed_on: Names of the owner's modules that are only another name of an old one.
        exists: Whether a name is in the service as it is now; names begin below the package.
        moved_to: The new path of a file of the chassis whose old text is rewritten before it is merged.
    """

    path: str
    package: str
    exported: frozenset[str] = frozenset()
    passed_on: Mapping[str, str] = field(default_factory=dict)
    exists: Callable[[Place], bool] = lambda _place: True
    moved_to: str | None = None
