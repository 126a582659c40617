"""Sends messages on the channels that the settings name, each with a timeout, a circuit breaker and a health check."""

from __future__ import annotations

import asyncio
import random
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from hashlib import sha256
from itertools import count
from typing import Any, Protocol
from uuid import uuid4

import structlog

from ..app import Chassis
from ..circuit_breaker import CircuitBreaker, CircuitOpenError
from ..health.checks import Check, Outcome
from ..instrumentation import Counter
from . import Channel, DeliveryError, Message, Result, Settings
from .smtp import Email
from .webhooks import Discord, Slack, Twilio

log = structlog.get_logger(__name__)

NAMES = ("email", "discord", "slack", "sms")
# The longest pause before the first retry, which doubles with each further one, and the longest of all.
_WAIT_INITIAL_SECONDS, _WAIT_MAX_SECONDS = 1.0, 300.0
# How many keys of sent messages this process remembers.
_MAX_KEYS = 10_000
_MESSAGES = Counter("notifications", "Messages by channel and result of an attempt.")


class DryRun:
    """Logs each message of a channel instead of sending it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.recipient = {"email": "email", "sms": "phone"}.get(name, "")

    async def send(self, message: Message, delivery_id: str) -> None:
        recipient = getattr(message, self.recipient) if self.recipient else ""
        log.info(
            "notification_dry_run",
            channel=self.name,
            recipient=recipient,
            subject=message.subject,
            text=message.text,
            html=message.html,
        )

    async def aclose(self) -> None:
        """Do nothing: no connection is open."""


def open_channels(chassis: Chassis) -> list[Channel]:
    """Return the channels that are configured."""
    settings = chassis.settings_as(Settings)
    if settings.notifications_dry_run:
        return [DryRun(name) for name in NAMES]
    timeout_seconds = settings.notifications_timeout_seconds
    over_http = (timeout_seconds, chassis.operation_observers)
    channels: list[Channel] = []
    if url := settings.smtp_url:
        channels.append(Email(url.get_secret_value(), settings.notifications_from, timeout_seconds))
    if url := settings.discord_webhook_url:
        channels.append(Discord(url.get_secret_value(), *over_http))
    if url := settings.slack_webhook_url:
        channels.append(Slack(url.get_secret_value(), *over_http))
    if token := settings.twilio_auth_token:
        account = (settings.twilio_account_sid, token.get_secret_value(), settings.twilio_from)
        channels.append(Twilio(*account, settings.twilio_api_url, *over_http))
    return channels


def _is_failure_of_the_channel(error: BaseException) -> bool:
    return isinstance(error, DeliveryError) and error.kind != "rejected"


class ChannelCheck(Check):
    """Reports whether the last attempt of a channel failed. It sends nothing itself, and is never critical."""

    def __init__(self, channel: Channel) -> None:
        self.breaker = CircuitBreaker(channel.name, is_failure=_is_failure_of_the_channel, cause_of=str)
        self.last_error: DeliveryError | None = None
        super().__init__(f"notifications_{channel.name}", self._probe)

    async def _probe(self) -> Mapping[str, Any]:
        return self.breaker.details()

    def evaluate(self, value: Any) -> Outcome:
        error = self.last_error
        if error is None:
            return Outcome(details=value)
        return Outcome("error" if error.kind == "misconfigured" else "warning", error.error, value)


class Outbox(Protocol):
    """Stores messages in the transaction of a unit of work, and sends them after its commit."""

    def add(self, session: Any, names: Iterable[str], message: Message, key: str | None) -> dict[str, Result]: ...


class Notifier:
    """The channels of the service.

    Args:
        chassis: The service.
        channels: Its channels.
        sleep: Waits for a number of seconds.
    """

    outbox: Outbox | None = None

    def __init__(
        self,
        chassis: Chassis,
        channels: Iterable[Channel],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        settings = chassis.settings_as(Settings)
        self.channels = {channel.name: channel for channel in channels}
        self.loop: asyncio.AbstractEventLoop | None = None
        self._checks = {channel.name: ChannelCheck(channel) for channel in self.channels.values()}
        self._lifecycle = chassis.lifecycle
        self._timeout_seconds = settings.notifications_timeout_seconds
        self._deadline_seconds = settings.notifications_deadline_seconds
        # An attempt that begins before the deadline may end after it.
        self.longest_seconds = self._deadline_seconds + 2 * self._timeout_seconds
        self._sleep = sleep
        self._keys: OrderedDict[str, None] = OrderedDict()
        for check in self._checks.values():
            chassis.health.add(check)
            chassis.measurements.append(check.breaker.measure)

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Store the event loop on which messages are sent, and close the connections at shutdown."""
        self.loop = asyncio.get_running_loop()
        try:
            yield
        finally:
            self.loop = None
            for channel in self.channels.values():
                await channel.aclose()

    def queue(self, session: Any, message: Message, names: Iterable[str] | None, key: str | None) -> dict[str, Result]:
        """Store a message with the unit of work of a session.

        Raises:
            LookupError: The service has no database.
            ValueError: A channel does not exist, or the message has no recipient for it.
        """
        if self.outbox is None:
            raise LookupError("this service has no outbox; call notify without a session")
        on, off = self._choose(message, names)
        return self.outbox.add(session, on, message, key) | off

    async def send(self, message: Message, names: Iterable[str] | None, key: str | None) -> dict[str, Result]:
        """Send a message now, on all channels at once.

        Raises:
            ValueError: A channel does not exist, or the message has no recipient for it.
        """
        on, off = self._choose(message, names)
        results = await asyncio.gather(*(self._send(name, message, key) for name in on))
        return dict(zip(on, results, strict=True)) | off

    def _choose(self, message: Message, names: Iterable[str] | None) -> tuple[list[str], dict[str, Result]]:
        """Return the channels to use, and the results of those that are off."""
        if names is None:
            on = [name for name, channel in self.channels.items() if _can_send(channel, message)]
            if not on:
                log.warning("notification_without_channel", channels=list(self.channels))
            return on, {}
        names = list(dict.fromkeys(names))
        for name in names:
            if name not in NAMES:
                raise ValueError(f"{name!r} is not a channel; use one of {', '.join(NAMES)}")
            channel = self.channels.get(name)
            if channel and not _can_send(channel, message):
                raise ValueError(f"the channel {name!r} requires Message({channel.recipient}=...)")
        off = {name: Result("off") for name in names if name not in self.channels}
        return [name for name in names if name in self.channels], off

    async def _send(self, name: str, message: Message, key: str | None) -> Result:
        delivery_id = delivery_id_of(name, key)
        if delivery_id in self._keys:
            return Result("duplicate")
        self._remember(delivery_id)
        deadline = time.monotonic() + self._deadline_seconds
        sent = False
        try:
            for attempt in count(1):
                error = await self.attempt(name, message, delivery_id)
                if error is None:
                    sent = True
                    return Result("sent", attempts=attempt)
                pause_seconds = pause_before_retry(attempt, error)
                is_late = self._lifecycle.draining or time.monotonic() + pause_seconds >= deadline
                if error.kind != "unavailable" or is_late:
                    return self.failed(name, error, attempt, delivery_id)
                await self._sleep(pause_seconds)
            raise AssertionError("there is always another attempt")
        finally:
            if not sent:  # a call with the same key may try again, also after this one was cancelled
                self._keys.pop(delivery_id, None)

    def _remember(self, delivery_id: str) -> None:
        self._keys[delivery_id] = None
        if len(self._keys) > _MAX_KEYS:
            self._keys.popitem(last=False)

    def is_closed(self, name: str) -> bool:
        """Return whether the circuit of a channel is closed."""
        return self._checks[name].breaker.state == "closed"

    def failed(self, name: str, error: DeliveryError, attempts: int, delivery_id: str) -> Result:
        """Log and count a message that will not be sent, and return its result."""
        log.error("notification_failed", channel=name, error=error.error, attempts=attempts, delivery_id=delivery_id)
        _MESSAGES.add(channel=name, result="failed")
        return Result("failed", error.error, attempts)

    async def attempt(self, name: str, message: Message, delivery_id: str) -> DeliveryError | None:
        """Try to send a message once, and return the error, or None if it was sent."""
        check = self._checks[name]
        try:
            with check.breaker.guard():
                await self._try(self.channels[name], message, delivery_id)
        except CircuitOpenError as error:
            return DeliveryError("unavailable", "the circuit is open", error.retry_after_seconds, was_called=False)
        except DeliveryError as error:
            check.last_error = error if _is_failure_of_the_channel(error) else None
            _MESSAGES.add(channel=name, result=error.kind)
            return error
        check.last_error = None
        _MESSAGES.add(channel=name, result="sent")
        log.info("notification_sent", channel=name, delivery_id=delivery_id)
        return None

    async def _try(self, channel: Channel, message: Message, delivery_id: str) -> None:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await channel.send(message, delivery_id)
        except DeliveryError:
            raise
        except TimeoutError:
            raise DeliveryError("unavailable", "no response in time") from None
        except Exception as error:
            log.exception("notification_crashed", channel=channel.name)
            raise DeliveryError("misconfigured", "the channel raised an exception") from error


def _can_send(channel: Channel, message: Message) -> bool:
    return not channel.recipient or bool(getattr(message, channel.recipient))


def delivery_id_of(name: str, key: str | None) -> str:
    """Return the id of a message on a channel: the same for the same key, which may contain personal data."""
    return uuid4().hex if key is None else sha256(f"{name}\0{key}".encode()).hexdigest()


def pause_before_retry(attempts: int, error: DeliveryError) -> float:
    """Return a random part of a doubling time in seconds (full jitter), or more if the channel asks for it."""
    longest = min(_WAIT_MAX_SECONDS, _WAIT_INITIAL_SECONDS * 2 ** min(attempts - 1, 20))
    return max(random.uniform(0.0, longest), error.retry_after_seconds)


def install(chassis: Chassis) -> None:
    """Open the channels that are configured."""
    notifier = Notifier(chassis, open_channels(chassis))
    chassis.provide(notifier)
    chassis.lifespans.append(("notifications", notifier.lifespan))
