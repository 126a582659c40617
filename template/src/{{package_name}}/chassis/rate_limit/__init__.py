"""How often a client may ask. Judged before the framework sees the request; health is not counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

from pydantic import Field, field_validator

from ..settings import BaseChassisSettings
from .limit import Limit

_MARK = "chassis_rate_limit"

F = TypeVar("F", bound=Callable[..., Any])


class Settings(BaseChassisSettings):
    """Rate limits"""

    rate_limit_enabled: bool = Field(True, description="Refuse clients that ask too often, with 429.")
    rate_limit_default: str = Field(
        "100/minute", description="How many requests of a client are served, such as `10/second` or `500/15 minutes`."
    )
    rate_limit_by: Literal["address", "api-key"] = Field(
        "address",
        description="Whom to count: the client's address, or its `X-API-Key` where something in front has proved that.",
    )

    @field_validator("rate_limit_default")
    @classmethod
    def _is_a_limit(cls, value: str) -> str:
        Limit.parse("default", value)
        return value


def rate_limit(text: str) -> Callable[[F], F]:
    """Give a route a limit of its own instead of the default: one line below the router's decorator.

    `@rate_limit("10/minute")`; `@rate_limit("off")` for none at all.

    Raises:
        ValueError: the limit is written differently.
    """
    if text != "off":
        Limit.parse("", text)

    def mark(endpoint: F) -> F:
        # `notes.router.create_note`: two routes may have functions of the same name.
        name = f"{endpoint.__module__}.{endpoint.__name__}".partition(".")[2]
        setattr(endpoint, _MARK, None if text == "off" else Limit.parse(name, text))
        return endpoint

    return mark


def is_marked(endpoint: object) -> bool:
    """Tell whether a route has a limit of its own."""
    return hasattr(endpoint, _MARK)


def limit_of(endpoint: object, default: Limit) -> Limit | None:
    """Return the limit of a route; None for no limit."""
    limit: Limit | None = getattr(endpoint, _MARK, default)
    return limit
