"""Reports errors and a share of the requests to Sentry (https://sentry.io), if `SENTRY_DSN` is set.

If it is not set, the library of Sentry is not imported.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from ..app import Chassis
from ..health.checks import Check
from ..lifecycle import EX_UNAVAILABLE
from ..settings import BaseChassisSettings, SettingsError, load, view

if TYPE_CHECKING:
    from ..cli import Program


class Settings(BaseChassisSettings):
    """Error tracking"""

    sentry_dsn: SecretStr | None = Field(None, description="DSN of the Sentry project; nothing is sent without it.")
    sentry_traces_sample_rate: float = Field(
        0.1, ge=0, le=1, description="Share of requests that send a trace, 0 to 1; at most 5 per second and process."
    )

    @field_validator("sentry_dsn")
    @classmethod
    def _is_a_dsn(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _is_dsn(value.get_secret_value()):
            raise ValueError("is not a valid DSN; copy it from the project's settings: https://<key>@<host>/<number>")
        return value

    def production_warnings(self) -> list[str]:
        problem = "SENTRY_DSN: is empty, so no errors are reported; copy the DSN from the project's settings in Sentry"
        return [*super().production_warnings(), *([] if self.sentry_dsn else [problem])]


def _is_dsn(text: str) -> bool:
    try:
        url = urlsplit(text)
        is_address = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:  # the port or an IPv6 address
        return False
    project = url.path.rpartition("/")[2]
    is_plain = text.isascii() and text.isprintable() and " " not in text and not url.query and not url.fragment
    return is_plain and is_address and bool(url.username) and project.isdigit()


def install(chassis: Chassis) -> None:
    """Report each 5xx, exceptions in the log, and a share of the requests."""
    settings = chassis.settings_as(Settings)
    if settings.sentry_dsn is None:
        chassis.health.add(Check("sentry", _disabled))
        return
    from .sentry_client import ErrorTracker

    tracker = ErrorTracker(chassis, settings.sentry_dsn.get_secret_value(), settings.sentry_traces_sample_rate)
    chassis.error_reporters.append(tracker.report)
    chassis.log_observers.append(tracker.observe_log)
    if settings.sentry_traces_sample_rate:
        chassis.operation_observers.append(tracker.observe_operation)
        chassis.request_observers.append(tracker.observe_request)
    # Sentry is installed before the features with resources, so its lifespan ends after theirs.
    chassis.lifespans.append(("sentry", tracker.lifespan))
    chassis.health.add(Check("sentry", tracker.probe))


async def _disabled() -> dict[str, bool]:
    return {"enabled": False}


def add_commands(commands: Any) -> None:
    """Add `sentry-test` to the commands of the service."""
    commands.add_parser("sentry-test", help="send a test event to Sentry").set_defaults(run=_send_test)


def _send_test(program: Program, _options: argparse.Namespace) -> int:
    """Send an event and print whether it has arrived."""
    settings = load(program.settings)
    dsn = view(settings, Settings).sentry_dsn
    if dsn is None:
        raise SettingsError(["SENTRY_DSN: is not set; copy the DSN from the project's settings in Sentry"])
    from .sentry_client import ErrorTracker

    problem = ErrorTracker(Chassis(settings), dsn.get_secret_value(), 0).send_test()
    if problem is not None:
        print(f"The event was not delivered: {problem}.", file=sys.stderr)
        return EX_UNAVAILABLE
    print("Sentry has received the event 'a test of sentry-test'.")
    return 0
