"""The FastAPI adapter: installs a chassis in a FastAPI application, with problem responses and the API documents.

FastAPI's route contexts (`effective_route_context`, `effective_route_contexts`, and `starlette_route` in them) are not
documented API: only this file uses them, because a nested router's route does not know its whole path otherwise. `app`
and `middleware_stack` of a router are not documented either. This is why pyproject.toml has an upper bound for fastapi.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import re
from collections.abc import Awaitable, Coroutine, Iterator, Sequence
from itertools import compress
from traceback import walk_tb
from typing import Any

from anyio.to_thread import current_default_thread_limiter
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from pydantic import BaseModel, Field, ValidationInfo, field_validator
from starlette.convertors import IntegerConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.routing import Match
from starlette.websockets import WebSocket, WebSocketDisconnect

from .. import errors
from ..app import ASGIApp, Chassis, Feature, Receive, Scope, Send, attach, build, chassis_of
from ..instrumentation import Measurement
from ..settings import BaseChassisSettings, in_production
from .policy import route_path
from .problems import MEDIA_TYPE, invalid_input, problem_response
from .websocket import WebSocketMiddleware

# The key in the scope of a HEAD request for the scope of the GET request that the application sees instead.
_GET_SCOPE = "chassis.get"
_INVALID_PARAMETERS = "Some parameters are invalid."
# Starlette's methods that read a message. They raise if it is not JSON, or is text instead of binary or vice versa.
_READERS = {WebSocket.receive_bytes.__code__, WebSocket.receive_json.__code__, WebSocket.receive_text.__code__}
_METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")


class _Integer(IntegerConvertor):
    """The converter of `{name:int}`, for up to 640 digits. Python may refuse to convert more, which would be a 500."""

    regex = "[0-9]{1,640}"


register_url_convertor("int", _Integer())


class Settings(BaseChassisSettings):
    """API documents"""

    api_docs_public: bool = Field(
        False, description="Confirms API_DOCS_ENABLED=true, which production otherwise rejects."
    )
    api_docs_enabled: bool | None = Field(
        None, description="Serve `/docs` and `/openapi.json`; by default everywhere except in production."
    )

    @field_validator("api_docs_enabled")
    @classmethod
    def _production_docs_need_confirmation(cls, value: bool | None, info: ValidationInfo) -> bool:
        if value is None:
            return not in_production(info)
        if value and in_production(info) and not info.data.get("api_docs_public"):
            raise ValueError("would publish the API documents; set API_DOCS_ENABLED=false, or API_DOCS_PUBLIC=true too")
        return value


class FieldProblem(BaseModel):
    field: str
    message: str
    code: str


class Problem(BaseModel):
    """The body of every error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    error_code: str
    error_id: str
    request_id: str | None
    timestamp: str
    errors: list[FieldProblem]


def install(app: FastAPI, settings: BaseChassisSettings, features: Sequence[Feature]) -> Chassis:
    """Install the features in an application, before its routers are included, and put the middleware around it."""
    chassis = build(settings, features)
    chassis.error_translators.append(_translate)
    chassis.measurements.append(_measure_threads)
    chassis.routes = routes = _RouteTable(app)
    attach(app, chassis)
    # Starlette's debug pages show tracebacks to the caller; the log has them.
    app.debug = False
    _document_problems(app)
    for endpoint in chassis.endpoints:
        app.add_api_route(endpoint.path, endpoint.handler, methods=["POST"])
    _respond_with_problems(app, chassis, routes)
    served = _HeadAsGet(app, routes)
    chassis.asgi = WebSocketMiddleware(served, chassis, routes.template, lambda: app.router.lifespan_context(app))
    if app.openapi_url:
        _serve_docs(app)
    _shortlist_routes(app)
    return chassis


async def get_chassis(request: HTTPConnection) -> Chassis:
    """Return the chassis of the application that serves a request or a WebSocket; a dependency for routers."""
    # This is a coroutine function because FastAPI would run a plain function in a thread for each request.
    return chassis_of(request.app)


def _measure_threads() -> Iterator[Measurement]:
    """Return the use of the threads that run plain functions: handlers and dependencies that are not coroutines."""
    used = current_default_thread_limiter().statistics()
    yield Measurement("server.threads.max", "Threads that run plain functions.", used.total_tokens)
    yield Measurement("server.threads.busy", "Threads that are running a plain function.", used.borrowed_tokens)
    yield Measurement("server.threads.waiting", "Plain functions that wait for a thread.", used.tasks_waiting)


