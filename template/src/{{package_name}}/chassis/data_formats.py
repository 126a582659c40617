"""What a data file looks like inside: each format gives its records one by one, with their numbers.

A record that cannot be read is an `UnreadableError` in its place; one that ends the reading is raised.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel

Records = Iterator[tuple[int, Any]]


class UnreadableError(Exception):
    """The file, or one record of it, is not in its format."""


def records(path: Path, max_bytes: int, model: type[BaseModel]) -> Records:
    """Yield every record with its number."""
    read = _FORMATS.get(path.suffix.lower())
    if read is None:
        raise UnreadableError(f"the suffix is none of {', '.join(_FORMATS)}")
    try:
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror}") from None
    if len(content) > max_bytes:
        raise UnreadableError(f"is larger than {max_bytes} bytes")
    try:
        text = content.decode("utf-8-sig")  # spreadsheets put a mark before the first byte
    except UnicodeDecodeError as error:
        raise UnreadableError(f"byte {error.start + 1} is not UTF-8") from None
    return read(text, model)


def _csv(text: str, model: type[BaseModel]) -> Records:
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(rows, [])]
        _check_header(header, model)
        for number, row in enumerate(filter(None, rows), 1):  # a line without any cell is no record
            if len(row) == len(header):
                yield number, {name: cell for name, cell in zip(header, row, strict=True) if cell != ""}
            else:
                yield number, UnreadableError(f"{len(row)} cells under {len(header)} columns (line {rows.line_num})")
    except csv.Error as error:
        raise UnreadableError(f"line {rows.line_num} is not CSV: {error}") from None


def _check_header(header: Sequence[str], model: type[BaseModel]) -> None:
    """Name a missing column once, and not in every record."""
    if not any(header):
        raise UnreadableError("there is no header")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise UnreadableError(f"two columns have the same name: {', '.join(twice)}")
    # A field may be filled from its name or its alias; one with a choice of aliases is left to the records.
    required = {
        name: field.validation_alias or name for name, field in model.model_fields.items() if field.is_required()
    }
    absent = [alias for name, alias in required.items() if isinstance(alias, str) and not {name, alias} & {*header}]
    if absent:
        raise UnreadableError(f"there is no column {', '.join(absent)}")


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
        yaml = import_module("yaml")  # optional: a service that has no such file needs no such library
    except ImportError:
        raise UnreadableError("reading YAML needs PyYAML: uv add pyyaml") from None
    try:
        return _listed(yaml.safe_load(text))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "something"
        raise UnreadableError(f"{where} is not YAML") from None


def _listed(records: Any) -> Records:
    if not isinstance(records, list):
        raise UnreadableError("is no list of records")
    return iter(enumerate(records, 1))


_FORMATS: dict[str, Callable[[str, type[BaseModel]], Records]] = {
    ".csv": _csv, ".json": _json, ".jsonl": _jsonl, ".yaml": _yaml, ".yml": _yaml,
}  # fmt: skip
