"""Channels over HTTP: webhooks of Discord and Slack, and SMS by Twilio."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import httpx

from ..instrumentation import Operation, OperationObserver, observed
from . import DeliveryError, Message

_MAX_RETRY_AFTER_SECONDS = 3600.0
# Limits on reading the body of a response. Above them, the next message opens a new connection.
_MAX_BODY_BYTES, _BODY_SECONDS = 100_000, 1.0
# The limits of the services, in characters.
_MAX_DISCORD, _MAX_SLACK, _MAX_SMS = 2000, 4000, 1600
# The webhook or account was deleted, or its secret is wrong.
_MISCONFIGURED = {301, 302, 307, 308, 401, 403, 404, 405, 410}


class HttpChannel:
    """Sends a POST request per message. Redirects are not followed, because the URL or a header is a secret."""

    name = ""
    recipient = ""

    def __init__(
        self, url: str, timeout_seconds: float, observers: Sequence[OperationObserver], **options: Any
    ) -> None:
        self._url = httpx.URL(url)
        self._observers = observers
        self._client = httpx.AsyncClient(timeout=timeout_seconds, follow_redirects=False, **options)

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _post(self, **content: Any) -> None:
        # The path of a webhook is a secret, so observers do not get the URL.
        port = self._url.port or {"http": 80, "https": 443}[self._url.scheme]
        operation = Operation(
            "http",
            "POST",
            {"http.request.method": "POST", "server.address": self._url.host, "server.port": port},
        )
        try:
            with observed(operation, self._observers):
                async with self._client.stream("POST", self._url, **content) as response:
                    operation.attributes["http.response.status_code"] = response.status_code
                    await _discard_body(response)
        except httpx.TimeoutException:
            raise DeliveryError("unavailable", "no response in time") from None
        except httpx.HTTPError:
            raise DeliveryError("unavailable", "unreachable") from None
        _check(response)


async def _discard_body(response: httpx.Response) -> None:
    """Read the body, so that the next message reuses the connection. Only the status decides the result."""
    with suppress(httpx.HTTPError, TimeoutError):
        async with asyncio.timeout(_BODY_SECONDS):
            async for _ in response.aiter_raw():
                if response.num_bytes_downloaded > _MAX_BODY_BYTES:
                    return


def _check(response: httpx.Response) -> None:
    """Raise an error unless the response says that the message was accepted."""
    status = response.status_code
    if 200 <= status < 300:
        return
    if status in _MISCONFIGURED:
        raise DeliveryError("misconfigured", f"the channel responded with {status}; check its settings")
    if status in (408, 429) or status >= 500:
        raise DeliveryError("unavailable", f"the channel responded with {status}", _retry_after_seconds(response))
    raise DeliveryError("rejected", f"the channel responded with {status}")


def _retry_after_seconds(response: httpx.Response) -> float:
    try:
        return min(max(0.0, float(response.headers.get("retry-after", ""))), _MAX_RETRY_AFTER_SECONDS)
    except ValueError:  # missing, or a date: the pauses between retries are enough
        return 0.0


def shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


class Discord(HttpChannel):
    """https://docs.discord.com/developers/resources/webhook#execute-webhook"""

    name = "discord"

    def __init__(self, url: str, *arguments: Any) -> None:
        # Without it, Discord accepts messages that it does not store.
        super().__init__(str(httpx.URL(url).copy_merge_params({"wait": "true"})), *arguments)

    async def send(self, message: Message, delivery_id: str) -> None:
        content = shortened(f"**{message.subject}**\n{message.text}", _MAX_DISCORD)
        # Discord must not notify everyone because a text contains `@everyone`.
        await self._post(json={"content": content, "allowed_mentions": {"parse": []}})


class Slack(HttpChannel):
    """https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks"""

    name = "slack"

    async def send(self, message: Message, delivery_id: str) -> None:
        text = shortened(f"*{message.subject}*\n{message.text}", _MAX_SLACK)
        # `<!channel>` would notify everyone.
        for character, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
            text = text.replace(character, escaped)
        await self._post(json={"text": text})


class Twilio(HttpChannel):
    """https://www.twilio.com/docs/messaging/api/message-resource#create-a-message-resource"""

    name = "sms"
    recipient = "phone"

    def __init__(self, account_sid: str, auth_token: str, sender: str, api_url: str, *arguments: Any) -> None:
        url = f"{api_url.rstrip('/')}/2010-04-01/Accounts/{account_sid}/Messages.json"
        super().__init__(url, *arguments, auth=(account_sid, auth_token))
        self._sender = {"MessagingServiceSid" if sender.startswith("MG") else "From": sender}

    async def send(self, message: Message, delivery_id: str) -> None:
        body = shortened(f"{message.subject}\n{message.text}".strip(), _MAX_SMS)
        await self._post(data={**self._sender, "To": message.phone, "Body": body})
