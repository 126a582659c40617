"""Training plans, their workouts and their weekly schedules."""

from fastapi import FastAPI

from .router import router


def install(app: FastAPI) -> None:
    """Add the routes of the plans."""
    app.include_router(router, prefix="/api/v1")
