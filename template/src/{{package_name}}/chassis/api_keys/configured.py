"""API keys from the setting `API_KEYS`, for a service without a database that commands can write to."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from pydantic import Field, SecretStr, field_validator

from ..app import Chassis
from ..authentication import add_authenticator
from ..settings import BaseChassisSettings, load, view
from . import NAME, SCOPE, ApiKey, KeyAuthenticator, commands

_FORM = "use the form that `api-keys create` prints: name/scope+scope/2027-01-31/hash, separated by commas"


class Settings(BaseChassisSettings):
    """API keys"""

    api_keys: SecretStr = Field(
        SecretStr(""),
        description="The valid keys with name, scopes, expiry and hash, as `api-keys create` prints them, separated "
        "by commas.",
    )

    @field_validator("api_keys")
    @classmethod
    def _are_keys(cls, value: SecretStr) -> SecretStr:
        parse(value.get_secret_value())
        return value


def parse(text: str) -> list[ApiKey]:
    """Return the keys in `API_KEYS`.

    Raises:
        ValueError: The text has another form.
    """
    return [_parse_one(entry) for entry in text.replace("\n", ",").split(",") if entry.strip()]


def _parse_one(entry: str) -> ApiKey:
    try:
        name, scopes, expires, digest = entry.strip().split("/")
        expires_at = datetime.strptime(expires, "%Y-%m-%d").replace(tzinfo=UTC)
        is_hash = len(bytes.fromhex(digest)) == 32
    except ValueError:
        raise ValueError(_FORM) from None
    named = [scope for scope in scopes.split("+") if scope]
    if not NAME.fullmatch(name) or not all(map(SCOPE.fullmatch, named)) or not is_hash:
        raise ValueError(_FORM)
    return ApiKey(digest.lower(), name, frozenset(named), expires_at)


def entry_of(key: ApiKey) -> str:
    """Return a key in the form of `API_KEYS`."""
    return f"{key.name}/{'+'.join(sorted(key.scopes))}/{key.expires_at:%Y-%m-%d}/{key.digest}"


class ConfiguredKeys:
    """The keys of `API_KEYS`. A command cannot change the setting, so it prints the new value."""

    def __init__(self, keys: list[ApiKey]) -> None:
        self._keys = keys

    def all(self) -> list[ApiKey]:
        return self._keys

    def add(self, key: ApiKey) -> str:
        return _change([*self._keys, key])

    def remove(self, key: ApiKey) -> str:
        return _change([other for other in self._keys if other is not key])


def _change(keys: list[ApiKey]) -> str:
    return f"Set this and restart the service:\nAPI_KEYS={','.join(map(entry_of, keys))}"


def install(chassis: Chassis) -> None:
    keys = parse(chassis.settings_as(Settings).api_keys.get_secret_value())
    add_authenticator(chassis, KeyAuthenticator(keys))


def add_commands(subparsers: Any) -> None:
    def run(program: Any, action: Callable[[Any], int]) -> int:
        settings = view(load(program.settings), Settings)
        return action(ConfiguredKeys(parse(settings.api_keys.get_secret_value())))

    commands.add_commands(subparsers, run)
