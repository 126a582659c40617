"""Reads log entries, each of which must match docs/log-schema.json."""

from __future__ import annotations

import json
from typing import Any

import fastjsonschema
import orjson

from ..package import ROOT

_validate = fastjsonschema.compile(json.loads((ROOT / "docs/log-schema.json").read_text(encoding="utf-8")))


def parse(line: str | bytes) -> dict[str, Any]:
    """Return the entry of a line.

    Raises:
        JSONDecodeError: The line is not JSON for a strict parser, which accepts neither NaN nor lone surrogates.
        JsonSchemaValueException: The entry does not match the schema; the message names the field.
    """
    entry: dict[str, Any] = _validate(orjson.loads(line))
    return entry
