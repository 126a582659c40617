"""Sends the messages of the outbox on the event loop, on every framework."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog
from sqlalchemy.orm import Session

from ...app import Chassis
from .. import Message, Result
from .. import Settings as ChannelSettings
from ..notifier import Notifier, delivery_id_of, pause_before_retry
from . import BATCH, Claimed, OutboxMessage, Settings, claim, clean_up, finish, postpone, utc_now, whole_seconds

# Calls a function with a session in one unit of work.
Transact = Callable[[Callable[[Session], Any]], Awaitable[Any]]

log = structlog.get_logger(__name__)

# How often the table is read without a commit of this process, for messages of a replica that has crashed.
POLL_SECONDS = 5.0
_CLEAN_UP_INTERVAL = timedelta(hours=1)
# How long to wait before the result of a message is stored again, if the database was unavailable.
STORE_RETRY_SECONDS = 1.0


class Dispatcher:
    """Stores messages with a unit of work, and sends them on the event loop, with one task per channel.

    Args:
        chassis: The service.
        transact: Runs a function in a unit of work.
        after_commit: Calls a function after the commit of a session.
        shared: Whether several replicas of the service share the database.
        clock: Returns the time.
    """

    def __init__(
        self,
        chassis: Chassis,
        transact: Transact,
        after_commit: Callable[[Session, Callable[[], None]], None],
        *,
        shared: bool,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        settings = chassis.settings_as(Settings)
        timeout_seconds = chassis.settings_as(ChannelSettings).notifications_timeout_seconds
        self.notifier = chassis.get(Notifier)
        self._transact = transact
        self._after_commit = after_commit
        self._shared = shared
        self._clock = clock
        self._give_up = timedelta(seconds=settings.notifications_give_up_seconds)
        self._retention = timedelta(days=settings.notifications_retention_days)
        # The lease is longer than an attempt, so it only ends after a crash.
        self._lease = timedelta(seconds=2 * timeout_seconds + 30)
        self._stop_seconds = timeout_seconds + 1
        self._stopping = False
        self._next_clean_up = clock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wakers = {name: asyncio.Event() for name in self.notifier.channels}

    def add(self, session: Session, names: Iterable[str], message: Message, key: str | None) -> dict[str, Result]:
        """Store a message in the transaction of a session.

        If another transaction stores the same key at the same time, the later commit fails as a conflict.
        """
        results: dict[str, Result] = {}
        queued: dict[str, str] = {}
        now = self._clock()
        for name in names:
            row_id = delivery_id_of(name, key)
            if key is not None and session.get(OutboxMessage, row_id) is not None:
                results[name] = Result("duplicate")
                continue
            row = OutboxMessage(id=row_id, channel=name, message=message.encode().decode(), attempts=0)
            row.created_at, row.due_at = now, whole_seconds(now)
            session.add(row)
            queued[name] = row_id
            results[name] = Result("queued")
        if queued:
            session.flush()
            self._after_commit(session, partial(self._queued, queued))
        return results

    def _queued(self, delivery_ids: Mapping[str, str]) -> None:
        """Log the ids of the messages with those of the request, because the other entries have no request."""
        for name, delivery_id in delivery_ids.items():
            log.info("notification_queued", channel=name, delivery_id=delivery_id)
        self.wake()

    def wake(self) -> None:
        """Make the channels read the table now. Any thread may call this."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._set)

    def _set(self) -> None:
        for waker in self._wakers.values():
            waker.set()

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Send until shutdown. Batches that have begun are completed; all other messages stay in the table."""
        self._loop, self._stopping = asyncio.get_running_loop(), False
        tasks = [asyncio.create_task(self._work(name)) for name in self._wakers]
        try:
            yield
        finally:
            self._stopping = True
            self._set()
            self._loop = None
            if tasks:
                _, late = await asyncio.wait(tasks, timeout=self._stop_seconds)
                for task in late:
                    task.cancel()

    async def _work(self, name: str) -> None:
        """Send the messages of one channel, so that a slow one does not delay the others."""
        waker = self._wakers[name]
        while True:
            waker.clear()
            try:
                number = await self.send_due(name)
                await self._clean_up()
            except Exception as error:  # the database is unavailable; the messages wait in it
                log.warning("outbox_unavailable", channel=name, cause=type(error).__name__)
                number = 0
            if self._stopping:
                return
            if number < BATCH:
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_SECONDS):
                        await waker.wait()

    async def _clean_up(self) -> None:
        now = self._clock()
        if now >= self._next_clean_up:
            self._next_clean_up = now + _CLEAN_UP_INTERVAL
            await self._transact(lambda session: clean_up(session, now - self._retention))

    async def send_due(self, name: str) -> int:
        """Send the messages of a channel that are due, up to a batch, and return their number."""
        now = self._clock()
        claimed: list[Claimed] = await self._transact(
            lambda session: claim(session, name, now, self._lease, skip_locked=self._shared)
        )
        results: list[BaseException | None] = []
        while claimed:
            # While the circuit is open, one message at a time: if it is the trial call, the others need its result.
            number = len(claimed) if self.notifier.is_closed(name) else 1
            # If the result of one message cannot be stored, the others must still be completed.
            results += await asyncio.gather(
                *(self._send(name, one) for one in claimed[:number]), return_exceptions=True
            )
            del claimed[:number]
        for result in results:
            if result is not None:
                raise result
        return len(results)

    async def _send(self, name: str, one: Claimed) -> None:
        error = await self.notifier.attempt(name, one.message, one.id)
        now = self._clock()
        if error is None:
            await self._store(partial(finish, claimed=one, now=now, error=None))
        elif error.kind == "rejected" or now - one.created_at >= self._give_up:
            self.notifier.failed(name, error, one.attempts, one.id)
            await self._store(partial(finish, claimed=one, now=now, error=error.error))
        else:
            if error.was_called:  # `circuit_changed` is logged once for all messages
                log.warning(
                    "notification_postponed", channel=name, error=error.error, attempts=one.attempts, delivery_id=one.id
                )
            due_at = now + timedelta(seconds=pause_before_retry(one.attempts, error))
            await self._store(partial(postpone, claimed=one, due_at=due_at, error=error.error))

    async def _store(self, work: Callable[[Session], None]) -> None:
        """Store the result of an attempt. If that fails, the message is sent again, so retry for a while."""
        end = self._clock() + self._lease / 2
        while True:
            try:
                await self._transact(work)
            except Exception:
                if self._stopping or self._clock() >= end:
                    raise
                await asyncio.sleep(STORE_RETRY_SECONDS)
            else:
                return


def install(chassis: Chassis, outbox: Dispatcher) -> None:
    """Let `notify` with a session use this outbox."""
    outbox.notifier.outbox = outbox
    chassis.provide(outbox)
    chassis.lifespans.append(("notifications_outbox", outbox.lifespan))
