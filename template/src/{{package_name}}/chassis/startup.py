"""Opening what the service depends on: each in its turn, tried again while it is only away for the moment."""

from __future__ import annotations

import stamina

from . import errors, problem
from .service import Service


def attempts(service: Service) -> stamina.retry_context:  # type: ignore[valid-type]
    """Return the attempts at opening one dependency, until `startup_timeout_seconds` are over."""

    def is_away(error: Exception) -> bool:
        return isinstance(problem.meaning(service, error), errors.UnavailableError)

    return stamina.retry_context(
        on=is_away,
        attempts=None,
        timeout=service.settings.startup_timeout_seconds,
        wait_initial=0.1,
        wait_max=2.0,
    )
