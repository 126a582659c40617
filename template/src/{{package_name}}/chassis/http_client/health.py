"""A health check for another service over HTTP; register it with `chassis.health.add(...)`."""

from __future__ import annotations

from typing import Any

import httpx

from ..health.checks import Check, CheckFailedError

# Probes of this service must not cause load on another one.
_CACHE_SECONDS = 15.0


class Upstream(Check):
    """Passes if `url` returns `expected_status` within `timeout_seconds`. It is critical only if `critical` is true."""

    def __init__(
        self, name: str, url: str, *, expected_status: int = 200, timeout_seconds: float = 1.5, critical: bool = False
    ) -> None:
        def probe() -> dict[str, Any]:
            try:
                status = httpx.get(url, timeout=timeout_seconds).status_code
            except httpx.TimeoutException:
                raise CheckFailedError(f"no response within {timeout_seconds} s") from None
            except httpx.HTTPError:
                raise CheckFailedError("unreachable") from None
            if status != expected_status:
                raise CheckFailedError(f"answered {status}, expected {expected_status}")
            return {"status_code": status}

        super().__init__(name, probe, critical, cache_seconds=_CACHE_SECONDS)
