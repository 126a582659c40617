"""Notifications against real servers: a mail server with TLS, and HTTP services that fail as the real ones do."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from .. import servers
from ..package import CHASSIS, module
from .conftest import Logs, settings_for_tests
from .notifying import Sender, running
from .process import until
from .upstream import Upstream, cut, serving_upstream, status

notifications = module("chassis.notifications")
notifier = module("chassis.notifications.notifier")
SettingsError = module("chassis.settings").SettingsError
Message, Result, Notifier = notifications.Message, notifications.Result, notifier.Notifier

FEATURES = [module("chassis.logging.config"), notifier]
SECRET = "hunter2"
DEAL = Message("Deal found", "Tea for 5 EUR", "<p>Tea for <b>5 EUR</b></p>", "ann@example.com", "+4930123456")
# A timeout that ends an attempt, and one that no attempt reaches on a busy machine.
SHORT_SECONDS, LONG_SECONDS = 0.3, 60

Open = Callable[..., Sender]


@pytest.fixture(scope="module")
def upstream_server() -> Iterator[Upstream]:
    with serving_upstream() as serving:
        yield serving


@pytest.fixture
def upstream(upstream_server: Upstream) -> Upstream:
    upstream_server.received.clear()
    upstream_server.respond(status(204))
    return upstream_server


@pytest.fixture
def pauses() -> list[float]:
    """The pauses between attempts, which the tests skip."""
    return []


@pytest.fixture
def open_sender(pauses: list[float]) -> Iterator[Open]:
    """Run a service whose channels have these settings."""
    with ExitStack() as stack:

        async def skip(seconds: float) -> None:
            pauses.append(seconds)

        def run(**settings: Any) -> Sender:
            timeouts = {"notifications_timeout_seconds": LONG_SECONDS, "notifications_deadline_seconds": LONG_SECONDS}
            chassis = module("chassis.app").build(settings_for_tests(**timeouts | settings), FEATURES)
            chassis.get(Notifier)._sleep = skip
            return stack.enter_context(running(chassis))

        yield run


def channels(url: str) -> dict[str, str]:
    """Return the settings of all channels over HTTP."""
    return {
        "discord_webhook_url": f"{url}/api/webhooks/1/{SECRET}?thread_id=7",
        "slack_webhook_url": f"{url}/services/T0/B0/{SECRET}",
        "twilio_account_sid": "AC1",
        "twilio_auth_token": SECRET,
        "twilio_from": "+15005550006",
        "twilio_api_url": url,
    }


def health(sender: Sender, channel: str) -> Any:
    """Return the status and the error of a channel's check."""
    check = next(check for check in sender.chassis.health.checks if check.name == f"notifications_{channel}")
    outcome = check.evaluate(sender.call(check.probe))
    assert not check.critical
    return outcome.status, outcome.error


# -- channels over HTTP ------------------------------------------------------------------------------------------------


def test_message_is_sent_on_every_channel_that_is_on(open_sender: Open, upstream: Upstream) -> None:
    results = open_sender(**channels(upstream.url)).notify(DEAL)
    assert results == {name: Result("sent", attempts=1) for name in ("discord", "slack", "sms")}
    sent = {one.path: one for one in upstream.received}
    discord = sent[f"/api/webhooks/1/{SECRET}?thread_id=7&wait=true"]
    assert json.loads(discord.body) == {
        "content": "**Deal found**\nTea for 5 EUR",
        "allowed_mentions": {"parse": []},
    }
    assert json.loads(sent[f"/services/T0/B0/{SECRET}"].body) == {"text": "*Deal found*\nTea for 5 EUR"}
    sms = sent["/2010-04-01/Accounts/AC1/Messages.json"]
    assert parse_qs(sms.body.decode()) == {
        "From": ["+15005550006"], "To": ["+4930123456"], "Body": ["Deal found\nTea for 5 EUR"],
    }  # fmt: skip
    assert sms.headers["authorization"] == "Basic QUMxOmh1bnRlcjI="  # AC1:hunter2


def test_text_cannot_notify_everyone(open_sender: Open, upstream: Upstream) -> None:
    open_sender(**channels(upstream.url)).notify(Message("a & b", "<!channel>"), channels=["slack"])
    assert json.loads(upstream.received[0].body) == {"text": "*a &amp; b*\n&lt;!channel&gt;"}


