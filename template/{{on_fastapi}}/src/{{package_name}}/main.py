"""The application: the framework, the chassis around it, and your domains."""

from fastapi import FastAPI

from . import notes
from .chassis import settings as chassis_settings
from .chassis.features import FEATURES
from .chassis.web.fastapi import install
from .settings import Settings


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the application; without `settings` they are read from the environment."""
    settings = settings or chassis_settings.load(Settings)
    app = FastAPI(
        title=settings.service_name,
        version=settings.service_version,
        debug=settings.debug,
        openapi_url="/openapi.json" if settings.api_docs_enabled else None,
        docs_url=None,  # the chassis serves /docs, with the headers that the page needs
        redoc_url=None,
        redirect_slashes=False,
        # FastAPI's own telemetry takes probes for traffic, and asks at every request whether anybody listens.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    install(app, settings, FEATURES)
    notes.install(app)
    return app
