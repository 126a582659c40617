"""The broadcaster: one call sends a message to every client in a room, and a slow client does not delay the others.

Each client has a bounded queue and a task that sends from it. All queues share one copy of a message.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any, Protocol

import orjson

from .. import request_context
from ..app import Chassis, Message
from ..errors import UnauthenticatedError, UnavailableError, ValidationError
from ..instrumentation import Measurement
from ..web.policy import LimitSettings
from . import Settings

# Close codes (RFC 6455, 7.4.1, and IANA's registry). Those from 4000 on belong to applications.
_NORMAL, _POLICY_VIOLATION, _TRY_AGAIN_LATER, _EXPIRED = 1000, 1008, 1013, 4401
# How long the end of a handler waits for the messages that are still queued.
_FLUSH_SECONDS = 1.0
_MAX_ROOMS = 100
# The system's clock may be set meanwhile, so the time until an expiry is computed again after this time.
_MAX_TIMER_SECONDS = 60.0


class WebSocket(Protocol):
    """The methods of a framework's WebSocket that the broadcaster uses. Starlette's has them."""

    async def accept(self, subprotocol: str | None = None) -> None: ...

    async def receive(self) -> Message: ...

    async def send(self, message: Message) -> None: ...

    async def close(self, code: int = 1000, reason: str | None = None) -> None: ...


class Broadcaster:
    """The WebSockets of this process, by room: `chassis.get(Broadcaster)`. Use it only on the event loop.

    Args:
        settings: The settings of the service.
        clock: Returns the time in seconds since 1970.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self.clock = clock
        # Sends a message to the other replicas, if they share a store.
        self.publish: Callable[[str, Message], Awaitable[None]] | None = None
        self.rooms: dict[str, dict[Connection, None]] = {}
        self.connections = 0
        self.sent = 0
        self.closed = Counter[str](slow=0, too_fast=0, expired=0)

    @asynccontextmanager
    async def join(
        self, websocket: WebSocket, *rooms: str, expires_at: datetime | None = None, subprotocol: str | None = None
    ) -> AsyncIterator[Connection]:
        """Accept a WebSocket and add it to rooms: `async with broadcaster.join(websocket, "news") as connection:`.

        The connection is closed at the end of the block. If the client is too slow or has disconnected, or if its
        credentials expire, the block is interrupted at its current `await`, and the code after the block runs.

        Args:
            websocket: The WebSocket, before `accept`.
            rooms: The rooms to join.
            expires_at: When to close the connection with 4401 (aware), by default when the caller's credentials expire.
            subprotocol: The subprotocol to accept.

        Raises:
            UnavailableError: This process serves `WEBSOCKET_MAX_CONNECTIONS` already; the client gets 503.
            UnauthenticatedError: The credentials have expired; the client gets 401.
            ValidationError: The name of a room contains a lone surrogate; the client gets 422.
        """
        expires_at = self._admit(rooms, expires_at or _expiry_of_the_caller())
        self.connections += 1
        try:
            await websocket.accept(subprotocol)
            async with Connection(websocket, self).run() as connection:
                for room in rooms:
                    connection.join(room)
                connection.expire_at(expires_at)
                yield connection
        finally:
            self.connections -= 1

    def _admit(self, rooms: Iterable[str], expires_at: datetime | None) -> datetime | None:
        """Return when the connection expires, or reject the handshake."""
        for room in rooms:
            _check_room(room)
        if self.connections >= self.settings.websocket_max_connections:
            raise UnavailableError("Too many WebSockets are open.")
        if expires_at is not None and expires_at.timestamp() <= self.clock():
            raise UnauthenticatedError("The credentials have expired.")
        return expires_at

    async def send(self, room: str, message: Any) -> None:
        """Send a message to all clients in a room, at most once.

        Args:
            room: The name of the room; it may have no clients.
            message: A text, bytes, or anything that JSON can hold.

        Raises:
            TypeError: The message is none of these.
            ValidationError: The name of the room contains a lone surrogate.
        """
        _check_room(room)
        frame = to_frame(message)
        self.deliver(room, frame)
        await asyncio.sleep(0)  # the tasks of the clients send, so that a loop of calls fills no queue
        if self.publish is not None:
            await self.publish(room, frame)

    def deliver(self, room: str, frame: Message) -> None:
        """Queue a message for the clients of this process."""
        for connection in list(self.rooms.get(room, ())):
            connection.push(frame)

    def measure(self) -> Iterator[Measurement]:
        """Return the number of connections and messages."""
        yield Measurement("websocket.connections", "Open WebSockets in the broadcaster.", self.connections)
        description = "Messages sent to clients; one message to ten clients counts ten times."
        yield Measurement("websocket.messages.sent", description, self.sent, kind="counter")
        for cause, count in self.closed.items():
            description = "WebSockets closed because the client was too slow or too fast, or its credentials expired."
            yield Measurement("websocket.closed", description, count, {"cause": cause}, kind="counter")


