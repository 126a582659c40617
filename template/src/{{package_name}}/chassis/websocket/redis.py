"""Messages reach the clients of all processes of the service, over one channel of Redis (publish and subscribe).

Redis stores no messages. While a process is not subscribed, it misses the messages of the others.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import uuid4

import orjson
import structlog

from ..app import Chassis, Message
from ..health.checks import Check, Outcome
from ..instrumentation import Measurement
from ..redis import RedisConnection, cause_of
from . import Settings as Settings
from . import broadcaster
from .broadcaster import Broadcaster

log = structlog.get_logger(__name__)

_MAX_BACKOFF_SECONDS = 2.0
# How long the start waits for the subscription. If Redis is unavailable, the service starts without a subscription.
_START_SECONDS = 1.0


class RedisFanout:
    """Publishes the messages of this process, and delivers those of the others.

    Args:
        connection: The connection for publishing.
        broadcaster: The clients of this process.
        silence_seconds: How long Redis may be silent. After half of it, the subscription sends a ping.
    """

    def __init__(self, connection: RedisConnection, broadcaster: Broadcaster, silence_seconds: float = 5.0) -> None:
        self.subscribed = asyncio.Event()
        self.unpublished = 0
        self._connection = connection
        self._broadcaster = broadcaster
        self._silence_seconds = silence_seconds
        self._channel = f"{connection.namespace}:websocket"
        # A process ignores its own messages, because it has delivered them already.
        self._origin = uuid4().hex
        connection.probes.append(("PUBLISH", self._channel, b""))

    async def publish(self, room: str, frame: Message) -> None:
        """Send a message to the other processes, unless Redis is unavailable."""
        text: str | None = frame.get("text")
        head = orjson.dumps([self._origin, room, text is None])
        message = head + b"\n" + (frame["bytes"] if text is None else text.encode())
        client, channel = self._connection.client, self._channel
        if await self._connection.call("PUBLISH", lambda: client.publish(channel, message), None) is None:
            self.unpublished += 1

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Stay subscribed while the service runs."""
        task = asyncio.create_task(self._stay_subscribed())
        with suppress(TimeoutError):
            await asyncio.wait_for(self.subscribed.wait(), _START_SECONDS)
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task], timeout=self._silence_seconds)

    async def _stay_subscribed(self) -> None:
        backoff_seconds = 0.0
        while True:
            try:
                await self._listen()
            except Exception as error:  # not only those of Redis: this task must not end
                if self.subscribed.is_set():
                    backoff_seconds = 0.0
                    log.warning("websocket_subscription_lost", cause=cause_of(error))
                self.subscribed.clear()
            # The random pause keeps all processes from connecting at once when Redis is available again.
            backoff_seconds = min(_MAX_BACKOFF_SECONDS, 2 * backoff_seconds + 0.1)
            await asyncio.sleep(backoff_seconds * random.uniform(0.5, 1.0))

    async def _listen(self) -> None:
        """Deliver messages until the connection fails.

        Raises:
            RedisError, OSError: Redis is unavailable, or silent for too long.
        """
        client = self._connection.new_client()
        subscription = client.pubsub()
        try:
            async with asyncio.timeout(self._silence_seconds):
                await subscription.subscribe(self._channel)
            is_awaiting_pong = False
            while True:
                async with asyncio.timeout(self._silence_seconds):
                    message = await subscription.get_message(timeout=self._silence_seconds / 2)
                    if message is None and is_awaiting_pong:
                        raise TimeoutError
                    is_awaiting_pong = message is None
                    if message is None:
                        await subscription.ping()
                    elif message["type"] == "subscribe":
                        self._on_subscribed()
                    elif message["type"] == "message":
                        self._deliver(message["data"])
        finally:
            await client.connection_pool.disconnect()

    def _on_subscribed(self) -> None:
        self.subscribed.set()
        log.info("websocket_subscribed")

    def _deliver(self, message: bytes) -> None:
        head, _, body = message.partition(b"\n")
        if not head:  # the probe of the health check
            return
        try:
            origin, room, is_binary = orjson.loads(head)
            frame = broadcaster.to_frame(body if is_binary else body.decode())
        except (TypeError, ValueError):  # another version of the service, or another program
            log.warning("websocket_message_invalid")
            return
        if origin != self._origin:
            self._broadcaster.deliver(str(room), frame)

    def measure(self) -> Iterator[Measurement]:
        """Return the number of messages that other processes did not get."""
        description = "Messages that other processes did not get because Redis was unavailable."
        yield Measurement("websocket.messages.unpublished", description, self.unpublished, kind="counter")


class FanoutCheck(Check):
    """Fails while this process is not subscribed. It is not critical: clients of this process get its messages."""

    def __init__(self, fanout: RedisFanout, broadcaster: Broadcaster) -> None:
        async def probe() -> bool:
            return fanout.subscribed.is_set()

        def details() -> Mapping[str, Any]:
            return {"connections": broadcaster.connections, "unpublished": fanout.unpublished}

        super().__init__("websocket", probe, details=details)

    def evaluate(self, value: Any) -> Outcome:
        error = "not subscribed in Redis; messages of other processes are missing"
        return Outcome() if value else Outcome("error", error)


def install(chassis: Chassis) -> None:
    local = broadcaster.install(chassis)
    fanout = RedisFanout(chassis.get(RedisConnection), local)
    local.publish = fanout.publish
    chassis.health.add(FanoutCheck(fanout, local))
    chassis.measurements.append(fanout.measure)
    chassis.lifespans.append(("websocket", fanout.lifespan))