def _respond_with_problems(app: FastAPI, chassis: Chassis, routes: _RouteTable) -> None:
    async def respond(request: Request, cause: Exception) -> Response:
        if request.scope["type"] == "websocket":
            raise cause  # to the middleware
        error = None
        if isinstance(cause, RequestValidationError):
            error = _from_validation_error(request, cause)
        elif isinstance(cause, HTTPException) and cause.status_code == 405:
            # A mounted application, such as `StaticFiles`, has no route here and may not name its methods.
            allowed = _allowed_methods(routes, route_path(request.scope)) or _named_methods(cause) or ["GET", "HEAD"]
            error = errors.MethodNotAllowedError(allowed)
        response = problem_response(chassis, cause, error)
        return Response(response.body, response.status, response.headers)

    # The last one is for exceptions that no other handler caught, such as an HTTPException in a middleware.
    for kind in (RequestValidationError, WebSocketRequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, respond)


def _allowed_methods(routes: _RouteTable, path: str) -> list[str]:
    """Return every method that the path supports; the framework lists those of one route only (RFC 9110, 10.2.1)."""
    found = {method: routes.find("http", "GET" if method == "HEAD" else method, path) for method in _METHODS}
    return [method for method, endpoint in found.items() if endpoint is not None]


def _named_methods(cause: HTTPException) -> list[str]:
    return [value for name, value in (cause.headers or {}).items() if name.lower() == "allow" and value]


def _from_validation_error(request: Request, error: RequestValidationError) -> errors.ServiceError:
    """Return 400 for a malformed request, 415 for a wrong media type, 422 for well-formed but invalid input."""
    faults = error.errors()
    last = faults[-1]  # FastAPI validates the body last
    if last["loc"][0] != "body":
        return invalid_input(errors.BadRequestError, _INVALID_PARAMETERS, faults, skip=1)
    if last["type"] == "json_invalid":
        return errors.BadRequestError("The body is not valid JSON.")
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_json = media_type == "application/json" or media_type.endswith("+json")
    if not is_json and last["loc"] == ("body",) and last["type"] != "missing":
        return errors.UnsupportedMediaTypeError()
    return invalid_input(errors.ValidationError, None, faults, skip=1)


def _translate(error: BaseException) -> errors.ServiceError | None:
    if isinstance(error, (ClientDisconnect, WebSocketDisconnect)):  # before the end of the body, or of a WebSocket
        return errors.BadRequestError("The request ended early.")
    if isinstance(error, WebSocketRequestValidationError):
        return invalid_input(errors.BadRequestError, _INVALID_PARAMETERS, error.errors(), skip=1)
    if isinstance(error, (KeyError, ValueError, RecursionError)):
        is_of_reader = any(frame.f_code in _READERS for frame, _ in walk_tb(error.__traceback__))
        return errors.BadRequestError("The message is malformed.") if is_of_reader else None
    if not isinstance(error, HTTPException):
        return None
    # The framework's own description of a status is not written for callers.
    detail = None if error.detail in (None, errors.phrase(error.status_code)) else str(error.detail)
    return errors.for_status(error.status_code, detail, (error.headers or {}).items())


