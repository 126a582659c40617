"""Loads a data file and validates every record against a model.

`prices = load("prices.csv", Price, key=["day"])` returns a list of `Price`, or raises `DataFileError`, which names the
record and the field of every fault. The suffix selects the format: `.csv` (with a header; an empty cell is a missing
field), `.json` (a list of objects), `.jsonl` (one object per line), `.yaml` (a list of mappings; requires PyYAML).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from .formats import UnreadableError, records

T = TypeVar("T", bound=BaseModel)

_MAX_FAULTS = 50
_MAX_BYTES = 100_000_000
_MAX_VALUE_CHARACTERS = 60


class Fault(NamedTuple):
    """One fault. `record` counts from 1 and is None for the whole file; `field` is None for the whole record."""

    record: int | None
    field: str | None
    message: str

    def __str__(self) -> str:
        where = [f"record {self.record}"] * (self.record is not None) + [f"field {self.field}"] * bool(self.field)
        return ": ".join(filter(None, (", ".join(where), self.message)))


class DataFileError(Exception):
    """A data file has faults: `faults` holds the first ones, and `complete` is false if there are more."""

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
    max_faults: int = _MAX_FAULTS,
    max_bytes: int = _MAX_BYTES,
) -> list[T]:
    """Return the records of a file in UTF-8.

    Args:
        path: The file; its suffix selects the format.
        record: The model of each record.
        key: The fields whose values together must be unique.
        max_faults: The number of faults to collect before giving up.
        max_bytes: The size above which a file is rejected, because it is loaded into memory.

    Raises:
        DataFileError: The file cannot be read, or records are not valid. All faults are reported at once.
    """
    path = Path(path)
    loaded: list[T] = []
    faults = list(islice(_faults(path, record, key, max_bytes, loaded), max_faults + 1))
    if faults:
        raise DataFileError(path, faults[:max_faults], complete=len(faults) <= max_faults)
    return loaded


def _faults(path: Path, model: type[T], key: Sequence[str], max_bytes: int, loaded: list[T]) -> Iterator[Fault]:
    """Yield the faults of a file, and append the valid records to `loaded`."""
    first: dict[tuple[Any, ...], int] = {}
    try:
        for number, raw in records(path, max_bytes, model):
            if isinstance(raw, UnreadableError):
                yield Fault(number, None, str(raw))
                continue
            try:
                checked = model.model_validate(raw)
            except ValidationError as error:
                yield from _record_faults(number, error)
                continue
            loaded.append(checked)
            values = tuple(getattr(checked, name) for name in key)
            if key and first.setdefault(values, number) != number:
                yield Fault(number, ", ".join(key), f"the same as in record {first[values]}")
    except UnreadableError as error:
        yield Fault(None, None, str(error))


def _record_faults(number: int, error: ValidationError) -> Iterator[Fault]:
    for found in error.errors(include_url=False):
        value = repr(found["input"])
        shown = value if len(value) <= _MAX_VALUE_CHARACTERS else f"{value[:_MAX_VALUE_CHARACTERS]}..."
        # For a missing field pydantic reports the whole record as the value.
        got = "" if found["type"] == "missing" else f" (got {shown})"
        yield Fault(number, ".".join(map(str, found["loc"])) or None, f"{found['msg']}{got}")
