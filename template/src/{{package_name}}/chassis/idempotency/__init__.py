"""Idempotency keys: a request that is repeated with its `Idempotency-Key` gets the stored response and changes nothing.

The header is that of draft-ietf-httpapi-idempotency-key-header-07, for POST and PATCH. It is optional.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import partial
from hashlib import sha256
from typing import NamedTuple, Protocol

import orjson
import structlog
from pydantic import Field

from .. import errors, request_context
from ..app import ASGIApp, Chassis, Message, Receive, Scope, Send
from ..settings import BaseChassisSettings
from ..web import timeouts

_METHODS = ("POST", "PATCH")
# A string of a structured field (RFC 9651), or the same without quotes, as most clients send it.
_KEY = re.compile(rb'("?)([\x21\x23-\x7e]{1,255})\1')
# A response is held back until it is stored, so that an immediate repetition finds it.
_MAX_RESPONSE_BYTES = 256_000
# Headers that identify a caller whom no authenticator knows. A cookie may identify a session.
_CREDENTIALS = (b"authorization", b"x-api-key", b"cookie")
# Statuses of records without a response: the request is running, or its response was not stored.
_RUNNING, _NOT_STORED = 0, 1

log = structlog.get_logger(__name__)


class Settings(BaseChassisSettings):
    """Idempotency keys"""

    idempotency_ttl_seconds: float = Field(
        86_400, gt=0, description="How long a response is stored for a client that repeats its request."
    )


class Record(NamedTuple):
    """A request with a key, and its response."""

    fingerprint: str
    status: int = _RUNNING
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def encode(self) -> bytes:
        return orjson.dumps(self[:3]) + b"\n" + self.body

    @classmethod
    def decode(cls, stored: bytes) -> Record:
        head, _, body = stored.partition(b"\n")
        fingerprint, status, headers = orjson.loads(head)
        return cls(fingerprint, status, headers, body)


class Store(Protocol):
    """Stores records on the event loop."""

    async def begin(self, name: str, record: bytes, ttl_seconds: float) -> bytes | None:
        """Store a record if there is none of this name, in one step, and return the one that was there.

        Raises:
            UnavailableError: The store is unavailable.
        """

    async def finish(self, name: str, record: bytes | None, ttl_seconds: float) -> bool:
        """Replace the record, or delete it if `record` is None, and return whether that succeeded."""


class IdempotentRequests:
    """An ASGI middleware that runs each request with a key once."""

    def __init__(self, app: ASGIApp, store: Store, ttl_seconds: float, running_seconds: float) -> None:
        """Wrap an application. A request that has not ended after `running_seconds` counts as crashed."""
        self._app = app
        self._store = store
        self._ttl_seconds = ttl_seconds
        self._running_seconds = running_seconds

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http" and scope["method"] in _METHODS:
            headers = dict(scope["headers"])
            if b"idempotency-key" in headers:
                return self._serve_once(scope, headers, receive, send)
        return self._app(scope, receive, send)

    async def _serve_once(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, send: Send) -> None:
        name = _name(scope, headers)
        body = await _whole_body(receive)
        fingerprint = sha256(body).hexdigest()
        stored = await self._store.begin(name, Record(fingerprint).encode(), self._running_seconds)
        if stored is not None:
            await _repeat(Record.decode(stored), fingerprint, send)
            return
        recorder = _Recorder(send, fingerprint, partial(self._finish, name))
        try:
            await self._app(scope, _received(body, receive), recorder.send)
        finally:
            if not recorder.is_finished:  # the application has failed, or was cancelled
                await recorder.finish(None)

    async def _finish(self, name: str, record: Record | None) -> None:
        if not await self._store.finish(name, record and record.encode(), self._ttl_seconds):
            log.warning("idempotent_response_not_stored")


class _Recorder:
    """Holds a response back until it is stored."""

    def __init__(self, send: Send, fingerprint: str, store: Callable[[Record | None], Awaitable[None]]) -> None:
        self.is_finished = False
        self._send = send
        self._fingerprint = fingerprint
        self._store = store
        self._messages: list[Message] = []
        self._bytes = 0

    async def send(self, message: Message) -> None:
        if self.is_finished:
            await self._send(message)
            return
        self._messages.append(message)
        self._bytes += len(message.get("body", b""))
        if self._bytes > _MAX_RESPONSE_BYTES:
            await self.finish(Record(self._fingerprint, _NOT_STORED))
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            await self.finish(self._record())
        else:
            return
        for held_back in self._messages:
            await self._send(held_back)

    def _record(self) -> Record | None:
        start, *parts = self._messages
        if start["status"] >= 400:
            return None
        headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in start.get("headers", ()))
        return Record(self._fingerprint, start["status"], headers, b"".join(part.get("body", b"") for part in parts))

    async def finish(self, record: Record | None) -> None:
        """Store a record. A request that has failed may be repeated, unless it has committed something."""
        self.is_finished = True
        context = request_context.current()
        if record is None and context is not None and context.committed:
            record = Record(self._fingerprint, _NOT_STORED)
        await self._store(record)


def _name(scope: Scope, headers: dict[bytes, bytes]) -> str:
    """Return the name of a record: a key belongs to one operation and one caller."""
    key = _KEY.fullmatch(headers[b"idempotency-key"])
    if key is None:
        raise errors.BadRequestError("The Idempotency-Key must be 1 to 255 visible ASCII characters, such as a UUID.")
    context = request_context.current()
    caller = (context.user_id or "").encode() if context else b""
    if context and context.principal:  # an API key and an access token may have the same id
        caller = f"{context.principal.kind}\n{context.principal.id}".encode()
    if not caller:
        caller = b"\n".join(b"%b:%b" % header for header in scope["headers"] if header[0] in _CREDENTIALS)
    parts = (scope["method"].encode(), scope["path"].encode(), scope.get("query_string", b""), caller, key[2])
    return sha256(b"".join(b"%d:%b" % (len(part), part) for part in parts)).hexdigest()


async def _repeat(record: Record, fingerprint: str, send: Send) -> None:
    """Send the stored response."""
    if record.fingerprint != fingerprint:
        raise errors.ValidationError(
            "This Idempotency-Key was sent with another body. Use a new key for a new request."
        )
    if record.status == _RUNNING:
        raise errors.ConflictError("The request with this Idempotency-Key is running.", headers={"retry-after": "1"})
    if record.status == _NOT_STORED:
        raise errors.ConflictError("The request with this Idempotency-Key has run, and its response was not stored.")
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in record.headers]
    headers.append((b"idempotency-replayed", b"true"))
    await send({"type": "http.response.start", "status": record.status, "headers": headers})
    await send({"type": "http.response.body", "body": record.body})


async def _whole_body(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise errors.BadRequestError("The request ended early.")
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _received(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` function that returns the body first."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again


def install(chassis: Chassis, store: Store) -> None:
    """Run each request with a key once, with a store of responses."""
    ttl_seconds = chassis.settings_as(Settings).idempotency_ttl_seconds
    # A commit extends the deadline once. Afterwards nothing is committed any more.
    running_seconds = 3 * chassis.settings_as(timeouts.Settings).request_timeout_seconds
    chassis.asgi_middleware.append(lambda app: IdempotentRequests(app, store, ttl_seconds, running_seconds))
