"""Traces for OpenTelemetry (https://opentelemetry.io), exported over OTLP."""

from __future__ import annotations

from pydantic import Field

from ..app import Chassis
from ..settings import BaseChassisSettings


class Settings(BaseChassisSettings):
    """Traces"""

    otel_traces_sampler_arg: float = Field(0.1, ge=0, le=1, description="Share of the traces that are recorded.")


def install(chassis: Chassis) -> None:
    """Record a span for each sampled request."""