class _RouteTable:
    """The application's routes. Like the framework, it resolves to the first full match."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    def prefixes(self) -> Iterator[tuple[str, object]]:
        for route in self._routes():
            yield _prefix(route), getattr(route, "endpoint", None)

    def resolve(self, method: str, path: str) -> object | None:
        endpoint = self.find("http", method, path)
        return self.find("websocket", method, path) if endpoint is None and method == "GET" else endpoint

    def find(self, kind: str, method: str, path: str) -> object | None:
        """Return the endpoint for a kind of ASGI scope."""
        scope = {"type": kind, "method": method, "path": path, "root_path": self._app.root_path, "headers": []}
        return next((getattr(r, "endpoint", None) for r in self._routes() if r.matches(scope)[0] is Match.FULL), None)

    def template(self, scope: Scope) -> str | None:
        """Return the whole template of the route that serves a scope, after the framework has chosen the route."""
        scope = scope.get(_GET_SCOPE, scope)
        # FastAPI does not store the prefixes of outer routers in the route.
        if included := scope.get("fastapi", {}).get("effective_route_context"):
            return _template(_whole(included))
        return _template(scope.get("route") or self._serving(scope.get("endpoint")))

    def _serving(self, endpoint: object) -> Any:
        """Return the route of an endpoint. FastAPI stores no route for those of Starlette, such as `/openapi.json`."""
        routes = [] if endpoint is None else self._app.router.routes
        return next((r for r in routes if endpoint is getattr(r, "endpoint", getattr(r, "app", None))), None)

    def _routes(self) -> Iterator[Any]:
        for route in self._app.router.routes:
            yield from _leaves(route)


class _Shortlist:
    """Lets a router try only the routes that can serve a path.

    FastAPI compares the path with the routes one by one, and twice with those of the included router that serves it.
    The prefix of a route is its path before the first parameter. Here, a request reaches a copy of the router, which
    has only the routes and included routers with a prefix of the requested path. Each prefix has at most one copy.
    A route that is added to an included router after the first request may not be found.
    """

    def __init__(self, router: APIRouter) -> None:
        self._router = router
        self._prefixes: list[tuple[str, ...]] = []
        self._copies: dict[tuple[bool, ...], APIRouter] = {}

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        if scope["type"] == "lifespan":
            return self._router.app(scope, receive, send)
        if len(self._prefixes) != len(self._router.routes):
            self._prefixes = [tuple(set(map(_prefix, _leaves(route)))) for route in self._router.routes]
            self._copies.clear()
        # The router also tries the path with a trailing slash, to redirect.
        path = f"{route_path(scope)}/"
        chosen = tuple([path.startswith(prefixes) for prefixes in self._prefixes])
        router = self._copies.get(chosen) or self._copy(chosen)
        scope["router"] = self._router  # `url_for` needs all routes
        return router.app(scope, receive, send)

    def _copy(self, chosen: tuple[bool, ...]) -> APIRouter:
        router = self._copies[chosen] = copy.copy(self._router)
        router.routes = list(compress(self._router.routes, chosen))
        return router


def _shortlist_routes(app: FastAPI) -> None:
    """Put a shortlist in front of the application's router, unless the owner has put something else there."""
    if app.router.middleware_stack == app.router.app:
        app.router.middleware_stack = _Shortlist(app.router)


def _leaves(route: Any) -> Iterator[Any]:
    """Yield a route, or each route of an included router, with its whole path."""
    included = getattr(route, "effective_route_contexts", None)
    yield from map(_whole, included()) if included else (route,)


def _prefix(route: Any) -> str:
    """Return the path of a route up to its first parameter. It is empty for a route without a path, such as `Host`."""
    return getattr(route, "path", "").partition("{")[0]


def _whole(included: Any) -> Any:
    """Return the object with the complete path. For a WebSocket, for example, this is a route of Starlette."""
    return included.starlette_route or included


def _template(route: Any) -> str | None:
    """Return the path of a route without converters, as in OpenAPI: `/notes/{note_id}` for `/notes/{note_id:int}`."""
    path: str | None = getattr(route, "path", None)
    return re.sub(r":\w+}", "}", path) if path and ":" in path else path


class _HeadAsGet:
    """Makes GET routes serve HEAD requests too (RFC 9110, 9.3.2); the server omits the body."""

    def __init__(self, app: ASGIApp, routes: _RouteTable) -> None:
        self._app = app
        self._routes = routes

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        is_head = scope["type"] == "http" and scope["method"] == "HEAD"
        if is_head and self._routes.resolve("HEAD", route_path(scope)) is None:
            # A copy: the server needs the method of the original.
            scope[_GET_SCOPE] = get_scope = {**scope, "method": "GET"}
            return self._app(get_scope, receive, send)
        return self._app(scope, receive, send)


def _document_problems(app: FastAPI) -> None:
    """Describe in the OpenAPI document the errors that every operation may return."""
    documented: list[type[errors.ServiceError]] = [errors.InternalError, errors.MethodNotAllowedError]
    for error in documented + list(errors.BY_STATUS.values()):
        app.router.responses[error.status] = {
            "description": error.default_detail,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
    app.router.responses[500]["model"] = Problem


def _serve_docs(app: FastAPI) -> None:
    """Serve the interactive documents; their policy allows the page's own scripts by hash or host, and nothing else."""
    # Relative to /docs, because a proxy may serve the service below a prefix.
    page = get_swagger_ui_html(openapi_url=(app.openapi_url or "").lstrip("/"), title=app.title).body
    inline = re.findall(rb"<script>(.*?)</script>", bytes(page), re.DOTALL)
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'" for text in inline)
    policy = (
        f"default-src 'none'; script-src https://cdn.jsdelivr.net {hashes}; connect-src 'self'; "
        "style-src https://cdn.jsdelivr.net 'unsafe-inline'; img-src data: https://fastapi.tiangolo.com; "
        "frame-ancestors 'none'"
    )

    async def docs() -> Response:
        return Response(page, media_type="text/html", headers={"content-security-policy": policy})

    app.add_api_route("/docs", docs, include_in_schema=False)
