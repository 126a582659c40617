"""Send notifications as asynchronous handlers do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal

from ..package import module

send = module("chassis.notifications.asyncio").notify


class Sender:
    """A running service that sends notifications."""

    def __init__(self, chassis: Any, portal: BlockingPortal) -> None:
        self.chassis, self.call = chassis, portal.call

    def notify(self, message: Any, **options: Any) -> Any:
        return self.call(partial(send, self.chassis, message, **options))

    def in_unit_of_work(self, *messages: Any, error: Exception | None = None, **options: Any) -> Any:
        """Send messages with one unit of work, and return the last results. An error is raised before its end."""

        async def work() -> Any:
            async with self.chassis.get(module("chassis.database.asyncio").Database).session() as session:
                results = [await send(self.chassis, message, session=session, **options) for message in messages]
                if error:
                    raise error
                return results[-1]

        return self.call(work)


@contextmanager
def running(chassis: Any, *, started: bool = True) -> Iterator[Sender]:
    """Run a service without an application; one that is not started sends nothing from its outbox."""
    with start_blocking_portal("asyncio") as portal:
        if not started:
            yield Sender(chassis, portal)
            portal.call(chassis.get(module("chassis.database.asyncio").Database).engine.dispose)
            for channel in chassis.get(module("chassis.notifications.notifier").Notifier).channels.values():
                portal.call(channel.aclose)
            return
        with portal.wrap_async_context_manager(chassis.open_lifespans()):
            yield Sender(chassis, portal)
