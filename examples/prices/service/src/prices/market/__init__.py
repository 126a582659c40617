"""Prices, and alerts about large transfers."""

from fastapi import FastAPI

from ..chassis.app import chassis_of
from .health import add_health_checks
from .poller import add_pollers
from .router import router


def install(app: FastAPI) -> None:
    """Add the routes, the health checks, and the tasks that call the upstreams."""
    app.include_router(router, prefix="/api/v1")
    chassis = chassis_of(app)
    add_health_checks(chassis)
    add_pollers(chassis)
