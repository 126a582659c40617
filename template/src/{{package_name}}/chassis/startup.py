"""How long the service tries to open what it depends on, and for which errors it tries again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import errors, problem
from .service import Service

EX_UNAVAILABLE = 69  # sysexits.h: something that the service depends on is not there


def policy(service: Service) -> dict[str, Any]:
    """Return the options of stamina's callers: try until `STARTUP_TIMEOUT_SECONDS` are over."""
    timeout_seconds = service.settings.startup_timeout_seconds
    return {"attempts": None, "timeout": timeout_seconds, "wait_initial": 0.1, "wait_max": 2.0}


def is_away(service: Service) -> Callable[[Exception], bool]:
    """Return what tells a dependency that is away for the moment from one that will never open."""

    def judge(error: Exception) -> bool:
        # Who was told to stop waits for nobody.
        return not service.lifecycle.draining and isinstance(problem.meaning(service, error), errors.UnavailableError)

    return judge
