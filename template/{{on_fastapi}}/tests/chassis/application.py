"""An application with the chassis but without your code. Its routes do what a test tells them to."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from functools import cache
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, FastAPI, HTTPException, Request, Response, WebSocket
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field
from starlette.routing import BaseRoute

from ..package import CHASSIS, module

Behaviours = Mapping[str, Callable[..., Any]]


class Thing(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1)]
    count: int = 0
    numbers: list[int] = []


def create_app(settings: Any, features: Sequence[Any], behaviours: Behaviours) -> FastAPI:
    """Return the application; `GET /api/<way>/<name>` calls `behaviours[name]` and responds with its result."""
    openapi_url = "/openapi.json" if settings.api_docs_enabled else None
    own_telemetry = {"tracing": False, "metrics": False, "logs": False}  # as in main.py
    app = FastAPI(debug=settings.debug, openapi_url=openapi_url, docs_url=None, redoc_url=None, telemetry=own_telemetry)
    module("chassis.web.fastapi").install(app, settings, features)
    app.add_middleware(_FailingMiddleware)
    app.state.behaviours = behaviours
    app.router.routes.extend(_routes())
    return app


@cache
def _routes() -> Sequence[BaseRoute]:
    """The routes of every application. FastAPI takes longer to create them than most tests."""
    # Behind two routers, because a framework may lose the outer part of a route's template.
    api = APIRouter(prefix="/api")
    api.include_router(_ways())
    api.include_router(_things())
    if (CHASSIS / "rate_limit").is_dir():
        api.include_router(_limited())
    if (CHASSIS / "authentication").is_dir():
        scopes = module("chassis.authentication.fastapi")
        may_administer = [scopes.require_scope("notes:admin")]
        api.include_router(_protected("/protected", scopes.ScopedRoute))
        api.include_router(_protected("/protected-by-dependencies", APIRoute))
        api.include_router(_protected("/protected-twice", scopes.ScopedRoute), dependencies=may_administer)
    outer = APIRouter()
    outer.include_router(api)
    return outer.routes


_request: ContextVar[Request] = ContextVar("request")


def sent_header(name: str) -> str | None:
    """Return a header of the current request as a handler reads it."""
    return _request.get().headers.get(name)


def client_host() -> str | None:
    """Return the client's address as a handler reads it."""
    client = _request.get().client
    return client.host if client else None


def _ways() -> APIRouter:
    """The ways in which a handler runs code."""
    router = APIRouter()

    @router.get("/here/{name}")
    async def here(name: str, request: Request) -> Any:
        _request.set(request)
        result = request.app.state.behaviours[name]()
        return await result if inspect.isawaitable(result) else result

    @router.get("/thread/{name}")
    @router.post("/thread/{name}")
    def thread(name: str, request: Request) -> Any:
        return request.app.state.behaviours[name]()

    @router.get("/task/{name}")
    async def task(name: str, request: Request) -> Any:
        async def work() -> Any:
            return request.app.state.behaviours[name]()

        return await asyncio.create_task(work())

    @router.get("/background/{name}")
    async def background(name: str, request: Request, tasks: BackgroundTasks) -> None:
        tasks.add_task(request.app.state.behaviours[name])

    @router.get("/slow/{seconds}")
    async def slow(seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "done"

    @router.get("/stream/{name}")
    async def stream(name: str, request: Request) -> StreamingResponse:
        return StreamingResponse(request.app.state.behaviours[name]())

    @router.get("/large/{size}")
    async def large(size: int) -> Response:
        return Response(bytes(size))

    @router.get("/status/{status}")
    async def status(status: int) -> Response:
        return Response(status_code=status)

    @router.post("/body/{name}")
    async def body(name: str, request: Request) -> Any:
        return request.app.state.behaviours[name](await request.body())

    @router.get("/header")
    async def header(name: str, value: str) -> JSONResponse:
        return JSONResponse({}, headers={name: value})

    return router


def _things() -> APIRouter:
    """Add typical routes."""
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

    @router.get("/busy/{status}")
    async def busy(status: int) -> None:
        raise HTTPException(status, headers={"Retry-After": "77", "WWW-Authenticate": "Basic realm=things"})

    @router.get("/framed/by-us")
    async def framed() -> JSONResponse:
        return JSONResponse({}, headers={"X-Frame-Options": "SAMEORIGIN", "Referrer-Policy": "origin"})

    return router


def _limited() -> APIRouter:
    """Add routes with rate limits."""
    rate_limit = module("chassis.rate_limit").rate_limit
    router = APIRouter(prefix="/things")

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


def _protected(prefix: str, route_class: type[APIRoute]) -> APIRouter:
    """Add routes that require scopes: all of them `notes:read`, and one `notes:write` as well."""
    require_scope = module("chassis.authentication.fastapi").require_scope
    current = module("chassis.request_context").current
    authenticated = require_scope()
    router = APIRouter(prefix=prefix, route_class=route_class, dependencies=[require_scope("notes:read")])

    @router.get("")
    async def read(caller: Any = authenticated) -> str:
        return str(caller.id)

    @router.post("", dependencies=[require_scope("notes:write")])
    async def write(thing: Thing | None = None) -> str:
        return str(current().principal.id)

    @router.websocket("/socket")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept("v1")
        await websocket.send_text(current().principal.id)

    return router


class _FailingMiddleware:
    """A middleware of the owner that fails for some paths."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope.get("path") == "/crash-in-middleware":
            raise RuntimeError("a secret of the middleware")
        if scope.get("path") == "/refused-in-middleware":
            raise HTTPException(403, "the middleware's own words")
        if scope.get("path") == "/moved-in-middleware":
            raise HTTPException(308, headers={"Location": "/elsewhere"})
        await self._app(scope, receive, send)