class Connection:
    """One client. `async for message in connection` yields its messages until it disconnects or is closed."""

    def __init__(self, websocket: WebSocket, broadcaster: Broadcaster) -> None:
        self._websocket = websocket
        self._broadcaster = broadcaster
        self._queue = asyncio.Queue[Message](broadcaster.settings.websocket_queue_messages)
        self._rooms: set[str] = set()
        self._is_open = True
        self._interrupt = asyncio.timeout(None)
        # The close frame to send at the end, or None if the client has disconnected.
        self._close_frame: tuple[int, str] | None = (_NORMAL, "")
        self._expires_at: datetime | None = None
        self._expiry: asyncio.TimerHandle | None = None
        # A token bucket for the messages of the client.
        self._rate = self._tokens = float(broadcaster.settings.websocket_max_messages_per_second)
        self._filled_at = broadcaster.clock()

    def join(self, room: str) -> None:
        """Add the client to one more room.

        Raises:
            ValidationError: The client is in 100 rooms already, or the name contains a lone surrogate.
        """
        _check_room(room)
        if len(self._rooms) >= _MAX_ROOMS and room not in self._rooms:
            raise ValidationError(f"A WebSocket may be in at most {_MAX_ROOMS} rooms.")
        if self._is_open:
            self._rooms.add(room)
            self._broadcaster.rooms.setdefault(room, {})[self] = None

    def leave(self, room: str) -> None:
        """Remove the client from a room."""
        self._rooms.discard(room)
        clients = self._broadcaster.rooms.get(room, {})
        clients.pop(self, None)
        if not clients:
            self._broadcaster.rooms.pop(room, None)

    async def send(self, message: Any) -> None:
        """Send a message to this client alone. While its queue is full, this waits."""
        await self._queue.put(to_frame(message))

    def close(self, code: int = _NORMAL, reason: str = "") -> None:
        """End the block of `join`, and close the connection with this code."""
        if self._is_open:
            self._end((code, reason))
            self._interrupt.reschedule(asyncio.get_running_loop().time())

    def expire_at(self, when: datetime | None) -> None:
        """Close the connection with 4401 at this time, such as the expiry of a new token that the client has sent."""
        self._expires_at = when
        self._check_expiry()

    def push(self, frame: Message) -> None:
        """Queue a message for the client, or close its connection if the queue is full."""
        try:
            self._queue.put_nowait(frame)
        except asyncio.QueueFull:
            self._broadcaster.closed["slow"] += 1
            self.close(_TRY_AGAIN_LATER, "too many messages are waiting")

    @asynccontextmanager
    async def run(self) -> AsyncIterator[Connection]:
        """Send the queued messages while the block runs, and close the connection after it."""
        writer = asyncio.create_task(self._write())
        try:
            async with self._interrupt:
                yield self
                await self._flush()
        except TimeoutError:
            if not self._interrupt.expired():
                raise
        finally:
            self._end(self._close_frame)
            writer.cancel()
        if self._close_frame is not None:
            await self._websocket.close(*self._close_frame)

    def __aiter__(self) -> Connection:
        return self

    async def __anext__(self) -> str | bytes:
        message: Message = {"type": "websocket.disconnect"}
        if self._is_open:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                self._end(None)
            elif not self._take_token():
                self._broadcaster.closed["too_fast"] += 1
                self._end((_POLICY_VIOLATION, "too many messages per second"))
        if not self._is_open:
            raise StopAsyncIteration
        text: str | None = message.get("text")
        return message["bytes"] if text is None else text

    def _take_token(self) -> bool:
        now = self._broadcaster.clock()
        self._tokens = min(self._rate, self._tokens + max(0.0, now - self._filled_at) * self._rate)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _check_expiry(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        if self._expires_at is None or not self._is_open:
            return
        left_seconds = self._expires_at.timestamp() - self._broadcaster.clock()
        if left_seconds <= 0:
            self._broadcaster.closed["expired"] += 1
            self.close(_EXPIRED, "the credentials have expired")
            return
        loop = asyncio.get_running_loop()
        self._expiry = loop.call_later(min(left_seconds, _MAX_TIMER_SECONDS), self._check_expiry)

    def _end(self, close_frame: tuple[int, str] | None) -> None:
        """Leave all rooms and accept no more messages. The first reason to close counts."""
        if not self._is_open:
            return
        self._is_open = False
        self._close_frame = close_frame
        for room in list(self._rooms):
            self.leave(room)
        if self._expiry is not None:
            self._expiry.cancel()

    async def _write(self) -> None:
        while True:
            frame = await self._queue.get()
            try:
                await self._websocket.send(frame)
            except Exception:  # the client has disconnected; each framework has its own exception for this
                self.close()
                self._close_frame = None
                return
            self._broadcaster.sent += 1
            self._queue.task_done()

    async def _flush(self) -> None:
        """Wait for the messages that are still queued."""
        if self._is_open:
            with suppress(TimeoutError):
                async with asyncio.timeout(_FLUSH_SECONDS):
                    await self._queue.join()


def _expiry_of_the_caller() -> datetime | None:
    """Return when the credentials of the handshake expire, if it had valid ones."""
    context = request_context.current()
    return None if context is None or context.principal is None else context.principal.expires_at


def _check_room(room: str) -> None:
    """Reject a name that is not valid Unicode. It may come from JSON, and cannot be sent to other processes."""
    try:
        room.encode()
    except UnicodeEncodeError:
        raise ValidationError("The name of the room contains a lone surrogate; use valid Unicode.") from None


def to_frame(message: Any) -> Message:
    """Return the ASGI message for a text, bytes, or anything that JSON can hold.

    Raises:
        TypeError: The message is none of these, or a text in it contains a lone surrogate.
        UnicodeEncodeError: The text contains a lone surrogate.
    """
    if isinstance(message, bytes):
        return {"type": "websocket.send", "bytes": message}
    text = message if isinstance(message, str) else orjson.dumps(message).decode()
    text.encode()  # raises here and not in the task of each client
    return {"type": "websocket.send", "text": text}


def install(chassis: Chassis) -> Broadcaster:
    """Provide the broadcaster, and set the limits of the server for WebSockets."""
    settings = chassis.settings_as(Settings)
    max_body_bytes = chassis.settings_as(LimitSettings).max_request_body_bytes
    broadcaster = Broadcaster(settings)
    chassis.provide(broadcaster)
    chassis.measurements.append(broadcaster.measure)
    chassis.server_options.update(
        ws_max_size=min(settings.websocket_max_message_bytes, max_body_bytes),
        ws_ping_interval=settings.websocket_ping_seconds,
        ws_ping_timeout=settings.websocket_ping_seconds,
        # Compression would run once for each client.
        ws_per_message_deflate=False,
    )
    return broadcaster
