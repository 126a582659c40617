"""The application: the framework, the chassis around it, and your domains."""

from flask import Flask

from . import notes
from .chassis import settings as chassis_settings
from .chassis.features import FEATURES
from .chassis.web.flask import install
from .settings import Settings


def create_app(settings: Settings | None = None) -> Flask:
    """Return the application; without `settings` they are read from the environment."""
    settings = settings or chassis_settings.load(Settings)
    app = Flask(__name__, static_folder=None)
    app.debug = settings.debug
    install(app, settings, FEATURES)
    notes.install(app)
    return app
