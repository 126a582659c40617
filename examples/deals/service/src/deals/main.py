"""The application: the framework, the chassis around it, and your domains."""

from fastapi import FastAPI

from .chassis import settings as chassis_settings
from .chassis.app import load_domains
from .chassis.features import FEATURES
from .chassis.web.fastapi import install
from .settings import Settings

DOMAINS = load_domains(
    __name__,
    # One line for each of your domains. A domain is a package next to this file.
    "offers",
)


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the application. Without `settings`, they are read from the environment."""
    settings = settings or chassis_settings.load(Settings)
    app = FastAPI(
        title=settings.service_name,
        version=settings.service_version,
        openapi_url="/openapi.json" if settings.api_docs_enabled else None,
        docs_url=None,  # the chassis serves /docs with the headers that the page needs
        redoc_url=None,
        redirect_slashes=False,
        # FastAPI's own telemetry counts health probes as traffic, and costs time per request even without listeners.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    install(app, settings, FEATURES)
    for domain in DOMAINS:
        domain.install(app)
    return app
