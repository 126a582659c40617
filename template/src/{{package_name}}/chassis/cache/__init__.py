"""The cache: values that are dear to make, kept for a while. Where they are kept is one of the modules beside this."""

from __future__ import annotations

from pydantic import Field

from ..settings import BaseChassisSettings


class Settings(BaseChassisSettings):
    """Cache"""

    cache_namespace: str = Field("", description="First part of every key; SERVICE_NAME when it is empty.")
    cache_version: str = Field(
        "1", min_length=1, description="Part of every key; raise it when what is kept changes its form."
    )
