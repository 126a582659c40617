"""`notify(...)` for synchronous handlers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any

from ..app import Chassis
from . import Message, Result
from .notifier import Notifier


def notify(
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
        RuntimeError: The service has not started, or this is its event loop.
        TimeoutError: The event loop does not respond. Sending is cancelled.
    """
    notifier = chassis.get(Notifier)
    if session is not None:
        return notifier.queue(session, message, channels, key)
    if notifier.loop is None:
        raise RuntimeError("the service has not started; open its lifespans before you send notifications")
    sending = asyncio.run_coroutine_threadsafe(notifier.send(message, channels, key), notifier.loop)
    return _wait(sending, notifier.longest_seconds)


def _wait(sending: Future[dict[str, Result]], seconds: float) -> dict[str, Result]:
    try:
        return sending.result(seconds)
    finally:
        sending.cancel()  # no effect once it is done; after a timeout, the message must not be sent later
