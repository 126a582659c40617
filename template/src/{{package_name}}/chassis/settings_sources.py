"""Checks what settings are read from: the file `.env`, files in `/run/secrets`, and the names of variables."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from difflib import get_close_matches
from pathlib import Path

# A line of `.env`: the name, and the value with its quotes and its comment.
_LINE = re.compile(r"^[ \t]*(?:export[ \t]+)?(\w+)[ \t]*=[ \t]*(.*?)[ \t]*$", re.MULTILINE)
# A value that is one quoted text, except keywords of a Content-Security-Policy; and a value with a comment after it.
_QUOTED = re.compile(r"""(?!'(?:self|none)'$)(["'])(?:(?!\1).)*\1(\s+#.*)?""", re.DOTALL)
_COMMENTED = re.compile(r"""^(((["'])(?:\\.|(?!\3).)*\3)?+.*?)\s+#.*""")


def without_quotes(value: str) -> str:
    """Return a value without spaces around it, which only some readers of `.env` files remove.

    Raises:
        ValueError: The value is quoted. Shells, Compose and this service drop quotes, `docker run --env-file` does not.
    """
    text = value.strip()
    if _QUOTED.fullmatch(text):
        raise ValueError("the quotes are part of the value; remove them, because `docker run --env-file` keeps quotes")
    return text


def unreadable(names: Collection[str], env_file: Path | None, secrets_dir: Path | None) -> list[str]:
    """Return a sentence for each file that should hold settings and cannot be read as text."""
    try:
        secrets = [path for path in secrets_dir.iterdir() if path.name.upper() in names] if secrets_dir else []
    except OSError as error:
        return [
            f"{secrets_dir}: cannot be read ({error.strerror}); make it a directory that user {os.geteuid()} may read"
        ]
    files = [*([env_file] if env_file and env_file.exists() else []), *secrets]
    return [sentence for path in files if (sentence := _fault(path))]


def _fault(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        return f"{path}: cannot be read ({error.strerror}); make it a file that user {os.geteuid()} may read"
    except UnicodeDecodeError:
        return f"{path}: is not text in UTF-8; save it in this encoding"
    return f"{path}: begins with a byte order mark; save it as UTF-8 without one" if text.startswith("\ufeff") else ""


def ambiguous(names: Collection[str], env_file: Path | None) -> list[str]:
    """Return a sentence for each setting in `.env` whose value Compose and this service read differently."""
    return [
        f"{name}: Compose replaces `$` in {env_file}; write the value in single quotes, without `${{`"
        for name, value in _lines(env_file)
        if name in names
        and "$" in _COMMENTED.sub(r"\1", value, 1)
        and not (value.startswith("'") and "${" not in value)
    ]


def warnings(names: Collection[str], env_file: Path | None) -> list[str]:
    """Return a sentence for each variable that looks like a misspelt setting, and for each comment after a value."""
    lines = _lines(env_file)
    found = [
        f"{name} in {env_file}: `docker run --env-file` takes the comment as part of the value; move it to its own line"
        for name, value in lines
        if name in names and (_COMMENTED.match(value) or value.startswith("# "))
    ]
    in_file = {name for name, _ in lines} - set(names)
    for name in sorted(in_file):
        longer = [known for known in names if "_" in name and known.startswith(f"{name}_")]
        found += _misspelt(f"{name} in {env_file}", longer or get_close_matches(name, names, 1, 0.85))
    for name in sorted(os.environ.keys() - in_file - set(names)):
        # Other programs have variables too, so only names that are nearly a setting are reported.
        found += _misspelt(name, get_close_matches(name.upper(), names, 1, 0.9) if name.upper() not in names else [])
    return found


def _misspelt(name: str, nearest: list[str]) -> list[str]:
    return [f"{name} is not a setting; the nearest one is {nearest[0]}"] if nearest else []


def _lines(env_file: Path | None) -> list[tuple[str, str]]:
    if env_file is None or not env_file.is_file():
        return []
    return [(name.upper(), value) for name, value in _LINE.findall(env_file.read_text(encoding="utf-8"))]
