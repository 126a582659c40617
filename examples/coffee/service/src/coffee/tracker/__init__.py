"""Cups of coffee, heart rates, and their correlation."""

from fastapi import FastAPI

from .router import router


def install(app: FastAPI) -> None:
    """Add the routes of the tracker."""
    app.include_router(router, prefix="/api/v1")
