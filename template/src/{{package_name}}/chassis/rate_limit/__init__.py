"""Rate limiting: `RATE_LIMIT_DEFAULT` for every client, and `@rate_limit("10/minute")` for a route's own limit."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar

from pydantic import Field, field_validator

from ..settings import BaseChassisSettings

F = TypeVar("F", bound=Callable[..., Any])

_UNIT_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
_LIMIT = re.compile(r"(\d{1,9})/(?:(\d{1,4}) )?(second|minute|hour|day)s?")
_ATTRIBUTE = "chassis_rate_limit"


class Settings(BaseChassisSettings):
    """Rate limits"""

    rate_limit_enabled: bool = Field(True, description="Reject clients that send too many requests, with 429.")
    rate_limit_default: str = Field(
        "100/minute", description="Requests allowed per client, such as `10/second` or `500/15 minutes`."
    )
    rate_limit_key: Literal["address", "api-key"] = Field(
        "address",
        description="How clients are identified: by address (IPv6: by /64 network), or by valid credentials. A proxy "
        "must verify `X-API-Key` unless the feature `api-keys` does.",
    )

    @field_validator("rate_limit_default")
    @classmethod
    def _is_a_limit(cls, value: str) -> str:
        Limit.parse("default", value)
        return value

    def production_warnings(self) -> list[str]:
        problem = "RATE_LIMIT_ENABLED: one client can take the whole capacity; set RATE_LIMIT_ENABLED=true"
        return [*super().production_warnings(), *([] if self.rate_limit_enabled else [problem])]


class RateLimitResult(NamedTuple):
    """The result for one request: whether it is allowed, the remaining requests, and the seconds until a change."""

    allowed: bool
    remaining: int
    reset_seconds: float


@dataclass(frozen=True, slots=True)
class Limit:
    """A number of requests per client and window, counted by a sliding window.

    Each client has two numbers: its requests in the current window and in the previous one. The previous number counts
    in proportion to the part of its window that the sliding window still covers, as if requests were evenly spread.
    """

    name: str
    count: int
    seconds: int
    # The name and the policy in the format of the header fields (draft-ietf-httpapi-ratelimit-headers-11).
    label: bytes
    policy: bytes

    @classmethod
    def parse(cls, name: str, text: str) -> Limit:
        """Return the limit that a text such as `100/minute` or `500/15 minutes` describes.

        Raises:
            ValueError: The text has another form.
        """
        match = _LIMIT.fullmatch(text.strip())
        if match is None or int(match[1]) < 1 or (match[2] is not None and int(match[2]) < 1):
            raise ValueError(f"invalid rate limit {text!r}; use the form 100/minute or 500/15 minutes")
        count, seconds = int(match[1]), int(match[2] or 1) * _UNIT_SECONDS[match[3]]
        label = f'"{name}"'.encode("ascii", "replace")
        return cls(name, count, seconds, label, b"%s;q=%d;w=%d" % (label, count, seconds))

    def free(self, current: int, previous: int, left_seconds: float) -> int:
        """Return how many requests a client may still send; the current window ends in `left_seconds`."""
        return int(self.count - current - previous * left_seconds / self.seconds)

    def wait_seconds(self, current: int, previous: int, left_seconds: float) -> float:
        """Return the seconds until a client without free requests may send one."""
        if current < self.count:
            return left_seconds - self.seconds * (self.count - current - 1) / previous
        return left_seconds + self.seconds * (1 - (self.count - 1) / current)


def rate_limit(text: str) -> Callable[[F], F]:
    """Give a route its own limit, or none with `"off"`; place the decorator below the router's.

    Raises:
        ValueError: The text has another form.
    """
    if text != "off":
        Limit.parse("", text)

    def decorate(endpoint: F) -> F:
        # For example notes.router.create_note: functions of two domains may have the same name.
        name = f"{endpoint.__module__}.{endpoint.__name__}".partition(".")[2]
        setattr(endpoint, _ATTRIBUTE, None if text == "off" else Limit.parse(name, text))
        return endpoint

    return decorate


def limit_of(endpoint: object, default: Limit) -> Limit | None:
    """Return the route's own limit, `default` if it has no decorator, or None if it is not limited."""
    limit: Limit | None = getattr(endpoint, _ATTRIBUTE, default)
    return limit
