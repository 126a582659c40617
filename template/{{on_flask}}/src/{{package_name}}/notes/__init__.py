"""The example domain. To remove it, delete this folder, `tests/notes/` and its line in `main.py`: see README.md."""

from flask import Flask

from .health import add_health_check
from .router import blueprint


def install(app: Flask) -> None:
    """Add the routes and the health check of the notes."""
    app.register_blueprint(blueprint, url_prefix="/api/v1/notes")
    add_health_check(app)
