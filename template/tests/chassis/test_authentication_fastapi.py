"""Authentication with FastAPI: the OpenAPI document, and the handshakes of WebSockets."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI

from ..package import module
from .conftest import Start, settings_for_tests
from .in_process import open_client
from .test_authentication import PATH, bearer, install
from .test_errors import assert_is_problem


@pytest.mark.parametrize(
    ("path", "more"), [(PATH, set()), (f"{PATH}-by-dependencies", set()), (f"{PATH}-twice", {"notes:admin"})]
)
def test_openapi_document_has_the_scheme_and_the_scopes(start: Start, path: str, more: set[str]) -> None:
    """The scheme gives `/docs` its button Authorize. An operation requires all of its scopes."""
    document = start(install=install).get("/openapi.json").json()
    scheme = document["components"]["securitySchemes"]["bearer"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    operations = document["paths"][path]
    assert [set(required["bearer"]) for required in operations["get"]["security"]] == [{"notes:read", *more}]
    assert [set(required["bearer"]) for required in operations["post"]["security"]] == [
        {"notes:read", "notes:write", *more}
    ]
    assert "security" not in document["paths"]["/api/things"]["post"]


@pytest.mark.parametrize("path", [PATH, f"{PATH}-by-dependencies"])
def test_scopes_do_not_depend_on_the_class_of_the_route(start: Start, path: str) -> None:
    client = start(install=install)
    headers = [bearer(token) for token in ("invented", "guest", "reader", "writer")]
    assert [client.get(path, headers=one).status_code for one in headers] == [401, 403, 200, 200]
    assert [client.post(path, headers=one).status_code for one in headers] == [401, 403, 403, 200]


def test_scopes_of_an_included_router_are_required_as_well(start: Start) -> None:
    response = start(install=install).get(f"{PATH}-twice", headers=bearer("writer"))
    assert_is_problem(response, 403, "PERMISSION_DENIED")
    assert "notes:admin" in response.headers["www-authenticate"]


def test_copy_of_a_route_requires_the_same_scopes() -> None:
    """A library may build routes again from the attributes of others."""
    scopes = module("chassis.authentication.fastapi")
    router = APIRouter(route_class=scopes.ScopedRoute, dependencies=[scopes.require_scope("notes:read")])
    router.get("/original")(lambda: None)
    (original,) = router.routes
    app = FastAPI()
    module("chassis.web.fastapi").install(app, settings_for_tests(), module("chassis.features").FEATURES)
    app.add_api_route("/copy", original.endpoint, dependencies=original.dependencies)  # type: ignore[attr-defined]
    with open_client(app) as client:
        assert client.get("/copy").status_code == 401


def test_body_of_a_request_without_credentials_is_not_read(start: Start) -> None:
    """The caller learns nothing about the body that the route expects."""
    client = start(install=install)
    malformed = {"content": b"{", "headers": {"content-type": "application/json"}}
    assert client.post(PATH, **malformed).status_code == 401
    malformed["headers"] |= bearer("writer")
    assert client.post(PATH, **malformed).status_code == 400


def handshake(start: Start, *headers: tuple[str, str]) -> list[dict[str, Any]]:
    """Open a WebSocket, and return everything that the service sends before its first message is answered."""
    chassis: list[Any] = []
    # Without a rate limit, because the handshake runs on another event loop than the connections to Redis.
    start(install=lambda one: (install(one), chassis.append(one)), rate_limit_enabled=False)
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    raw = [(name.encode(), value.encode()) for name, value in (("host", "localhost"), *headers)]
    extensions: dict[str, Any] = {"websocket.http.response": {}}
    scope = {"type": "websocket", "path": f"{PATH}/socket", "headers": raw, "query_string": b"", "scheme": "ws"}
    scope |= {"client": ("127.0.0.1", 1), "subprotocols": [], "extensions": extensions, "asgi": {"version": "3.0"}}
    asyncio.run(chassis[0].asgi(scope, receive, send))
    return sent


@pytest.mark.parametrize(
    "header", [("authorization", "Bearer reader"), ("sec-websocket-protocol", "v1, bearer.reader")], ids=lambda h: h[0]
)
def test_handshake_with_a_token_is_accepted(start: Start, header: tuple[str, str]) -> None:
    """Browsers send the token as a subprotocol. The response never names it."""
    accepted, message, _ = handshake(start, header)
    assert (accepted["type"], accepted["subprotocol"]) == ("websocket.accept", "v1")
    assert message["text"] == "reader"


@pytest.mark.parametrize(("token", "status"), [("invented", 401), ("guest", 403), (None, 401)])
def test_handshake_without_a_valid_token_is_rejected(start: Start, token: str | None, status: int) -> None:
    """The client gets an error response instead of a connection."""
    headers = [("authorization", f"Bearer {token}")] if token else []
    assert handshake(start, *headers)[0]["status"] == status
