"""The Flask adapter: installs a chassis in a Flask application, and has functions to read requests and respond."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import TypeVar

from flask import Flask, Request, Response, current_app, request
from pydantic import BaseModel
from pydantic import ValidationError as PydanticValidationError
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import IntegerConverter, RoutingException
from werkzeug.wrappers import Response as BaseResponse

from .. import errors
from ..app import Chassis, Endpoint, Feature, Scope, attach, build, chassis_of
from ..settings import BaseChassisSettings
from .middleware import ChassisMiddleware
from .problems import invalid_input, problem_response
from .threads import ENVIRON, Environ, ThreadPool, ThreadsCheck, WSGIBridge
from .threads import Settings as ThreadSettings

_RULE = "chassis.rule"
_listing = threading.Lock()

Model = TypeVar("Model", bound=BaseModel)


class _Integer(IntegerConverter):
    """The converter of `<int:name>`, for up to 640 digits. Python may refuse to convert more."""

    regex = "[0-9]{1,640}"


def install(app: Flask, settings: BaseChassisSettings, features: Sequence[Feature]) -> Chassis:
    """Install the features in an application that has no routes yet, and put the middleware around it."""
    chassis = build(settings, features)
    chassis.error_translators.append(_translate)
    chassis.routes = _RouteTable(app)
    app.url_map.converters["int"] = _Integer
    attach(app, chassis)
    # An exception without a handler goes on to the middleware, which logs and answers it.
    app.config["PROPAGATE_EXCEPTIONS"] = True
    app.register_error_handler(HTTPException, partial(_on_http_exception, chassis))
    for endpoint in chassis.endpoints:
        app.add_url_rule(
            endpoint.path, view_func=partial(_serve_endpoint, endpoint), methods=["POST"], endpoint=endpoint.path
        )
    app.request_class = type("Request", (_RouteKeepingRequest, app.request_class), {})
    pool = ThreadPool(chassis.settings_as(ThreadSettings).server_threads)
    chassis.health.add(ThreadsCheck(pool))
    chassis.measurements.append(pool.measure)
    bridge = WSGIBridge(app, pool)
    chassis.asgi = ChassisMiddleware(bridge, chassis, _route_of, bridge.lifespan)
    return chassis


def current_chassis() -> Chassis:
    """Return the chassis of the application that serves the current request."""
    return chassis_of(current_app)


def read_json(model: type[Model]) -> Model:
    """Return the request's body as `model`.

    Raises:
        UnsupportedMediaTypeError: The body is not sent as JSON.
        BadRequestError: The body is not valid JSON.
        ValidationError: The body is missing or does not fit the model; each field is named.
    """
    if not request.is_json:
        raise errors.UnsupportedMediaTypeError()
    text = request.get_data(cache=False)
    if not text:
        raise errors.ValidationError(errors=[errors.FieldError("", "Field required", "missing")])
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        raise errors.BadRequestError("The body is not valid JSON.") from None
    return _validated(model, body, errors.ValidationError, None)


def read_query(model: type[Model]) -> Model:
    """Return the query parameters as `model`.

    Raises:
        BadRequestError: Some parameters are invalid; each is named.
    """
    return _validated(model, request.args.to_dict(), errors.BadRequestError, "Some parameters are invalid.")


def read_path(model: type[Model]) -> Model:
    """Return the path's parameters as `model`.

    Raises:
        BadRequestError: Some parameters are invalid; each is named.
    """
    return _validated(model, request.view_args or {}, errors.BadRequestError, "Some parameters are invalid.")


def json_response(model: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response whose body is `model` as JSON."""
    return Response(model.model_dump_json(), status, headers, mimetype="application/json")


def _validated(model: type[Model], value: object, kind: type[errors.ServiceError], detail: str | None) -> Model:
    try:
        return model.model_validate(value)
    except PydanticValidationError as error:
        # Hostile input has a fault every few bytes. One thread at a time lists them, so that the memory is bounded.
        with _listing:
            faults = error.errors(include_url=False, include_context=False, include_input=False)
            raise invalid_input(kind, detail, faults) from None


def _serve_endpoint(endpoint: Endpoint) -> Response:
    return json_response(endpoint.handler(read_json(endpoint.body)))


def _on_http_exception(chassis: Chassis, error: HTTPException) -> BaseResponse:
    if error.code is None or error.code < 400:
        return error.get_response()
    response = problem_response(chassis, error)
    return Response(response.body, response.status, response.headers)


def _translate(error: BaseException) -> errors.ServiceError | None:
    if not isinstance(error, HTTPException):
        return None
    if isinstance(error, MethodNotAllowed):
        return errors.MethodNotAllowedError(sorted(error.valid_methods or ()))
    # The framework's own description of a status is not written for callers.
    detail = None if error.description == type(error).description else error.description
    response = error.get_response()
    return errors.for_status(response.status_code, detail, response.headers.items())


class _RouteTable:
    """The application's routes, resolved in the same way as by the framework."""

    def __init__(self, app: Flask) -> None:
        self._app = app

    def prefixes(self) -> Iterator[tuple[str, object]]:
        for rule in self._app.url_map.iter_rules():
            yield rule.rule.partition("<")[0], self._app.view_functions.get(rule.endpoint)

    def resolve(self, method: str, path: str) -> object | None:
        try:
            endpoint, _ = self._app.url_map.bind("").match(path, method)
        except (HTTPException, RoutingException):
            return None
        return self._app.view_functions.get(endpoint)


class _RouteKeepingRequest(Request):
    """Stores the route at the end of the request, when Flask removes the request from the environ."""

    def close(self) -> None:
        self.environ[_RULE] = self.url_rule
        super().close()


def _route_of(scope: Scope) -> str | None:
    """Return the template of the route that Flask has matched; a `before_request` hook would cost far more."""
    environ: Environ | None = scope.get(ENVIRON)
    if environ is None:
        return None
    current = environ.get("werkzeug.request")
    rule = environ.get(_RULE) if current is None else current.url_rule
    return None if rule is None else _template(rule.rule)


@lru_cache(maxsize=1024)
def _template(rule: str) -> str:
    """Convert `/notes/<int:note_id>` to the form of OpenAPI and OpenTelemetry: `/notes/{note_id}`."""
    return re.sub(r"<(?:[^:<>]+:)?([^<>]+)>", r"{\1}", rule)
