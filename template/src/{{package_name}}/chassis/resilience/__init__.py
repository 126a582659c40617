"""How the service calls what it depends on: again when that may help, not at all for a while when it does not."""

from __future__ import annotations

import stamina.instrumentation
from pydantic import Field

from ..service import Service
from ..settings import BaseChassisSettings
from . import failures, retry


class Settings(BaseChassisSettings):
    """Calls to other services"""

    retry_attempts: int = Field(3, ge=1, description="How often a call is tried in all; 1 never tries again.")
    retry_wait_initial_seconds: float = Field(
        1.0, gt=0, description="Longest pause before the second try; it doubles with each further one."
    )
    retry_wait_max_seconds: float = Field(10.0, gt=0, description="Longest pause between two tries.")
    retry_deadline_seconds: float = Field(
        20.0, gt=0, description="How long all tries and pauses of one call may take; less than REQUEST_TIMEOUT_SECONDS."
    )
    circuit_failure_threshold: int = Field(
        5, ge=1, description="After how many failures in a row a dependency is left alone."
    )
    circuit_recovery_seconds: float = Field(
        30.0, gt=0, description="How long it is left alone, until one call tries whether it is back."
    )
    http_client_connect_timeout_seconds: float = Field(
        3.0, gt=0, description="How long a connection to another service may take."
    )
    http_client_read_timeout_seconds: float = Field(
        5.0, gt=0, description="How long another service may be silent in the middle of a call."
    )
    http_client_timeout_seconds: float = Field(10.0, gt=0, description="How long one try of a call may take in all.")
    http_client_max_connections: int = Field(50, ge=1, description="How many connections each client may hold open.")


def install(service: Service) -> None:
    """Say of a dependency that failed what it means, and log every new try in the service's own form."""
    service.translators.append(failures.translate)
    stamina.instrumentation.set_on_retry_hooks([retry.log_retry])
