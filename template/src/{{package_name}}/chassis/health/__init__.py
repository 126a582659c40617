"""Health endpoints with three states: healthy, degraded, unhealthy. A dead database must never restart the process."""

from __future__ import annotations

from pydantic import Field

from ..settings import BaseChassisSettings


class Settings(BaseChassisSettings):
    """Health"""

    health_check_timeout_seconds: float = Field(
        2.0, gt=0, description="How long one check may take; what asks the database has two fifths of it."
    )
    health_check_interval_seconds: float = Field(
        1.0, ge=0, description="How long results are kept, so that probes cost the dependencies nothing."
    )
