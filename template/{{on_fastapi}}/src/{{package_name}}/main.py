"""The application: the framework, the chassis around it, and your routers."""

from fastapi import FastAPI

from .chassis import settings as chassis_settings
from .chassis.features import FEATURES
from .chassis.web.fastapi import install
from .notes.health import watch as watch_notes
from .notes.router import router as notes
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
    )
    install(app, settings, FEATURES)
    watch_notes(app)
    app.include_router(notes, prefix="/api/v1")
    return app
