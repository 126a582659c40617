"""The application: the framework, the chassis around it, and your blueprints."""

from flask import Flask

from .chassis import settings as chassis_settings
from .chassis.features import FEATURES
from .chassis.web.flask import install
from .notes.health import watch as watch_notes
from .notes.router import blueprint as notes
from .settings import Settings


def create_app(settings: Settings | None = None) -> Flask:
    """Return the application; without `settings` they are read from the environment."""
    settings = settings or chassis_settings.load(Settings)
    app = Flask(__name__, static_folder=None)
    app.debug = settings.debug
    install(app, settings, FEATURES)
    watch_notes(app)
    app.register_blueprint(notes, url_prefix="/api/v1/notes")
    return app
