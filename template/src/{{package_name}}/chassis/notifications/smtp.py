"""Emails over SMTP, with text and HTML (RFC 5321, RFC 8314)."""

from __future__ import annotations

import ssl
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, localtime
from urllib.parse import unquote, urlsplit

import aiosmtplib

from . import DeliveryError, Message, parse_sender

_PORTS = {"smtp": 587, "smtps": 465, "smtp+insecure": 25}


class Email:
    """Opens a connection per message. A connection that idles between messages would be closed by the server."""

    name = "email"
    recipient = "email"

    def __init__(self, url: str, sender: str, timeout_seconds: float) -> None:
        parts = urlsplit(url)
        self._sender = parse_sender(sender)
        self._options = {
            "hostname": parts.hostname,
            "port": parts.port or _PORTS[parts.scheme],
            "username": unquote(parts.username) if parts.username else None,
            "password": unquote(parts.password) if parts.password else None,
            "use_tls": parts.scheme == "smtps",
            "start_tls": parts.scheme == "smtp",
            # Loading the certificates takes longer than sending a message.
            "tls_context": ssl.create_default_context() if parts.scheme != "smtp+insecure" else None,
            "timeout": timeout_seconds,
        }

    async def send(self, message: Message, delivery_id: str) -> None:
        try:
            await aiosmtplib.send(self._email(message, delivery_id), **self._options)  # type: ignore[arg-type]
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise _delivery_error(error) from None

    def _email(self, message: Message, delivery_id: str) -> EmailMessage:
        email = EmailMessage(policy=SMTP)
        email["From"] = self._sender
        user, _, domain = message.email.rpartition("@")
        email["To"] = f"{user}@{domain.encode('idna').decode()}"
        # The library would decode an encoded word (RFC 2047), and write the line breaks in it as further headers.
        email["Subject"] = message.subject.replace("=?", "= ?")
        email["Date"] = format_datetime(localtime())
        # The same for each attempt, so that mailboxes can drop a repeated message.
        email["Message-ID"] = f"<{delivery_id}@{self._sender.domain}>"
        email["Auto-Submitted"] = "auto-generated"  # no out-of-office replies (RFC 3834)
        email.set_content(message.text)
        if message.html:
            email.add_alternative(message.html, subtype="html")
        return email

    async def aclose(self) -> None:
        """Do nothing: no connection is open."""


def _delivery_error(error: Exception) -> DeliveryError:
    """Translate an error of the connection or a reply of the server, whose text may contain addresses."""
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        error = error.recipients[0]
    if isinstance(error, aiosmtplib.SMTPAuthenticationError):
        return DeliveryError("misconfigured", "the server rejects the user or password in SMTP_URL")
    # The library raises the base class if STARTTLS or AUTH is missing.
    if type(error) is aiosmtplib.SMTPException:
        return DeliveryError("misconfigured", "the server lacks what is required, such as STARTTLS or authentication")
    if isinstance(error, ssl.SSLError | ssl.CertificateError) or isinstance(error.__cause__, ssl.SSLError):
        return DeliveryError("misconfigured", "the TLS handshake failed; check the certificate and SMTP_URL")
    if isinstance(error, aiosmtplib.SMTPResponseException) and error.code >= 500:
        if isinstance(error, aiosmtplib.SMTPSenderRefused):
            return DeliveryError("misconfigured", f"the server rejects NOTIFICATIONS_FROM with {error.code}")
        return DeliveryError("rejected", f"the server responded with {error.code}")
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return DeliveryError("unavailable", f"the server responded with {error.code}")
    if isinstance(
        error, ValueError | aiosmtplib.SMTPNotSupported
    ):  # an address that needs SMTPUTF8, or a domain that cannot be written in ASCII
        return DeliveryError("rejected", "the mail server does not support this address")
    if isinstance(error, aiosmtplib.SMTPTimeoutError | TimeoutError):
        return DeliveryError("unavailable", "no response in time")
    return DeliveryError("unavailable", "unreachable")
