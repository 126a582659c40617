"""Puts a service into a FastAPI application: the pass around it, problem bodies, lifespans, and its API documents."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from pydantic import BaseModel, Field, ValidationInfo, field_validator
from starlette.exceptions import HTTPException
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from .. import errors, problem
from ..lifespan.asgi import lifespan
from ..service import Feature, Service, attach, build, service_of
from ..settings import BaseChassisSettings, in_production
from .asgi import App, AsgiPass, Scope

_METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")


class Settings(BaseChassisSettings):
    """API documents"""

    api_docs_public: bool = Field(False, description="Confirms that API_DOCS_ENABLED is meant in production too.")
    api_docs_enabled: bool | None = Field(
        None, description="Serve `/docs` and `/openapi.json`; by default everywhere but in production."
    )

    @field_validator("api_docs_enabled")
    @classmethod
    def _production_docs_are_asked_for(cls, value: bool | None, info: ValidationInfo) -> bool:
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


def install(app: FastAPI, settings: Any, features: Sequence[Feature]) -> Service:
    """Install the features in an application, before its routers are included."""
    service = build(settings, features)
    service.translators.append(_translate)
    service.endpoints = _Endpoints(app)
    attach(app, service)
    _document_problems(app)
    _answer_with_problems(app, service)
    _open_lifespans(app, service)
    _wrap(app, service)
    if app.openapi_url:
        _serve_docs(app)
    return service


async def service_for(request: Request) -> Service:
    """Return the service of the application that serves a request; a dependency for routers."""
    # Asynchronous, though it waits for nothing: FastAPI would send it through a thread on every request.
    return service_of(request.app)


def _route_of(scope: Scope) -> str | None:
    """Return the whole template of the route: FastAPI keeps the outer prefixes beside the route itself."""
    included = scope.get("fastapi", {}).get("effective_route_context")
    return getattr(included or scope.get("route"), "path", None)


def _wrap(app: FastAPI, service: Service) -> None:
    """Put the pass outside everything, in the place of Starlette's own last resort."""
    build_stack = app.build_middleware_stack

    def build_wrapped() -> App:
        stack = build_stack()
        inner = stack.app if isinstance(stack, ServerErrorMiddleware) else stack
        return AsgiPass(inner, service, _route_of)

    app.build_middleware_stack = build_wrapped  # type: ignore[method-assign]


def _open_lifespans(app: FastAPI, service: Service) -> None:
    """Open the service's resources before the application's own lifespan, and close them after it."""
    own = app.router.lifespan_context

    @asynccontextmanager
    async def both(app: FastAPI) -> AsyncIterator[Any]:
        async with lifespan(service), own(app) as state:
            yield state

    app.router.lifespan_context = both


def _answer_with_problems(app: FastAPI, service: Service) -> None:
    def response(cause: Exception, error: errors.ServiceError, headers: dict[str, str] | None = None) -> Response:
        answer = problem.answer(service, cause, error)
        return Response(answer.body, answer.status, {**(headers or {}), **answer.headers})

    async def on_validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return response(error, _from_validation(request, error))

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code < 400:
            return Response(status_code=error.status_code, headers=error.headers)
        if error.status_code == 405:
            return response(error, errors.MethodNotAllowedError(_allowed_methods(request)))
        # What the framework always says of a status is not written for our callers.
        own = str(error.detail) if error.detail not in (None, errors.phrase(error.status_code)) else None
        meaning = errors.for_status(error.status_code, own)
        return response(error, meaning, {name.lower(): value for name, value in (error.headers or {}).items()})

    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(HTTPException, on_http)


class _Endpoints:
    """The handlers of the application, found as the framework itself finds them: the first that matches wholly."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    def starts(self) -> Iterator[tuple[str, object]]:
        for route in self._routes():
            yield getattr(route, "path_format", "").partition("{")[0], getattr(route, "endpoint", None)

    def find(self, method: str, path: str) -> object | None:
        scope = {"type": "http", "method": method, "path": path, "root_path": "", "headers": []}
        return next((getattr(r, "endpoint", None) for r in self._routes() if r.matches(scope)[0] is Match.FULL), None)

    def _routes(self) -> Iterator[Any]:
        """Yield every route with its whole path: an included router keeps them to itself."""
        for route in self._app.router.routes:
            included = getattr(route, "effective_route_contexts", None)
            yield from included() if included else (route,)


def _allowed_methods(request: Request) -> list[str]:
    """Return every method that the path answers; the framework names those of one route only (RFC 9110, 10.2.1)."""
    return [method for method in _METHODS if _answers(request, method)]


def _answers(request: Request, method: str) -> bool:
    scope = {**request.scope, "method": method}
    return any(route.matches(scope)[0] is Match.FULL for route in request.app.router.routes)


def _from_validation(request: Request, error: RequestValidationError) -> errors.ServiceError:
    """Malformed is 400, of a wrong media type 415, readable but not right 422."""
    faults = error.errors()
    if any(fault["type"] == "json_invalid" for fault in faults):
        return errors.BadRequestError("The body is not valid JSON.")
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if any(fault["loc"] == ("body",) and fault["type"] != "missing" for fault in faults) and not (
        media_type == "application/json" or media_type.endswith("+json")
    ):
        return errors.UnsupportedMediaTypeError()
    listed = problem.fields([(fault["loc"][1:] or fault["loc"], fault["msg"], fault["type"]) for fault in faults])
    if any(fault["loc"][0] == "body" for fault in faults):
        return errors.ValidationError(errors=listed)
    return errors.BadRequestError("Some parameters cannot be read.", errors=listed)


def _translate(error: BaseException) -> errors.ServiceError | None:
    """A client that went away in the middle of its body is no fault of the service."""
    return errors.BadRequestError("The request ended early.") if isinstance(error, ClientDisconnect) else None


def _document_problems(app: FastAPI) -> None:
    """Say in the OpenAPI document which errors every operation may answer with."""
    documented: list[type[errors.ServiceError]] = [errors.InternalError, errors.MethodNotAllowedError]
    for error in documented + list(errors.BY_STATUS.values()):
        app.router.responses[error.status] = {
            "description": error.default_detail,
            "content": {problem.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
    app.router.responses[500]["model"] = Problem


def _serve_docs(app: FastAPI) -> None:
    """Serve the interactive documents, the one page that needs scripts: each is named by its hash or its host."""
    page = get_swagger_ui_html(openapi_url=app.openapi_url or "", title=app.title).body
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
