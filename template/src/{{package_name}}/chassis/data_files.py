"""Loads a data file and checks every record against its schema before anything is done with it.

`prices = load("prices.csv", Price, key=["day"])` gives a list of `Price`, or raises `DataFileError`, whose text names
the record and the field of every fault. The suffix tells the format: `.csv` (with a header; an empty cell is an absent
field), `.json` (a list of objects), `.jsonl` (one a line), `.yaml` (a list of mappings; needs PyYAML).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from .data_formats import UnreadableError, records

T = TypeVar("T", bound=BaseModel)

_MOST_FAULTS = 50
_MAX_BYTES = 100_000_000
_LONGEST_VALUE = 60


class Fault(NamedTuple):
    """One fault: the record's number, from 1 (None: the file as a whole), the field (None: the whole record)."""

    record: int | None
    field: str | None
    message: str

    def __str__(self) -> str:
        where = [f"record {self.record}"] * (self.record is not None) + [f"field {self.field}"] * bool(self.field)
        return ": ".join(filter(None, (", ".join(where), self.message)))


class DataFileError(Exception):
    """A data file is not fit for use; `faults` are the first ones, `complete` tells whether there are no more."""

    def __init__(self, path: Path, faults: Sequence[Fault], *, complete: bool = True) -> None:
        self.path = path
        self.faults = tuple(faults)
        self.complete = complete
        number = f"{len(faults)} fault{'s' * (len(faults) != 1)}" if complete else f"more than {len(faults)} faults"
        super().__init__("\n  ".join([f"{path} has {number}:", *map(str, faults)]))


def load(
    path: Path | str,
    record: type[T],
    *,
    key: Sequence[str] = (),
    most_faults: int = _MOST_FAULTS,
    max_bytes: int = _MAX_BYTES,
) -> list[T]:
    """Return the records of a file in UTF-8, each checked against the model `record`.

    No two records may have the same values in the fields of `key`. The first `most_faults` faults are reported at once.
    A file over `max_bytes` is refused: all of it is held in memory.

    Raises:
        DataFileError: with every fault found.
    """
    path = Path(path)
    loaded: list[T] = []
    faults = list(islice(_faults(path, record, key, max_bytes, loaded), most_faults + 1))
    if faults:
        raise DataFileError(path, faults[:most_faults], complete=len(faults) <= most_faults)
    return loaded


def _faults(path: Path, model: type[T], key: Sequence[str], max_bytes: int, loaded: list[T]) -> Iterator[Fault]:
    """Yield the faults of a file, and put the records without one into `loaded`."""
    first: dict[tuple[Any, ...], int] = {}
    try:
        for number, raw in records(path, max_bytes, model):
            if isinstance(raw, UnreadableError):
                yield Fault(number, None, str(raw))
                continue
            try:
                checked = model.model_validate(raw)
            except ValidationError as error:
                yield from _of_record(number, error)
                continue
            loaded.append(checked)
            values = tuple(getattr(checked, name) for name in key)
            if key and first.setdefault(values, number) != number:
                yield Fault(number, ", ".join(key), f"the same as in record {first[values]}")
    except UnreadableError as error:
        yield Fault(None, None, str(error))


def _of_record(number: int, error: ValidationError) -> Iterator[Fault]:
    for found in error.errors(include_url=False):
        value = repr(found["input"])
        shown = value if len(value) <= _LONGEST_VALUE else f"{value[:_LONGEST_VALUE]}..."
        # What a field that is not there holds is the whole record, and says nothing.
        got = "" if found["type"] == "missing" else f" (got {shown})"
        yield Fault(number, ".".join(map(str, found["loc"])) or None, f"{found['msg']}{got}")
