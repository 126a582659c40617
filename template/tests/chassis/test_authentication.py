"""Authentication: the responses to requests without valid credentials or scopes, whatever checks the credentials."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from ..package import CHASSIS, module
from .conftest import Logs, Start
from .test_errors import assert_is_problem

authentication = module("chassis.authentication")
errors = module("chassis.errors")

PATH = "/api/protected"
# The scopes of the tokens that `check` accepts.
TOKENS = {"reader": {"notes:read"}, "writer": {"notes:read", "notes:write"}, "guest": set[str]()}


def check(context: Any, headers: Mapping[str, str]) -> None:
    """Accept the tokens above. The token `down` cannot be checked."""
    token = authentication.bearer_token(headers)
    if token == "down":
        context.authentication_error = errors.UnavailableError()
    elif token in TOKENS:
        authentication.accept(context, authentication.Principal(token, "test", frozenset(TOKENS[token])))
    elif token is not None:
        authentication.reject(context, "The token is not valid.")


def install(chassis: Any) -> None:
    """Check these tokens only."""
    chassis.authenticators.clear()
    chassis.before_request.clear()
    authentication.add_authenticator(chassis, check)


@pytest.fixture
def client(start: Start) -> httpx.Client:
    return start({"work": lambda: None}, install=install)


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def test_request_without_credentials_gets_401(client: httpx.Client) -> None:
    """The response names the scheme, but no error (RFC 6750, 3.1)."""
    response = client.get(PATH)
    assert_is_problem(response, 401, "UNAUTHENTICATED")
    assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("headers", [{"authorization": "Basic cmVhZGVyOg=="}, [("authorization", "Bearer reader")] * 2])
def test_credentials_of_another_kind_count_as_missing(client: httpx.Client, headers: Any) -> None:
    """Repeated credentials are ambiguous, so none counts."""
    assert client.get(PATH, headers=headers).headers["www-authenticate"] == "Bearer"


def test_invalid_credentials_get_401_with_the_error(client: httpx.Client) -> None:
    response = client.get(PATH, headers=bearer("invented"))
    assert_is_problem(response, 401, "UNAUTHENTICATED")
    assert response.headers["www-authenticate"] == 'Bearer error="invalid_token"'


def test_missing_scope_gets_403_that_names_it(client: httpx.Client) -> None:
    """A route requires its own scopes in addition to those of its router."""
    assert client.get(PATH, headers=bearer("reader")).status_code == 200
    response = client.post(PATH, headers=bearer("reader"))
    assert_is_problem(response, 403, "PERMISSION_DENIED")
    assert re.fullmatch(
        'Bearer error="insufficient_scope", scope="(notes:read )?notes:write"', response.headers["www-authenticate"]
    )
    assert client.get(PATH, headers=bearer("guest")).status_code == 403


def test_credentials_that_cannot_be_checked_get_503(client: httpx.Client) -> None:
    """They may be valid, so a 401 would be wrong."""
    response = client.get(PATH, headers=bearer("down"))
    assert_is_problem(response, 503, "UNAVAILABLE")
    assert int(response.headers["retry-after"]) > 0


def test_caller_is_known_to_the_handler_and_the_log(client: httpx.Client, logs: Logs) -> None:
    """The next request on the connection has its own caller, or none."""
    response = client.post(PATH, headers=bearer("writer"))
    assert (response.status_code, response.json()) == (200, "writer")
    assert client.get(PATH).status_code == 401
    assert [entry.get("user_id") for entry in logs("request_finished")] == ["writer", None]


def test_route_without_scopes_ignores_invalid_credentials(client: httpx.Client) -> None:
    assert client.get("/api/here/work", headers=bearer("invented")).status_code == 200


def test_token_can_be_checked_without_a_request(start: Start) -> None:
    """A WebSocket gets a new token in a message when the old one expires."""
    chassis: list[Any] = []
    start(install=lambda one: (install(one), chassis.append(one)))

    def authenticate(token: str, *scopes: str) -> Any:
        return asyncio.run(authentication.authenticate_token(chassis[0], token, *scopes))

    assert authenticate("reader", "notes:read").id == "reader"
    with pytest.raises(errors.UnauthenticatedError):
        authenticate("invented")
    with pytest.raises(errors.PermissionDeniedError):
        authenticate("reader", "notes:write")


@pytest.mark.skipif(not (CHASSIS / "rate_limit").is_dir(), reason="the service has no rate limit")
def test_only_valid_credentials_have_their_own_rate_limit(start: Start) -> None:
    """Invented credentials are counted by address, so that they do not evade the limit."""
    client = start(install=install, rate_limit_key="api-key", rate_limit_default="2/day")

    def statuses(*tokens: str) -> list[int]:
        return [client.get(PATH, headers=bearer(token)).status_code for token in tokens]

    assert statuses("reader", "reader", "reader") == [200, 200, 429]
    assert statuses("invented", "other", "third") == [401, 401, 429]
    assert statuses("writer") == [200]
