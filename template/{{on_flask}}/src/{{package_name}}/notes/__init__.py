"""The example domain. It goes with this folder, `tests/notes/`, and its line in `main.py`: see README.md."""

from flask import Flask

from .health import watch
from .router import blueprint


def install(app: Flask) -> None:
    """Serve the notes, and have `/health` say how they are."""
    app.register_blueprint(blueprint, url_prefix="/api/v1/notes")
    watch(app)
