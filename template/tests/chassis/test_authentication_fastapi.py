"""Authentication with FastAPI: the OpenAPI document, and the handshakes of WebSockets."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from .conftest import Start
from .test_authentication import PATH, install


def test_openapi_document_has_the_scheme_and_the_scopes(start: Start) -> None:
    """The scheme gives `/docs` its button Authorize."""
    document = start(install=install).get("/openapi.json").json()
    scheme = document["components"]["securitySchemes"]["bearer"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    operations = document["paths"][PATH]
    assert set(operations["post"]["security"][0]["bearer"]) == {"notes:read", "notes:write"}
    assert "security" not in document["paths"]["/api/things"]["post"]


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
