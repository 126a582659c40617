"""Reports errors to Sentry (https://sentry.io), if `SENTRY_DSN` is set."""

from __future__ import annotations

from pydantic import Field, SecretStr

from ..app import Chassis
from ..settings import BaseChassisSettings


class Settings(BaseChassisSettings):
    """Error tracking"""

    sentry_dsn: SecretStr | None = Field(None, description="Address of the Sentry project; nothing is sent without it.")
    sentry_traces_sample_rate: float = Field(0.1, ge=0, le=1, description="Share of the requests that send a trace.")


def install(chassis: Chassis) -> None:
    """Report each 5xx."""