def test_long_text_is_cut_at_the_limit_of_the_channel(open_sender: Open, upstream: Upstream) -> None:
    message = Message("Deal", "x" * 50_000, phone="+4930123456")
    open_sender(**channels(upstream.url)).notify(message)
    bodies = {one.path.split("/")[1]: one.body for one in upstream.received}
    assert len(json.loads(bodies["api"])["content"]) == 2000
    assert len(json.loads(bodies["services"])["text"]) == 4000
    assert len(parse_qs(bodies["2010-04-01"].decode())["Body"][0]) == 1600


def test_temporary_failure_is_retried_with_pauses(open_sender: Open, upstream: Upstream, pauses: list[float]) -> None:
    upstream.respond(status(500), cut, status(429, retry_after="7"), status(204))
    sender = open_sender(discord_webhook_url=upstream.url)
    assert sender.notify(DEAL) == {"discord": Result("sent", attempts=4)}
    assert [seconds <= most for seconds, most in zip(pauses, (1, 2, 7), strict=True)] == [True] * 3
    assert pauses[2] == 7
    assert health(sender, "discord") == ("ok", None)


@pytest.mark.parametrize(
    ("code", "reported"),
    [
        (404, ("error", "the channel responded with 404; check its settings")),
        (401, ("error", "the channel responded with 401; check its settings")),
        (302, ("error", "the channel responded with 302; check its settings")),
        (400, ("ok", None)),
        (413, ("ok", None)),
    ],
)
def test_permanent_failure_is_not_retried(code: int, reported: Any, open_sender: Open, upstream: Upstream) -> None:
    """Health shows a deleted webhook. One rejected message says nothing about the others."""
    upstream.respond(status(code, location=upstream.url))
    sender = open_sender(discord_webhook_url=upstream.url)
    result = sender.notify(DEAL)["discord"]
    assert (result.status, result.attempts, len(upstream.received)) == ("failed", 1, 1)
    assert f"responded with {code}" in result.error
    assert health(sender, "discord") == reported


def test_channel_that_hangs_does_not_delay_the_others(open_sender: Open, upstream: Upstream) -> None:
    def hang(request: Any) -> None:
        if "/api/webhooks" in request.path:
            upstream.over.wait(LONG_SECONDS)
        else:
            status(200)(request)

    upstream.respond(hang)
    quick = {"notifications_timeout_seconds": SHORT_SECONDS, "notifications_deadline_seconds": SHORT_SECONDS}
    sender = open_sender(**channels(upstream.url) | quick)
    results = sender.notify(DEAL, channels=["discord", "slack"])
    assert results["discord"].status == "failed"
    assert results["discord"].error == "no response in time"
    assert results["slack"] == Result("sent", attempts=1)
    assert health(sender, "discord") == ("warning", "no response in time")


def test_messages_of_a_channel_use_one_connection(open_sender: Open, upstream: Upstream) -> None:
    upstream.respond(status(200), status(400), status(204))
    sender = open_sender(discord_webhook_url=upstream.url)
    assert [sender.notify(DEAL)["discord"].status for _ in range(3)] == ["sent", "failed", "sent"]
    assert len({one.connection for one in upstream.received}) == 1


