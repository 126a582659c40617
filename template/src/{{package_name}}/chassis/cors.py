"""Cross-origin requests from browsers (Fetch standard, CORS protocol); off unless origins are named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationInfo, field_validator

from .problem import Answer
from .settings import BaseChassisSettings, CommaSeparated, in_production


class Settings(BaseChassisSettings):
    """CORS"""

    cors_allowed_origins: CommaSeparated = Field(
        [],
        description="Origins whose pages may call, such as `https://app.example.com`; none by default.",
    )
    cors_allow_credentials: bool = Field(False, description="Let browsers send cookies and credentials along.")
    cors_allowed_headers: CommaSeparated = Field(
        ["authorization", "content-type", "x-request-id"],
        description="Request headers that pages may set.",
    )
    cors_max_age_seconds: int = Field(600, ge=0, description="How long browsers may remember the permission.")

    @field_validator("cors_allowed_origins")
    @classmethod
    def _no_wildcard_in_production(cls, value: list[str], info: ValidationInfo) -> list[str]:
        if in_production(info) and "*" in value:
            raise ValueError("must not be * in production; name the origins, such as https://app.example.com")
        for origin in value:
            if origin != "*" and ("://" not in origin or origin.endswith("/")):
                raise ValueError(
                    f"{origin!r} is no origin; write it like https://app.example.com, with no slash at the end"
                )
        return value

    @field_validator("cors_allow_credentials")
    @classmethod
    def _credentials_need_names(cls, value: bool, info: ValidationInfo) -> bool:
        if value and "*" in info.data.get("cors_allowed_origins", []):
            raise ValueError("does not go with CORS_ALLOWED_ORIGINS=*; name the origins")
        return value


class Cors:
    """Says which headers a cross-origin answer carries."""

    def __init__(self, settings: Any) -> None:
        self._origins = frozenset(settings.cors_allowed_origins)
        self._fixed = {"access-control-expose-headers": "x-request-id"}
        if settings.cors_allow_credentials:
            self._fixed["access-control-allow-credentials"] = "true"
        self._preflight = {
            "access-control-allow-methods": "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT",
            "access-control-allow-headers": ", ".join(settings.cors_allowed_headers),
            "access-control-max-age": str(settings.cors_max_age_seconds),
        }

    def __bool__(self) -> bool:
        return bool(self._origins)

    def headers(self, origin: str | None) -> Mapping[str, str]:
        """Return what an answer to this origin carries; caches must keep the answers to different origins apart."""
        if origin is None or not (origin in self._origins or "*" in self._origins):
            return {"vary": "Origin"}
        return {"access-control-allow-origin": origin, "vary": "Origin"} | self._fixed

    def preflight(self, method: str, head: Mapping[str, str]) -> Answer | None:
        """Return the answer to a preflight request, or None when this is none."""
        if method != "OPTIONS" or "origin" not in head or "access-control-request-method" not in head:
            return None
        allowed = "access-control-allow-origin" in self.headers(head["origin"])
        return Answer(204, self._preflight if allowed else {}, b"")
