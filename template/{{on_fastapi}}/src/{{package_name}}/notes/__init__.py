"""The domain of the notes.

To remove it, delete this folder, its tests in `tests/notes/`, and its line in `main.py`.
"""

from fastapi import FastAPI

from .health import add_health_check
from .router import router


def install(app: FastAPI) -> None:
    """Add the routes and the health check of the notes."""
    app.include_router(router, prefix="/api/v1")
    add_health_check(app)
