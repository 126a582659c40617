"""`await notify(...)` for asynchronous handlers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..app import Chassis
from . import Message, Result
from .notifier import Notifier


async def notify(
    chassis: Chassis,
    message: Message,
    *,
    channels: Iterable[str] | None = None,
    key: str | None = None,
    session: Any = None,
) -> dict[str, Result]:
    """Send a message, and return the result of each channel.

    Args:
        chassis: The service.
        message: The message.
        channels: The channels to use; by default all that are on and for which the message has a recipient.
        key: Sends the message once: a further call with this key has the result `duplicate`.
        session: The session of a unit of work. The message is stored with its changes, and sent after its commit, even
            if the process crashes. Without a session it is sent now.

    Raises:
        ValueError: A channel does not exist, or the message has no recipient for it.
    """
    notifier = chassis.get(Notifier)
    if session is None:
        return await notifier.send(message, channels, key)
    results: dict[str, Result] = await session.run_sync(notifier.queue, message, channels, key)
    return results
