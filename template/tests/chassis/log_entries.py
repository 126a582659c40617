"""Reads log entries, each of which must match docs/log-schema.json."""

from __future__ import annotations

import json
from typing import Any

import fastjsonschema

from ..package import ROOT

_validate = fastjsonschema.compile(json.loads((ROOT / "docs/log-schema.json").read_text(encoding="utf-8")))


def parse(line: str | bytes) -> dict[str, Any]:
    """Return the entry of a line.

    Raises:
        JSONDecodeError: The line is not JSON.
        JsonSchemaValueException: The entry does not match the schema; the message names the field.
    """
    entry: dict[str, Any] = _validate(json.loads(line))
    return entry