def test_body_of_a_response_does_not_change_the_result(
    open_sender: Open, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The status says that the message was accepted, so another attempt would send it twice."""

    def hang(request: Any) -> None:
        status(200, b"{", content_length="2")(request)
        upstream.over.wait(LONG_SECONDS)

    monkeypatch.setattr(module("chassis.notifications.webhooks"), "_BODY_SECONDS", SHORT_SECONDS)
    upstream.respond(hang, status(200, b"{" * 1_000_000), status(200, b"{", content_length="2", connection="close"))
    sender = open_sender(discord_webhook_url=upstream.url)
    assert [sender.notify(DEAL)["discord"] for _ in range(3)] == [Result("sent", attempts=1)] * 3
    assert len({one.connection for one in upstream.received}) == 3


@pytest.mark.skipif(not (CHASSIS / "notifications/sync.py").is_file(), reason="handlers wait without a thread")
def test_call_that_times_out_is_cancelled(open_sender: Open, upstream: Upstream) -> None:
    """Otherwise the caller may notify again, and the message would be sent twice."""
    upstream.respond(lambda request: upstream.over.wait(LONG_SECONDS) and None)
    sender = open_sender(discord_webhook_url=upstream.url, notifications_timeout_seconds=2 * LONG_SECONDS)
    sending = sender.chassis.get(Notifier)
    sending.longest_seconds = SHORT_SECONDS
    with pytest.raises(TimeoutError):
        sender.notify(DEAL, key="7")
    until(lambda: not sending._keys)


def test_channel_that_keeps_failing_is_not_called_any_more(open_sender: Open, upstream: Upstream) -> None:
    upstream.respond(status(404))
    sender = open_sender(discord_webhook_url=upstream.url)
    for _ in range(5):
        sender.notify(DEAL)
    sender.chassis.get(Notifier)._deadline_seconds = 0.0
    assert sender.notify(DEAL)["discord"].error == "the circuit is open"
    assert len(upstream.received) == 5
    check = next(check for check in sender.chassis.health.checks if check.name == "notifications_discord")
    assert sender.call(check.probe)["state"] == "open"


def test_key_sends_once_unless_it_failed(open_sender: Open, upstream: Upstream) -> None:
    upstream.respond(status(400), status(204))
    sender = open_sender(discord_webhook_url=upstream.url, slack_webhook_url=upstream.url)
    statuses = [[sender.notify(DEAL, channels=["discord"], key="7")["discord"].status] for _ in range(3)]
    assert statuses == [["failed"], ["sent"], ["duplicate"]]
    assert sender.notify(DEAL, channels=["slack"], key="7")["slack"].status == "sent"
    assert sender.notify(DEAL, channels=["discord"], key="8")["discord"].status == "sent"


def test_channel_that_is_not_configured_is_off(open_sender: Open, upstream: Upstream, logs: Logs) -> None:
    sender = open_sender(discord_webhook_url=upstream.url)
    assert sender.notify(DEAL, channels=["discord", "slack"]) == {
        "discord": Result("sent", attempts=1),
        "slack": Result("off"),
    }
    nothing = open_sender()
    assert nothing.notify(DEAL) == {}
    assert len(logs("notification_without_channel")) == 1
    assert [check.name for check in nothing.chassis.health.checks] == []


def test_mistake_of_the_caller_is_an_error(open_sender: Open, upstream: Upstream) -> None:
    sender = open_sender(**channels(upstream.url))
    with pytest.raises(ValueError, match="'fax' is not a channel; use one of email, discord"):
        sender.notify(DEAL, channels=["fax"])
    with pytest.raises(ValueError, match=r"'sms' requires Message\(phone=...\)"):
        sender.notify(Message("Deal", "Tea"), channels=["sms"])
    with pytest.raises(LookupError, match="no outbox"):
        sender.chassis.get(Notifier).queue(None, DEAL, None, None)


def test_secrets_and_addresses_are_neither_logged_nor_reported(
    open_sender: Open, upstream: Upstream, logs: Logs
) -> None:
    operations: list[Any] = []
    upstream.respond(status(500), cut, status(404))
    sender = open_sender(**channels(upstream.url), log_level="DEBUG")
    sender.chassis.operation_observers.append(operations.append)
    results = sender.notify(DEAL)
    reported = [health(sender, name) for name in ("discord", "slack", "sms")]
    texts = repr([logs(), results, reported, [operation.attributes for operation in operations]])
    assert len(operations) >= 3
    assert [word for word in (SECRET, "ann@example.com", "+4930123456", "/api/webhooks") if word in texts] == []


def test_dry_run_logs_each_channel_and_sends_nothing(open_sender: Open, upstream: Upstream, logs: Logs) -> None:
    sender = open_sender(**channels(upstream.url), notifications_dry_run=True)
    assert {result.status for result in sender.notify(DEAL).values()} == {"sent"}
    logged = {entry["channel"]: entry["recipient"] for entry in logs("notification_dry_run")}
    assert logged == {"email": "ann@example.com", "discord": "", "slack": "", "sms": "+4930123456"}
    assert upstream.received == []


# -- email -------------------------------------------------------------------------------------------------------------


class Mailbox:
    """A mail server's handler that answers as a test tells it to."""

    def __init__(self) -> None:
        self.received: list[Any] = []
        self.answers: dict[str, str] = {}
        self.passwords: list[bytes] = []

    async def handle_RCPT(  # noqa: N802
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        envelope.rcpt_tos.append(address)
        return self.answers.get("RCPT", "250 OK")

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        answer = self.answers.get("DATA", "250 OK")
        if answer.startswith("250"):
            self.received.append(envelope)
        return answer

    def authenticate(self, _server: Any, _session: Any, _envelope: Any, _mechanism: str, given: Any) -> AuthResult:
        self.passwords.append(given.password)
        is_right = (given.login, given.password) == (b"user@example.com", SECRET.encode())
        return AuthResult(success=is_right, handled=False)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for localhost that no authority has signed, and its key."""
    folder = tmp_path_factory.mktemp("certificate")
    files = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        [
            servers.program("openssl", "openssl", ()), "req", "-x509", "-newkey", "ec",
            "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost", "-out", files[0], "-keyout", files[1],
        ],
        check=True, capture_output=True, timeout=servers.PATIENCE_SECONDS,
    )  # fmt: skip
    return files


@contextmanager
def serving_mail(mailbox: Mailbox, certificate: tuple[Path, Path], kind: str) -> Iterator[str]:
    """Serve mail with STARTTLS, with TLS, or without encryption, and yield the URL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    login = {"authenticator": mailbox.authenticate, "auth_required": True}
    options: dict[str, Any] = {
        "starttls": {"tls_context": context, "require_starttls": True, **login},
        "tls": {"ssl_context": context, **login, "auth_require_tls": False},
        "plain": {**login, "auth_require_tls": False},
    }[kind]
    controller = Controller(mailbox, hostname="localhost", port=servers.free_port(), **options)
    controller.start()
    try:
        scheme = "smtps" if kind == "tls" else "smtp"
        yield f"{scheme}://user%40example.com:{SECRET}@localhost:{controller.port}"
    finally:
        controller.stop()


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


@pytest.fixture
def open_mail(
    open_sender: Open, mailbox: Mailbox, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Open]:
    """Run a service and a mail server that it trusts; `kind` is the encryption of the server."""
    with ExitStack() as stack:

        def run(kind: str = "starttls", *, trusted: bool = True, **settings: Any) -> Sender:
            if trusted:
                monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
            url = stack.enter_context(serving_mail(mailbox, certificate, kind))
            given = {"smtp_url": url, "notifications_from": "Orders <orders@example.com>"}
            return open_sender(**given | settings)

        yield run


@pytest.mark.filterwarnings("ignore:Requiring AUTH")  # the server does not know that it is behind TLS
@pytest.mark.parametrize("kind", ["starttls", "tls"])
def test_email_is_sent_encrypted_with_text_and_html(kind: str, open_mail: Open, mailbox: Mailbox) -> None:
    results = open_mail(kind).notify(DEAL, key="deal-7")
    assert results == {"email": Result("sent", attempts=1)}
    (envelope,) = mailbox.received
    email = message_from_bytes(envelope.content, policy=default)
    assert (envelope.mail_from, envelope.rcpt_tos) == ("orders@example.com", ["ann@example.com"])
    assert (email["From"], email["To"]) == ("Orders <orders@example.com>", "ann@example.com")
    assert (email["Subject"], email["Auto-Submitted"]) == ("Deal found", "auto-generated")
    assert email["Message-ID"] == f"<{notifier.delivery_id_of('email', 'deal-7')}@example.com>"
    parts = {part.get_content_type(): part.get_content().strip() for part in email.iter_parts()}
    assert parts == {"text/plain": "Tea for 5 EUR", "text/html": "<p>Tea for <b>5 EUR</b></p>"}


@pytest.mark.parametrize(
    "injection",
    [
        "\r\nBcc: evil@example.com",
        "\nBcc: evil@example.com\n\nx",
        "\x00\u2028\x85x",
        " =?utf-8?q?x=0D=0ABcc:_evil@example.com?=",
    ],
)
def test_subject_cannot_add_a_header(injection: str, open_mail: Open, mailbox: Mailbox) -> None:
    open_mail().notify(Message(f"Deal{injection}", "Tea", email="ann@example.com"))
    (envelope,) = mailbox.received
    email = message_from_bytes(envelope.content, policy=default)
    assert envelope.rcpt_tos == ["ann@example.com"]
    assert email["Bcc"] is None
    assert email["Subject"].startswith("Deal")


@pytest.mark.parametrize(
    "address",
    [
        "ann@example.com\r\nBcc: evil@example.com",
        "ann@example.com, evil@example.com",
        "Ann <ann@example.com>",
        "ann@example.com\n",
        "ann\x00@example.com",
        "\ud800ann@example.com",
        "=?utf-8?q?evil=40example.org=2C?=@example.com",
        "ann",
        "ann@localhost",
        f"{'a' * 300}@example.com",
    ],
)
def test_message_has_one_plain_address(address: str) -> None:
    with pytest.raises(ValueError, match="is not one email address"):
        Message("Deal", "Tea", email=address)
    with pytest.raises(ValueError, match="is not a phone number"):
        Message("Deal", "Tea", phone=address)


def test_message_has_a_bounded_size() -> None:
    with pytest.raises(ValueError, match="has 201 characters"):
        Message("x" * 201, "")
    with pytest.raises(ValueError, match="has 0 characters"):
        Message(" \n", "")
    with pytest.raises(ValueError, match="more than 60000 bytes"):
        Message("Deal", "é" * 30_000)
    assert Message("Deal", "a\x00\ud800b\r\n\tc").text == "ab\n\tc"


@pytest.mark.parametrize(
    ("answers", "attempts", "error", "reported"),
    [
        ({"RCPT": "550 no such user"}, 1, "the server responded with 550", ("ok", None)),
        ({"DATA": "554 spam"}, 1, "the server responded with 554", ("ok", None)),
        ({"DATA": "451 try later"}, 2, "the server responded with 451", ("warning", "the server responded with 451")),
        ({"RCPT": "450 busy"}, 2, "the server responded with 450", ("warning", "the server responded with 450")),
    ],
)
def test_reply_of_the_mail_server_decides_on_a_retry(
    answers: dict[str, str], attempts: int, error: str, reported: Any, open_mail: Open, mailbox: Mailbox
) -> None:
    mailbox.answers = answers
    sender = open_mail()
    sender.chassis.get(Notifier)._sleep = sleep_until_deadline(sender)
    assert sender.notify(DEAL) == {"email": Result("failed", error, attempts)}
    assert health(sender, "email") == reported


def sleep_until_deadline(sender: Sender) -> Callable[[float], Any]:
    """Let the service stop after the next attempt, as at the end of a deadline."""

    async def sleep(_seconds: float) -> None:
        sender.chassis.lifecycle.draining = True

    return sleep


def test_wrong_password_is_reported(open_mail: Open, mailbox: Mailbox, logs: Logs) -> None:
    sender = open_mail()
    email = sender.chassis.get(Notifier).channels["email"]
    email._options["password"] = "wrong-password"
    (result,) = sender.notify(DEAL).values()
    assert result.error == "the server rejects the user or password in SMTP_URL"
    assert health(sender, "email") == ("error", result.error)
    assert "wrong-password" not in repr(logs())


@pytest.mark.filterwarnings("ignore:Requiring AUTH")
def test_server_without_starttls_gets_neither_password_nor_message(open_mail: Open, mailbox: Mailbox) -> None:
    (result,) = open_mail("plain").notify(DEAL).values()
    assert (result.status, "STARTTLS" in result.error) == ("failed", True)
    assert (mailbox.passwords, mailbox.received) == ([], [])


def test_server_with_an_untrusted_certificate_gets_neither_password_nor_message(
    open_mail: Open, mailbox: Mailbox
) -> None:
    (result,) = open_mail(trusted=False).notify(DEAL).values()
    assert result.error == "the TLS handshake failed; check the certificate and SMTP_URL"
    assert (mailbox.passwords, mailbox.received) == ([], [])


def test_mail_server_that_is_silent_or_gone_is_unavailable(open_sender: Open) -> None:
    quick = {"notifications_timeout_seconds": SHORT_SECONDS, "notifications_deadline_seconds": SHORT_SECONDS}
    quick["notifications_from"] = "orders@example.com"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"smtps://127.0.0.1:{silent.getsockname()[1]}"
        assert open_sender(smtp_url=url, **quick).notify(DEAL)["email"].error == "no response in time"
    quick["notifications_timeout_seconds"] = LONG_SECONDS
    result = open_sender(smtp_url=f"smtp://127.0.0.1:{servers.free_port()}", **quick).notify(DEAL)["email"]
    assert (result.status, result.error) == ("failed", "unreachable")


# -- templates ---------------------------------------------------------------------------------------------------------


def test_template_has_the_subject_in_its_first_line_and_escapes_html(folder: Path) -> None:
    (folder / "deal.txt").write_text("Deal: {{ name }}\n\nOnly {{ price }} <EUR>\n")
    (folder / "deal.html").write_text("<p>{{ name }}</p>")
    templates = module("chassis.notifications.templates").Templates(folder)
    assert templates.message("deal", email="ann@example.com", name="<b>Tea</b>", price=5) == Message(
        "Deal: <b>Tea</b>", "Only 5 <EUR>", "<p>&lt;b&gt;Tea&lt;/b&gt;</p>", "ann@example.com"
    )
    (folder / "deal.html").unlink()
    assert templates.message("deal", name="Tea\r\nBcc: x", price=5).html == ""
    with pytest.raises(Exception, match="'price' is undefined"):
        templates.message("deal", name="Tea")
    with pytest.raises(Exception, match=r"offer\.txt"):
        templates.message("offer")


# -- settings ----------------------------------------------------------------------------------------------------------

TWILIO = {"twilio_account_sid": "AC1", "twilio_from": "+15005550006"}
IN_PRODUCTION = {"environment": "production", "allowed_hosts": "api.example.com"}


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"smtp_url": f"http://user:{SECRET}@host"}, "SMTP_URL: is not a URL of a mail server; use the form smtp://"),
        ({"smtp_url": f"smtp://user:{SECRET}@host:99999"}, "SMTP_URL: is not a URL of a mail server"),
        ({"smtp_url": f"smtp://:{SECRET}@"}, "SMTP_URL: is not a URL of a mail server"),
        ({"smtp_url": f"smtp://{SECRET}@host"}, "SMTP_URL: has a user without a password"),
        ({"smtp_url": f"smtp://user:{SECRET}@host", "notifications_from": ""}, "SMTP_URL: requires a sender"),
        ({"smtp_url": f"smtp+insecure://user:{SECRET}@host"}, "SMTP_URL: smtp+insecure:// is for development"),
        ({"smtp_url": "smtp+insecure://host", **IN_PRODUCTION}, "SMTP_URL: smtp+insecure:// is for development"),
        ({"notifications_from": "Orders"}, "NOTIFICATIONS_FROM: is not a sender"),
        ({"notifications_from": "Orders <orders@example.com>, x@example.com"}, "NOTIFICATIONS_FROM: is not a sender"),
        ({"discord_webhook_url": f"discord.com/{SECRET}"}, "DISCORD_WEBHOOK_URL: is not the URL of a webhook"),
        ({"slack_webhook_url": f"ftp://hooks/{SECRET}"}, "SLACK_WEBHOOK_URL: is not the URL of a webhook"),
        ({"slack_webhook_url": f"http://h/{SECRET}", **IN_PRODUCTION}, "SLACK_WEBHOOK_URL: is not the URL"),
        (TWILIO, "TWILIO_AUTH_TOKEN: TWILIO_ACCOUNT_SID, TWILIO_FROM and TWILIO_AUTH_TOKEN belong together"),
        ({"twilio_auth_token": SECRET}, "TWILIO_AUTH_TOKEN: TWILIO_ACCOUNT_SID, TWILIO_FROM and TWILIO_AUTH_TOKEN"),
        ({**TWILIO, "twilio_account_sid": "../x", "twilio_auth_token": SECRET}, "TWILIO_ACCOUNT_SID: is not"),
        ({"notifications_dry_run": "true", **IN_PRODUCTION}, "NOTIFICATIONS_DRY_RUN: must not be on in production"),
    ],
)  # fmt: skip
def test_invalid_setting_is_named_without_its_secret(settings: dict[str, str], problem: str) -> None:
    with pytest.raises(SettingsError) as raised:
        settings_for_tests(**{"notifications_from": "orders@example.com"} | settings)
    assert [line for line in raised.value.problems if line.startswith(problem)], raised.value.problems
    assert SECRET not in str(raised.value)
