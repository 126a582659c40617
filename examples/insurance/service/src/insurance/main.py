"""The application: the framework, the chassis around it, and your domains."""

from flask import Flask

from .chassis import settings as chassis_settings
from .chassis.app import load_domains
from .chassis.features import FEATURES
from .chassis.web.flask import install
from .settings import Settings

DOMAINS = load_domains(
    __name__,
    # One line for each of your domains. A domain is a package next to this file.
    "portfolio",
)


def create_app(settings: Settings | None = None) -> Flask:
    """Return the application. Without `settings`, they are read from the environment."""
    settings = settings or chassis_settings.load(Settings)
    app = Flask(__name__, static_folder=None)
    app.debug = settings.debug
    install(app, settings, FEATURES)
    for domain in DOMAINS:
        domain.install(app)
    return app
