"""The example domain. It goes with this folder, `tests/notes/`, and its line in `main.py`: see README.md."""

from fastapi import FastAPI

from .health import watch
from .router import router


def install(app: FastAPI) -> None:
    """Serve the notes, and have `/health` say how they are."""
    app.include_router(router, prefix="/api/v1")
    watch(app)
