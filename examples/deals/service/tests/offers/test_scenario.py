"""The acceptance of the service: a flaky marketplace, each alert once on each channel, and the documented settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import yaml
from aiosmtpd.controller import Controller

from ..chassis.process import serving, until
from ..chassis.upstream import cut, serving_upstream, status
from ..package import PACKAGE, ROOT
from ..servers import free_port
from .records import page, record


class Inbox:
    """The emails that a mail server has received."""

    def __init__(self) -> None:
        self.emails: list[Any] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        self.emails.append(message_from_bytes(envelope.content, policy=default))
        return "250 OK"


@contextmanager
def mail_server() -> Iterator[tuple[Inbox, str]]:
    """Receive emails during the block; the address has the form of SMTP_URL."""
    inbox, port = Inbox(), free_port()
    controller = Controller(inbox, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield inbox, f"smtp+insecure://127.0.0.1:{port}"
    finally:
        controller.stop()


def test_good_offer_is_reported_once_by_email_discord_and_sms(migrated: None, folder: Path) -> None:
    """The marketplace fails twice before it responds, and a second import reports nothing again."""
    with (
        serving_upstream() as marketplace,
        serving_upstream() as discord,
        serving_upstream() as twilio,
        mail_server() as (inbox, smtp_url),
    ):
        good, usual = record("g-1", "40.00", title="Green tea"), record("u-1", "95.00")
        marketplace.respond(status(503), cut, status(200, page(good, usual, {"id": "broken"})))
        discord.respond(status(200))
        twilio.respond(status(201, b'{"sid": "SM1"}'))
        settings = {
            "MARKETPLACE_URL": marketplace.url, "RETRY_WAIT_INITIAL_SECONDS": "0.01",
            "ALERT_EMAIL": "ann@example.com", "ALERT_PHONE": "+4930123456",
            "SMTP_URL": smtp_url, "NOTIFICATIONS_FROM": "Deals <deals@example.com>",
            "DISCORD_WEBHOOK_URL": f"{discord.url}/webhook", "TWILIO_API_URL": twilio.url,
            "TWILIO_ACCOUNT_SID": "AC123", "TWILIO_AUTH_TOKEN": "hunter2hunter2", "TWILIO_FROM": "+15005550006",
        }  # fmt: skip
        with serving(folder, PACKAGE, "serve", **settings) as process, process.client() as client:
            imported = client.post("/api/v1/imports")
            assert (imported.status_code, imported.json()) == (201, {"new": 2, "known": 0, "invalid": 1})
            assert len(marketplace.received) == 3
            until(lambda: inbox.emails and discord.received and twilio.received)

            (email,) = inbox.emails
            assert (email["To"], email["Subject"]) == ("ann@example.com", "Green tea for 40.00 EUR")
            assert "https://market.example.com/g-1" in email.get_body(("plain",)).get_content()
            assert "<a href=" in email.get_body(("html",)).get_content()
            assert "Green tea for 40.00 EUR" in discord.received[0].body.decode()
            sms = parse_qs(twilio.received[0].body.decode())
            assert sms["To"] == ["+4930123456"]

            assert client.post("/api/v1/imports").json() == {"new": 0, "known": 2, "invalid": 1}
            marketplace.respond(status(200, page(record("g-2", "30.00", title="Black tea"))))
            assert client.post("/api/v1/imports").json()["new"] == 1
            until(lambda: len(inbox.emails) == len(discord.received) == len(twilio.received) == 2)
            assert inbox.emails[1]["Subject"] == "Black tea for 30.00 EUR"
            checks = client.get("/health").json()["checks"]
            assert {"notifications_email", "notifications_discord", "notifications_sms"} <= checks.keys()


def test_more_than_sixty_settings_are_documented() -> None:
    """Those of the offers are among them."""
    documented = re.findall(
        r"^\| `([A-Z_]+)`", (ROOT / "docs/configuration.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert len(documented) > 60
    assert {"MARKETPLACE_URL", "ALERT_SCORE", "ALERT_EMAIL", "ALERT_PHONE"} <= set(documented)


def test_objectives_have_alerts_and_dashboards() -> None:
    """The alerts of the error budget come from monitoring/slo.yml."""
    rules = yaml.safe_load((ROOT / "monitoring/rules/slo.yml").read_text(encoding="utf-8"))
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"] if "alert" in rule}
    assert alerts
    assert list((ROOT / "monitoring/chassis/dashboards").glob("*.json"))
