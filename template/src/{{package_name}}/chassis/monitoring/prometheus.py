"""Metrics for Prometheus (https://prometheus.io), served on a separate port."""

from __future__ import annotations

from pydantic import Field

from ..app import Chassis
from ..settings import BaseChassisSettings


class Settings(BaseChassisSettings):
    """Metrics"""

    metrics_host: str = Field("127.0.0.1", description="Address that serves the metrics; keep it private.")
    metrics_port: int = Field(9000, ge=0, le=65535, description="Port that serves the metrics; 0 takes any free port.")


def install(chassis: Chassis) -> None:
    """Record each request."""
