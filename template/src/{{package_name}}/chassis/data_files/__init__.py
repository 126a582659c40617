"""Data files: every record is validated against a model before the service uses it.

`prices = load("prices.csv", Price, key=["day"])` returns a list of `Price`, or raises `DataFileError`, which names the
record and the field of every fault. The suffix selects the format: `.csv` (with a header; an empty cell is a missing
field), `.json` (a list of objects), `.jsonl` (one object per line), `.yaml` (a list of mappings; requires PyYAML).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

T = TypeVar("T", bound=BaseModel)
Records = Iterator[tuple[int, Any]]

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


# -- formats -----------------------------------------------------------------------------------------------------------
# For a malformed record a reader yields an UnreadableError and continues. For a malformed file it raises one.


class UnreadableError(Exception):
    """The file, or one record of it, is malformed."""


def records(path: Path, max_bytes: int, model: type[BaseModel]) -> Records:
    """Yield every record with its number."""
    read = _FORMATS.get(path.suffix.lower())
    if read is None:
        raise UnreadableError(f"unknown suffix; use one of {', '.join(_FORMATS)}")
    try:
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror}") from None
    if len(content) > max_bytes:
        raise UnreadableError(f"is larger than {max_bytes} bytes")
    try:
        text = content.decode("utf-8-sig")  # spreadsheets write a byte order mark
    except UnicodeDecodeError as error:
        raise UnreadableError(f"byte {error.start + 1} is not UTF-8") from None
    return read(text, model)


def _csv(text: str, model: type[BaseModel]) -> Records:
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(rows, [])]
        _check_header(header, model)
        for number, row in enumerate(filter(None, rows), 1):  # skip empty lines
            if len(row) == len(header):
                yield number, {name: cell for name, cell in zip(header, row, strict=True) if cell != ""}
            else:
                yield number, UnreadableError(f"{len(row)} cells under {len(header)} columns (line {rows.line_num})")
    except csv.Error as error:
        raise UnreadableError(f"line {rows.line_num} is not CSV: {error}") from None


def _check_header(header: Sequence[str], model: type[BaseModel]) -> None:
    """Report a missing column once instead of in every record."""
    if not any(header):
        raise UnreadableError("the header is missing")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise UnreadableError(f"two columns have the same name: {', '.join(twice)}")
    # A field is filled from its name or its alias. A field with several aliases is checked record by record.
    required = {
        name: field.validation_alias or name for name, field in model.model_fields.items() if field.is_required()
    }
    absent = [alias for name, alias in required.items() if isinstance(alias, str) and not {name, alias} & {*header}]
    if absent:
        raise UnreadableError(f"missing column: {', '.join(absent)}")


def _json(text: str, _model: type[BaseModel]) -> Records:
    try:
        return _listed(orjson.loads(text))
    except orjson.JSONDecodeError as error:
        raise UnreadableError(f"line {error.lineno}, column {error.colno} is not JSON: {error.msg}") from None


def _jsonl(text: str, _model: type[BaseModel]) -> Records:
    for number, line in enumerate(filter(str.strip, text.split("\n")), 1):
        try:
            yield number, orjson.loads(line)
        except orjson.JSONDecodeError as error:
            yield number, UnreadableError(f"column {error.colno} is not JSON: {error.msg}")


def _yaml(text: str, _model: type[BaseModel]) -> Records:
    try:
        yaml = import_module("yaml")  # optional dependency
    except ImportError:
        raise UnreadableError("YAML requires PyYAML; run uv add pyyaml") from None
    try:
        return _listed(yaml.safe_load(text))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "something"
        raise UnreadableError(f"{where} is not YAML") from None


def _listed(records: Any) -> Records:
    if not isinstance(records, list):
        raise UnreadableError("not a list of records")
    return iter(enumerate(records, 1))


_FORMATS: dict[str, Callable[[str, type[BaseModel]], Records]] = {
    ".csv": _csv, ".json": _json, ".jsonl": _jsonl, ".yaml": _yaml, ".yml": _yaml,
}  # fmt: skip
