"""Offers of a marketplace, their scores, and alerts about the best."""

from fastapi import FastAPI

from ..chassis.app import chassis_of
from ..chassis.http_client.asyncio import add_http_client
from ..settings import Settings
from .router import router


def install(app: FastAPI) -> None:
    """Add the routes and the client of the marketplace."""
    app.include_router(router, prefix="/api/v1")
    chassis = chassis_of(app)
    add_http_client(chassis, "marketplace", chassis.settings_as(Settings).marketplace_url)
