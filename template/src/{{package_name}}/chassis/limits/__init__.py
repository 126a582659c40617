"""How much and how long one request may take, judged before the handler runs."""

from __future__ import annotations

from pydantic import Field

from ..settings import BaseChassisSettings


class Settings(BaseChassisSettings):
    """Limits"""

    max_request_body_bytes: int = Field(1_000_000, gt=0, description="Largest request body; a larger one gets 413.")
    request_timeout_seconds: float = Field(30.0, gt=0, description="How long a request may take; then it gets 504.")
