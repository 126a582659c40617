"""The application: the framework, the chassis around it, and your domains."""

from flask import Flask

from .chassis import settings as chassis_settings
from .chassis.domains import load_domains
from .chassis.features import FEATURES
from .chassis.web.flask import install
from .settings import Settings

DOMAINS = load_domains(
    __name__,
    # A line for each folder of yours that is a domain.
    "notes",
)


def create_app(settings: Settings | None = None) -> Flask:
    """Return the application; without `settings` they are read from the environment."""
    settings = settings or chassis_settings.load(Settings)
    app = Flask(__name__, static_folder=None)
    app.debug = settings.debug
    install(app, settings, FEATURES)
    for domain in DOMAINS:
        domain.install(app)
    return app
