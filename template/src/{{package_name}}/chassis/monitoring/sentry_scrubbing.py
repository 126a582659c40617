"""Removes secrets and bodies from events before they leave the service."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from ..formats import REDACTED, is_sensitive, redact
from ..settings import BaseChassisSettings, is_secret

# Shorter secrets would also match parts of ordinary words.
_MIN_SECRET_CHARACTERS = 6
_MAX_TEXT_CHARACTERS = 8_192
# The first line of an exception's message says what failed. Libraries append parts of bodies and statements below it.
_MAX_MESSAGE_CHARACTERS = 500

# All patterns below need one of these characters. Most texts of an event are names and ids, without any of them.
_SEPARATOR = re.compile(r"[:=\s]")
_USER_OF_URL = re.compile(r"://[^\s/@]+@")
_QUERY_OF_URL = re.compile(r"(://[^\s?#'\"<>]*)\?[^\s'\"<>]*")
_CREDENTIALS = re.compile(r"\b(Bearer|Basic)\s+[\w.~+/=-]+", re.IGNORECASE)
_HEADER = re.compile(r"\b((?:set-)?cookie|(?:proxy-)?authorization)(['\"]?\s*[:=]\s*)[^\r\n]+", re.IGNORECASE)
_KEY = re.compile(r"""(?<!\w)(\w[\w.-]{0,99})['"]?\s{0,9}[:=]\s{0,9}""")
_VALUE = re.compile(r""""[^"]{0,999}"|'[^']{0,999}'|[^\s,;&)}\]]+""")


class Scrubber:
    """Removes secrets from the events of a service. It knows the names and values of all secret settings."""

    def __init__(self, settings: BaseChassisSettings) -> None:
        cls = type(settings)
        secret_settings = [name for name in cls.model_fields if is_secret(cls, name)]
        self._names = frozenset(secret_settings)
        values = {text for name in secret_settings for text in _secrets_in(getattr(settings, name))}
        longest_first = sorted(values, key=len, reverse=True)
        self._values = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def scrub(self, event: Any, _hint: Any = None) -> Any:
        """Return an event without secrets and without bodies: Sentry's `before_send`."""
        exceptions = event.pop("exception", None)
        event.pop("request", None)
        scrubbed = self._texts(redact(event, self._names))
        if exceptions is not None:
            scrubbed["exception"] = {"values": [self._exception(value) for value in exceptions["values"]]}
        return scrubbed

    def text(self, text: str) -> str:
        """Return a text without the service's secrets, credentials, queries of URLs and values as in `password=...`."""
        text = self._values.sub(REDACTED, text[:_MAX_TEXT_CHARACTERS])
        if not _SEPARATOR.search(text):
            return text
        text = _USER_OF_URL.sub(f"://{REDACTED}@", text)
        text = _QUERY_OF_URL.sub(rf"\1?{REDACTED}", text)
        text = _HEADER.sub(rf"\1\2{REDACTED}", text)
        text = _CREDENTIALS.sub(rf"\1 {REDACTED}", text)
        return self._without_values(text)

    def _without_values(self, text: str) -> str:
        """Return a text without the values of keys that are sensitive."""
        parts, end = [], 0
        for key in _KEY.finditer(text):
            if key.start() >= end and is_sensitive(key[1], self._names):
                value = _VALUE.match(text, key.end())
                parts += [text[end : key.end()], REDACTED]
                end = value.end() if value else key.end()
        return "".join([*parts, text[end:]])

    def _exception(self, value: dict[str, Any]) -> dict[str, Any]:
        first_line = str(value.get("value") or "").partition("\n")[0]
        # The text is cut to its final length later, because a secret that is cut in two would not be recognised.
        scrubbed = self.text(first_line[: 4 * _MAX_MESSAGE_CHARACTERS])
        for frame in (value.get("stacktrace") or {}).get("frames", ()):
            frame.pop("vars", None)
            frame.pop("abs_path", None)
        return {**value, "value": scrubbed[:_MAX_MESSAGE_CHARACTERS]}

    def _texts(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {key: self._texts(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._texts(item) for item in value]
        return value


def _secrets_in(value: Any) -> set[str]:
    """Return the value of a secret setting, and its password if it is a URL."""
    if not isinstance(value, SecretStr):
        return set()
    text = value.get_secret_value()
    try:
        password = urlsplit(text).password or ""
    except ValueError:
        password = ""
    return {found for found in (text, password, unquote(password)) if len(found) >= _MIN_SECRET_CHARACTERS}
