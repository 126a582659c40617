"""API keys: which are accepted, and what is never shown. Other tests cover their storage."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from ..package import module
from .conftest import Logs, Start
from .test_authentication import PATH, bearer
from .test_errors import assert_is_problem

api_keys = module("chassis.api_keys")

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
KEY = api_keys.new_key("orders")
OLD_KEY = api_keys.new_key("orders")
EXPIRED_KEY = api_keys.new_key("orders")


def stored(key: str, name: str = "coffee-app", days: int = 1) -> Any:
    """Return a key as it is stored."""
    return api_keys.ApiKey(api_keys.digest_of(key), name, frozenset({"notes:read"}), NOW + timedelta(days=days))


def install_with(*keys: Any) -> Callable[[Any], None]:
    """Return a function that makes a service accept these keys only, wherever it stores keys."""

    def install(chassis: Any) -> None:
        chassis.authenticators[:] = [api_keys.KeyAuthenticator(keys, lambda: NOW)]

    return install


@pytest.fixture
def client(start: Start) -> httpx.Client:
    return start(install=install_with(stored(KEY), stored(OLD_KEY), stored(EXPIRED_KEY, days=0)))


def test_new_key_has_a_prefix_and_256_random_bits() -> None:
    assert KEY.startswith("orders_")
    assert len(KEY.removeprefix("orders_")) == 43  # 32 bytes in Base64
    assert KEY not in repr(stored(KEY))


@pytest.mark.parametrize("header", ["x-api-key", "authorization"])
def test_valid_key_is_accepted_in_either_header(client: httpx.Client, logs: Logs, header: str) -> None:
    """The log names the client and never contains the key."""
    response = client.get(PATH, headers={"x-api-key": KEY} if header == "x-api-key" else bearer(KEY))
    assert (response.status_code, response.json()) == (200, "coffee-app")
    (entry,) = logs("request_finished")
    assert entry["user_id"] == "coffee-app"
    assert KEY not in str(logs())


def test_two_keys_of_a_client_are_valid_at_once(client: httpx.Client) -> None:
    """A client that rotates its key gets no 401 in between, and stays the same caller."""
    callers = [client.get(PATH, headers=bearer(key)).json() for key in (OLD_KEY, KEY)]
    assert callers == ["coffee-app", "coffee-app"]


def test_invalid_key_gets_401(client: httpx.Client) -> None:
    """Neither length nor encoding makes a difference."""
    for key in (EXPIRED_KEY, KEY[:-1], KEY + "A", KEY.upper(), "", "x", "k" * 100_000, "schlüssel", b"\xff\xfe", "a b"):
        response = client.get(PATH, headers={b"x-api-key": key if isinstance(key, bytes) else key.encode()})
        assert_is_problem(response, 401, "UNAUTHENTICATED")
        assert response.headers["www-authenticate"] == 'Bearer error="invalid_token"'


def test_key_that_was_accepted_is_rejected_once_it_has_expired_or_is_replaced(start: Start) -> None:
    """The service remembers keys that it has checked, but no longer than they are valid."""
    now = [NOW]
    keys = api_keys.KeyAuthenticator([stored(KEY), stored(OLD_KEY, days=2)], lambda: now[0])
    client = start(install=lambda chassis: chassis.authenticators.__setitem__(slice(None), [keys]))

    def statuses() -> list[int]:
        return [client.get(PATH, headers=bearer(key)).status_code for key in (KEY, OLD_KEY)]

    assert statuses() == [200, 200]
    now[0] += timedelta(days=1)
    assert statuses() == [401, 200]
    keys.replace([])
    assert statuses() == [401, 401]


def test_key_with_the_same_id_and_another_hash_is_rejected(start: Start) -> None:
    """The id only finds the key. The whole hash is compared."""
    digest = api_keys.digest_of(KEY)
    other = api_keys.ApiKey(digest[:12] + "0" * 52, "other", frozenset({"notes:read"}), NOW + timedelta(days=1))
    assert start(install=install_with(other)).get(PATH, headers=bearer(KEY)).status_code == 401


def test_key_without_the_scope_gets_403(client: httpx.Client) -> None:
    assert_is_problem(client.post(PATH, headers=bearer(KEY)), 403, "PERMISSION_DENIED")
