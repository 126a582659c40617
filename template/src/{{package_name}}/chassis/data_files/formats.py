"""The formats of data files. Each reader yields the records one by one with their numbers.

For a malformed record a reader yields an `UnreadableError` and continues. For a malformed file it raises one.
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
