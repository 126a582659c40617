"""The domain of the notes.

To remove it, delete this folder, its tests in `tests/notes/`, and its line in `main.py`.
"""

from flask import Flask

from .health import add_health_check
from .router import blueprint


def install(app: Flask) -> None:
    """Add the routes and the health check of the notes."""
    app.register_blueprint(blueprint, url_prefix="/api/v1/notes")
    add_health_check(app)
