"""One FastAPI service to measure: `python fastapi_app.py VARIANT`, on the port in PORT.

The package of the rendered service must be importable. All variants have the same routes with the same handlers. The
bare one takes the example's router and model from the package, and as much of the chassis as they need.
"""

import os
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import sentry_sdk
import uvicorn
from fastapi import Depends, FastAPI
from my_service.chassis.app import Chassis, attach, chassis_of
from my_service.chassis.database import sqlite
from my_service.chassis.database.asyncio import Database
from my_service.chassis.features import serve
from my_service.chassis.server.connections import ConnectionLimits, limited
from my_service.chassis.settings import load
from my_service.main import create_app
from my_service.notes.models import Note
from my_service.notes.router import router as notes
from my_service.notes.schemas import NoteIn, NoteOut
from my_service.settings import Settings
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from prometheus_fastapi_instrumentator import Instrumentator
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

OpenSession = Callable[[], AbstractAsyncContextManager[AsyncSession]]


def add_routes(app: FastAPI, session: OpenSession) -> FastAPI:
    """Add the routes that are measured."""

    @app.get("/hello")
    async def hello() -> dict[str, str]:
        return {"message": "hello"}

    @app.get("/rows/{row_id}")
    async def row(row_id: int) -> NoteOut:
        async with session() as unit_of_work:
            return NoteOut.model_validate(await unit_of_work.get(Note, row_id))

    return app


def bare() -> FastAPI:
    app = FastAPI()
    engine = create_async_engine("sqlite+aiosqlite:///data/service.db")
    chassis = Chassis(load(Settings))
    chassis.provide(Database(engine, sqlite))
    attach(app, chassis)
    app.include_router(notes, prefix="/api/v1")
    return add_routes(app, async_sessionmaker(engine, expire_on_commit=False).begin)


def instrumented(variant: str) -> FastAPI:
    """Return the bare application with the usual library for metrics, errors or traces, used as documented."""
    if variant == "integrations":
        sentry_sdk.init(os.environ["SENTRY_DSN"], traces_sample_rate=0.1)
    app = bare()
    if variant == "instrumentator":
        Instrumentator().instrument(app).expose(app)
    if variant == "instrumentation":
        provider = TracerProvider()  # its sampler is set by the environment
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        FastAPIInstrumentor.instrument_app(app, tracer_provider=provider)
    return app


def rendered() -> FastAPI:
    app = create_app()
    return add_routes(app, chassis_of(app).get(Database).session)


def private() -> FastAPI:
    """Return the rendered service with a route that requires a scope, and one with a dependency that does nothing.

    A router may compare a path with one route after the other. `/hello` is therefore before these routes, and `/last`
    after them.
    """
    # The other rendered services do not have this module.
    from my_service.chassis.authentication.fastapi import ScopedRoute, require_scope

    app = rendered()

    async def nothing() -> None:
        """Do nothing."""

    @app.get("/dependent", dependencies=[Depends(nothing)])
    async def dependent() -> dict[str, str]:
        return {"message": "hello"}

    app.router.route_class = ScopedRoute

    @app.get("/private", dependencies=[require_scope("read")])
    async def hello() -> dict[str, str]:
        return {"message": "hello"}

    @app.get("/last")
    async def last() -> dict[str, str]:
        return {"message": "hello"}

    return app


def featured() -> FastAPI:
    """Return the rendered service with routes that use its features, and the same routes without them."""
    from bodies import Plain, Validated  # the other services lack these features
    from my_service.chassis.notifications import Message
    from my_service.chassis.notifications.asyncio import notify

    app = rendered()
    chassis = chassis_of(app)
    session = chassis.get(Database).session

    @app.post("/plain")
    async def plain(body: Plain) -> dict[str, str]:
        return {"title": body.title}

    @app.post("/validated")
    async def validated(body: Validated) -> dict[str, str]:
        return {"title": body.title}

    @app.post("/silent")
    async def silent(note: NoteIn) -> dict[str, str]:
        async with session() as unit_of_work:
            unit_of_work.add(Note(**note.model_dump()))
        return {"message": "hello"}

    @app.post("/notified")
    async def notified(note: NoteIn) -> dict[str, str]:
        async with session() as unit_of_work:
            unit_of_work.add(Note(**note.model_dump()))
            await notify(chassis, Message("A new note", note.title), session=unit_of_work)
        return {"message": "hello"}

    return app


# The variants that the function of the rendered service serves.
RENDERED = {"rendered": rendered, "private": private, "featured": featured}


def main(variant: str) -> None:
    if variant in RENDERED:
        serve(RENDERED[variant], load(Settings))
        return
    options: dict[str, Any] = {} if variant == "logging" else {"access_log": False}
    if variant == "limits":
        limits = ConnectionLimits(head_bytes=65_536, head_timeout_seconds=10, connections=1000, read_timeout_seconds=30)
        options["http"] = limited(limits)
    uvicorn.run(instrumented(variant), port=int(os.environ["PORT"]), **options)


if __name__ == "__main__":
    main(sys.argv[1])
