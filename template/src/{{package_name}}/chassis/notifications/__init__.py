"""Notifications by email, Discord, Slack and SMS: settings, messages, and results.

Handlers call `notify` of `asyncio.py` or `sync.py`. `notifier.py` sends, and `outbox/` stores messages with the unit of
work until they are sent.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from email.errors import MessageError
from email.headerregistry import Address
from typing import Literal, Protocol
from urllib.parse import SplitResult, urlsplit

import orjson
from pydantic import Field, SecretStr, ValidationInfo, field_validator

from ..settings import BaseChassisSettings, in_production

# The maximum size of a message in bytes. The smallest column type for text among the databases holds 65,535.
_MAX_BYTES = 60_000
_MAX_SUBJECT_CHARACTERS = 200
_FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_ATOM = r"[^\s\x00-\x1f\x7f\ud800-\udfff@<>()\[\]\\,;:\"]"
# Without encoded words (RFC 2047), which the email library would decode to characters that are forbidden here.
_EMAIL = re.compile(rf"(?!.*=\?){_ATOM}{{1,64}}@{_ATOM}+\.{_ATOM}+")
_PHONE = re.compile(r"\+[1-9][0-9]{6,14}")
_SMTP_SCHEMES = ("smtp", "smtps", "smtp+insecure")


class Settings(BaseChassisSettings):
    """Notifications"""

    notifications_dry_run: bool = Field(
        False, description="Log what would be sent on all channels instead of sending it; not allowed in production."
    )
    notifications_timeout_seconds: float = Field(10.0, gt=0, description="Time limit for one attempt to send.")
    notifications_deadline_seconds: float = Field(
        20.0, gt=0, description="Time limit for all attempts of a call of `notify` without a session."
    )
    notifications_from: str = Field(
        "", description="Sender of emails, such as `Orders <orders@example.com>`; SMTP_URL requires it."
    )
    smtp_url: SecretStr | None = Field(
        None,
        description="Mail server, `smtp://user:password@host:587` (STARTTLS) or `smtps://` (TLS); empty: no emails.",
    )
    discord_webhook_url: SecretStr | None = Field(
        None, description="Webhook of a channel in Discord; empty: nothing is sent to Discord."
    )
    slack_webhook_url: SecretStr | None = Field(
        None, description="Incoming webhook of a channel in Slack; empty: nothing is sent to Slack."
    )
    twilio_account_sid: str = Field("", description="Account at Twilio; empty: no SMS.")
    twilio_from: str = Field("", description="Number that sends SMS, such as `+4930123456`, or a messaging service.")
    twilio_auth_token: SecretStr | None = Field(None, description="Token of TWILIO_ACCOUNT_SID.")
    twilio_api_url: str = Field(
        "https://api.twilio.com", description="API of Twilio; other regions have other addresses."
    )

    @field_validator("notifications_dry_run")
    @classmethod
    def _no_dry_run_in_production(cls, value: bool, info: ValidationInfo) -> bool:
        if value and in_production(info):
            raise ValueError("must not be on in production, because nothing is sent; remove NOTIFICATIONS_DRY_RUN")
        return value

    @field_validator("notifications_from")
    @classmethod
    def _is_a_sender(cls, value: str) -> str:
        if value:
            parse_sender(value)
        return value

    @field_validator("smtp_url")
    @classmethod
    def _is_a_mail_server(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is None:
            return value
        url = _split(value.get_secret_value())
        if url is None or url.scheme not in _SMTP_SCHEMES or url.path.strip("/") or url.query or url.fragment:
            raise ValueError("is not a URL of a mail server; use the form smtp://user:password@mail.example.com:587")
        if url.scheme == "smtp+insecure" and (in_production(info) or url.username):
            raise ValueError("smtp+insecure:// is for development without a password; use smtp:// or smtps://")
        if bool(url.username) != bool(url.password):
            raise ValueError("has a user without a password; use the form smtp://user:password@mail.example.com:587")
        # If `notifications_from` is invalid, it is missing here, and reported separately.
        if info.data.get("notifications_from") == "":
            raise ValueError("requires a sender; set NOTIFICATIONS_FROM")
        return value

    @field_validator("discord_webhook_url", "slack_webhook_url")
    @classmethod
    def _is_a_webhook(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is not None and not _is_http(value.get_secret_value(), info):
            raise ValueError("is not the URL of a webhook; copy it, with https://, from the settings of the channel")
        return value

    @field_validator("twilio_auth_token")
    @classmethod
    def _is_a_whole_account(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        given = [info.data.get("twilio_account_sid", "?"), info.data.get("twilio_from", "?"), value]
        if any(given) and not all(given):
            raise ValueError("TWILIO_ACCOUNT_SID, TWILIO_FROM and TWILIO_AUTH_TOKEN belong together; set all or none")
        return value

    @field_validator("twilio_account_sid")
    @classmethod
    def _is_an_account(cls, value: str) -> str:
        if value and not re.fullmatch(r"[A-Za-z0-9]+", value):
            raise ValueError("is not an account of Twilio; copy it from the console, where it begins with AC")
        return value

    @field_validator("twilio_api_url")
    @classmethod
    def _is_an_api(cls, value: str, info: ValidationInfo) -> str:
        if not _is_http(value, info):
            raise ValueError("is not the URL of an API; use the form https://api.twilio.com")
        return value


def _split(text: str) -> SplitResult | None:
    """Return the parts of a URL with a host, or None."""
    try:
        url = urlsplit(text)
        is_valid = bool(url.hostname) and url.port != 0
    except ValueError:
        return None
    return url if is_valid and text.isprintable() and " " not in text else None


def _is_http(text: str, info: ValidationInfo) -> bool:
    url = _split(text)
    return url is not None and (url.scheme == "https" or (url.scheme == "http" and not in_production(info)))


def parse_sender(text: str) -> Address:
    """Return the address in `Name <name@example.com>` or `name@example.com`.

    Raises:
        ValueError: It has another form.
    """
    name, bracket, rest = text.rpartition("<")
    spec = rest.removesuffix(">") if bracket else text
    try:
        is_plain = spec.isascii() and text.isprintable() and bool(bracket) == text.endswith(">")
        if is_plain and _EMAIL.fullmatch(spec):
            return Address(name.strip().strip('"'), addr_spec=spec)
    except (MessageError, IndexError):
        pass
    raise ValueError("is not a sender; use the form Orders <orders@example.com>")


@dataclass(frozen=True)
class Message:
    """One message for one recipient.

    Control characters are removed, so that a subject cannot add headers.

    Args:
        subject: The subject of an email, and the first line on other channels.
        text: The text. Channels with a limit get its beginning.
        html: The text of an email as HTML, in addition.
        email: The address that gets an email.
        phone: The number that gets an SMS, in E.164: `+4930123456`.

    Raises:
        ValueError: The message is too large, or an address is invalid.
    """

    subject: str
    text: str
    html: str = ""
    email: str = ""
    phone: str = ""

    def __post_init__(self) -> None:
        for name in ("text", "html"):
            object.__setattr__(self, name, _FORBIDDEN.sub("", getattr(self, name).replace("\r\n", "\n")))
        object.__setattr__(self, "subject", " ".join(_FORBIDDEN.sub(" ", self.subject).split()))
        if not self.subject or len(self.subject) > _MAX_SUBJECT_CHARACTERS:
            raise ValueError(f"the subject has {len(self.subject)} characters; use 1 to {_MAX_SUBJECT_CHARACTERS}")
        if self.email and (len(self.email) > 254 or not _EMAIL.fullmatch(self.email)):
            raise ValueError("Message(email=...) is not one email address; use the form ann@example.com")
        if self.phone and not _PHONE.fullmatch(self.phone):
            raise ValueError("Message(phone=...) is not a phone number in E.164; use the form +4930123456")
        if len(self.encode()) > _MAX_BYTES:
            raise ValueError(f"the message has more than {_MAX_BYTES} bytes; send a link instead")

    def encode(self) -> bytes:
        return orjson.dumps(asdict(self))


@dataclass(frozen=True)
class Result:
    """The result of one channel.

    `queued`: the message is sent after the commit. `duplicate`: it was sent or queued with the same key before. `off`:
    the channel is not configured. `error` is a phrase without secrets, and `attempts` the number of attempts so far.
    """

    status: Literal["sent", "queued", "failed", "duplicate", "off"]
    error: str = ""
    attempts: int = 0


class DeliveryError(Exception):
    """A message was not delivered.

    Args:
        kind: `unavailable`: a retry may help. `misconfigured`: a retry helps once the operator has corrected the
            settings. `rejected`: no retry helps, because of the message or its recipient.
        error: A phrase without secrets and addresses.
        retry_after_seconds: How long the channel asks to wait.
        was_called: False if the channel was not called, because its circuit is open.
    """

    def __init__(
        self,
        kind: Literal["unavailable", "misconfigured", "rejected"],
        error: str,
        retry_after_seconds: float = 0.0,
        *,
        was_called: bool = True,
    ) -> None:
        super().__init__(error)
        self.kind = kind
        self.error = error
        self.retry_after_seconds = retry_after_seconds
        self.was_called = was_called


class Channel(Protocol):
    """A service that delivers messages, such as email."""

    name: str
    # The field of `Message` with the recipient, or nothing if the settings name it.
    recipient: str

    async def send(self, message: Message, delivery_id: str) -> None:
        """Send a message once.

        Raises:
            DeliveryError: It was not delivered.
        """

    async def aclose(self) -> None:
        """Close the connections."""
