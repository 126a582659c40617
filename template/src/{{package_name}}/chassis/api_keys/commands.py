"""The commands `api-keys create`, `list` and `revoke`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from ..settings import ServiceSettings, load, view
from . import NAME, SCOPE, ApiKey, digest_of, new_key, utc_now

if TYPE_CHECKING:
    from ..cli import Program

_MAX_DAYS = 3650
_MAX_SCOPES_LENGTH = 2000


class KeyStore(Protocol):
    """Where the keys are stored. `add` and `remove` return a sentence for the operator, or nothing."""

    def all(self) -> list[ApiKey]: ...

    def add(self, key: ApiKey) -> str: ...

    def remove(self, key: ApiKey) -> str: ...


# Calls a function with the store of a service and returns the exit code.
Run = Callable[[Any, Callable[[KeyStore], int]], int]


def add_commands(subparsers: Any, run: Run) -> None:
    """Add `api-keys` and its actions to the commands of the service."""
    actions = subparsers.add_parser("api-keys", help="create, list and revoke API keys").add_subparsers(
        required=True, metavar="ACTION"
    )
    create = actions.add_parser("create", help="create a key and print it once")
    create.add_argument("name", type=_name, help="the name of the client, logged as `user_id` with its requests")
    create.add_argument("--scopes", type=_scopes, default=frozenset(), metavar="A,B", help="what the key allows")
    create.add_argument("--expires-days", type=_days, default=90, metavar="DAYS", help="90 by default")
    create.set_defaults(run=lambda program, options: run(program, lambda store: _create(store, program, options)))
    show = actions.add_parser("list", help="list ids, names, scopes and dates of the keys, without their values")
    show.set_defaults(run=lambda program, _options: run(program, _list))
    revoke = actions.add_parser("revoke", help="revoke a key")
    revoke.add_argument("id", help="its id, which `list` shows")
    revoke.set_defaults(run=lambda program, options: run(program, lambda store: _revoke(store, options.id)))


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a name; use up to 64 letters, digits and any of . _ -")
    return text


def _scopes(text: str) -> frozenset[str]:
    scopes = frozenset(part.strip() for part in text.split(",") if part.strip())
    for scope in scopes:
        if not SCOPE.fullmatch(scope):
            raise argparse.ArgumentTypeError(f"{scope!r} is not a scope; use the form notes:read")
    if len(" ".join(scopes)) > _MAX_SCOPES_LENGTH:
        raise argparse.ArgumentTypeError(f"the scopes are longer than {_MAX_SCOPES_LENGTH} characters")
    return scopes


def _days(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MAX_DAYS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of days from 1 to {_MAX_DAYS}")
    return int(text)


def _create(store: KeyStore, program: Program, options: argparse.Namespace) -> int:
    prefix = view(load(program.settings), ServiceSettings).service_name
    key, now = new_key(prefix), utc_now()
    # A key is valid until the end of its last day in UTC.
    expires_at = datetime.combine(now.date() + timedelta(days=options.expires_days + 1), time.min, UTC)
    said = store.add(ApiKey(digest_of(key), options.name, options.scopes, expires_at, now))
    print(key)
    scopes = ", ".join(sorted(options.scopes)) or "none, so a route that requires one responds with 403"
    note = f"This key is shown only once. It expires on {expires_at:%Y-%m-%d}. Its scopes: {scopes}."
    print(note, file=sys.stderr)
    if said:
        print(said, file=sys.stderr)
    return 0


def _list(store: KeyStore) -> int:
    rows = [("ID", "NAME", "SCOPES", "EXPIRES", "LAST USED")]
    for key in sorted(store.all(), key=lambda key: (key.name, key.expires_at)):
        used = f"{key.last_used_at:%Y-%m-%d %H:%M}" if key.last_used_at else "-"
        rows.append((key.id, key.name, ",".join(sorted(key.scopes)) or "-", f"{key.expires_at:%Y-%m-%d}", used))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _revoke(store: KeyStore, key_id: str) -> int:
    for key in store.all():
        if key.id == key_id:
            print(store.remove(key) or f"The key {key.id} of {key.name} is revoked.")
            return 0
    print(f"There is no key with the id {key_id}; `api-keys list` shows all ids.", file=sys.stderr)
    return 1
