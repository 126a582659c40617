"""WebSockets: a handshake is a GET request, and accepting it is a response with status 101 (RFC 6455, 4).

A handshake therefore has the same context, limits, hooks and error responses as any other request. The request ends
when the connection ends.
"""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import suppress
from functools import partial

from .. import errors
from ..app import Message, Receive, Scope, Send
from .headers import RawHeaders
from .middleware import ChassisMiddleware
from .policy import Request, RequestHeaders
from .problems import problem_response
from .response import ResponseWriter

# Close codes (RFC 6455, 7.4.1).
_NORMAL, _INVALID_PAYLOAD, _POLICY_VIOLATION, _INTERNAL_ERROR = 1000, 1007, 1008, 1011
# The maximum size of the reason in a close frame (RFC 6455, 5.5).
_MAX_REASON_BYTES = 123


class WebSocketMiddleware(ChassisMiddleware):
    """The middleware for a framework that serves WebSockets."""

    serves_websockets = True

    async def _serve_websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["method"] = "GET"
        scope["scheme"] = "https" if scope.get("scheme") == "wss" else "http"
        context, headers, cors, rejection = self._policy.begin(scope)
        scope["scheme"] = "wss" if context.scheme == "https" else "ws"
        if rejection is None and not _is_allowed_origin(headers, cors):
            rejection = errors.PermissionDeniedError("Pages of this origin may not open WebSockets here.")
        request = Request(context, headers, cors, rejection)
        server = partial(_send_to_server, scope, send)
        writer = _WebSocketWriter(self.chassis, context, self._response_headers, cors, server, self._end)
        await self._serve_request(self._run, scope, receive, request, writer)

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, and close the connection if it has not."""
        await self._app(scope, receive, send)
        with suppress(OSError):  # the client has disconnected
            await send({"type": "websocket.close", "code": _NORMAL})


def _is_allowed_origin(headers: RequestHeaders, cors: RawHeaders) -> bool:
    """Return whether the page may open the WebSocket. Browsers leave this decision to the service.

    The scheme may differ from that of the service, because a proxy may receive HTTPS and forward HTTP.
    """
    origin, host = headers.raw.get(b"origin"), headers.raw.get(b"host", b"").lower()
    is_same = origin in (None, b"http://" + host, b"https://" + host)
    return is_same or (b"access-control-allow-origin", origin) in cors


class _WebSocketWriter(ResponseWriter):
    """Sends the response to a handshake and, if the handshake was accepted, the messages of the application."""

    _is_closed = False

    def send(self, message: Message) -> Awaitable[None]:
        kind: str = message["type"]
        if kind == "websocket.close":
            return self._close(message)
        if self.context.status == 101:
            return self._send(message)
        if kind == "websocket.send":  # an error response has replaced the acceptance
            raise ConnectionResetError("the handshake was rejected")
        if kind == "websocket.accept":
            return super().send({**message, "type": "http.response.start", "status": 101})
        return super().send({**message, "type": kind.removeprefix("websocket.")})

    async def _close(self, message: Message) -> None:
        """Close the connection, or reject a handshake that has no response yet."""
        if not self.context.status:
            is_routed = self.context.route is not None
            await self.replace(errors.PermissionDeniedError() if is_routed else errors.NotFoundError())
        elif self.context.status == 101 and not self._is_closed:
            await self._send({**message, "reason": _short(message.get("reason") or "")})
            self._is_closed = True  # not if the server rejects the code: `send_error` then sends 1011

    async def send_error(self, error: BaseException) -> None:
        """Send the response to an exception, or close the connection if the handshake was accepted."""
        with suppress(OSError):  # the client has disconnected
            if self.context.status != 101:
                await super().send_error(error)
                return
            status = self._chassis.to_service_error(error).status
            code = _INVALID_PAYLOAD if status == 400 else _POLICY_VIOLATION
            if status >= 500:
                problem_response(self._chassis, error)  # logs and reports it
                code = _INTERNAL_ERROR
            await self._close({"type": "websocket.close", "code": code})


def _short(reason: str) -> str:
    """Fit a reason into a close frame: at most 123 bytes of UTF-8. Otherwise the connection would break off."""
    return reason.encode(errors="replace")[:_MAX_REASON_BYTES].decode(errors="ignore")


async def _send_to_server(scope: Scope, send: Send, message: Message) -> None:
    """Send a message of a WebSocket, or a part of the response to its handshake.

    Raises:
        OSError: The connection is closed.
    """
    kind: str = message["type"]
    if not kind.startswith("http."):
        try:
            await send(message)
        except RuntimeError as error:  # uvicorn has closed the connection itself, for example after a ping timeout
            raise ConnectionResetError(str(error)) from error
    elif message.get("status") == 101:
        headers = [pair for pair in message["headers"] if pair[0] != b"connection"]
        await send({"type": "websocket.accept", "subprotocol": message.get("subprotocol"), "headers": headers})
    elif "websocket.http.response" in (scope.get("extensions") or {}):
        await send({**message, "type": f"websocket.{kind}"})
    elif kind == "http.response.start":  # this server sends its own response
        await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
