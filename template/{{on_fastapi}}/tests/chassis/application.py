"""An application with the chassis and nothing of yours: its routes do what a test tells them, mostly wrong."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, HTTPException
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, Field

from ..package import module

Behaviours = Mapping[str, Callable[[], Any]]

rate_limit = module("chassis.rate_limit").rate_limit


class Thing(BaseModel):
    name: Annotated[str, Field(min_length=1)]
    count: int = 0


def create_app(settings: Any, features: Sequence[Any], behaviours: Behaviours) -> FastAPI:
    """Return the application; `GET /api/<way>/<name>` calls `behaviours[name]` and answers what it returns."""
    app = FastAPI(openapi_url="/openapi.json" if settings.api_docs_enabled else None, docs_url=None, redoc_url=None)
    module("chassis.web.fastapi").install(app, settings, features)
    app.add_middleware(_CrashingMiddleware)
    # Behind two routers: that is where a framework may lose the outer part of the route's template.
    api = APIRouter(prefix="/api")
    api.include_router(_ways(behaviours))
    api.include_router(_things())
    app.include_router(api)
    return app


def _ways(behaviours: Behaviours) -> APIRouter:
    """The ways in which a handler comes to run code."""
    router = APIRouter()

    @router.get("/here/{name}")
    async def here(name: str) -> Any:
        result = behaviours[name]()
        return await result if inspect.isawaitable(result) else result

    @router.get("/thread/{name}")
    def thread(name: str) -> Any:
        return behaviours[name]()

    @router.get("/background/{name}")
    async def background(name: str) -> Any:
        async def work() -> Any:
            return behaviours[name]()

        return await asyncio.create_task(work())

    @router.get("/slow/{seconds}")
    async def slow(seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "done"

    @router.get("/half")
    async def half() -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            yield b"half of the "
            raise RuntimeError("the other half is secret")

        return StreamingResponse(parts())

    return router


def _things() -> APIRouter:
    """Routes as they are written every day."""
    router = APIRouter(prefix="/things")

    @router.post("", status_code=201)
    async def create(thing: Thing) -> Thing:
        return thing

    @router.get("/{thing_id}")
    async def read(thing_id: int, limit: int = 10) -> dict[str, int]:
        return {"thing_id": thing_id, "limit": limit}

    @router.get("/refused/{status}")
    async def refused(status: int) -> None:
        try:
            raise KeyError("the cause")
        except KeyError as error:
            raise HTTPException(status, "the framework's own words") from error

    @router.get("/framed/by-us")
    async def framed() -> JSONResponse:
        return JSONResponse({}, headers={"X-Frame-Options": "SAMEORIGIN", "Referrer-Policy": "origin"})

    @router.get("/rare/often")
    async def often() -> None:
        return None

    @router.get("/rare/{thing_id}")
    @rate_limit("2/minute")
    async def rare(thing_id: int) -> int:
        return thing_id

    @router.get("/free/{thing_id}")
    @rate_limit("off")
    async def free(thing_id: int) -> int:
        return thing_id

    return router


class _CrashingMiddleware:
    """A middleware with a fault, for every request that asks for it."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope.get("path") == "/crash-in-middleware":
            raise RuntimeError("a secret of the middleware")
        await self._app(scope, receive, send)
