"""Puts a service into a Flask application: the pass around it, problem bodies, what handlers read and answer with."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, TypeVar

from flask import Flask, Request, Response, current_app, request
from pydantic import BaseModel
from pydantic import ValidationError as PydanticValidationError
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import RoutingException
from werkzeug.wrappers import Response as BaseResponse

from .. import errors, problem
from ..service import Feature, Service, attach, build
from ..settings import BaseChassisSettings
from .wsgi import Environ, WsgiPass

_RULE = "chassis.rule"


class Settings(BaseChassisSettings):
    """Flask: it is configured in `main.py`."""


Model = TypeVar("Model", bound=BaseModel)


def install(app: Flask, settings: Any, features: Sequence[Feature]) -> Service:
    """Install the features in an application."""
    service = build(settings, features)
    service.endpoints = _Endpoints(app)
    attach(app, service)
    app.extensions["chassis"] = service
    # What nobody handles goes on to the pass, which answers and logs it.
    app.config["PROPAGATE_EXCEPTIONS"] = True
    app.register_error_handler(HTTPException, partial(_on_http, service))
    app.request_class = type("Request", (_KeepsRoute, app.request_class), {})
    app.wsgi_app = WsgiPass(app.wsgi_app, service, _route_of)  # type: ignore[method-assign]
    return service


def current_service() -> Service:
    """Return the service of the application that serves the request."""
    service: Service = current_app.extensions["chassis"]
    return service


def read_json(model: type[Model]) -> Model:
    """Return the request's body as `model`.

    Raises:
        UnsupportedMediaTypeError: it is not sent as JSON.
        BadRequestError: it is not JSON.
        ValidationError: it is not right; each field is named.
    """
    if not request.is_json:
        raise errors.UnsupportedMediaTypeError()
    try:
        return model.model_validate_json(request.get_data(cache=False))
    except PydanticValidationError as error:
        if any(fault["type"] == "json_invalid" for fault in error.errors()):
            raise errors.BadRequestError("The body is not valid JSON.") from None
        raise errors.ValidationError(errors=_fields(error)) from None


def read_query(model: type[Model]) -> Model:
    """Return the query parameters as `model`.

    Raises:
        BadRequestError: some cannot be read; each is named.
    """
    try:
        return model.model_validate(request.args.to_dict())
    except PydanticValidationError as error:
        raise errors.BadRequestError("Some parameters cannot be read.", errors=_fields(error)) from None


def read_path(model: type[Model]) -> Model:
    """Return the path's parameters as `model`.

    Raises:
        BadRequestError: some cannot be read; each is named.
    """
    try:
        return model.model_validate(request.view_args)
    except PydanticValidationError as error:
        raise errors.BadRequestError("Some parameters cannot be read.", errors=_fields(error)) from None


def json_response(model: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer whose body is `model`."""
    return Response(model.model_dump_json(), status, headers, mimetype="application/json")


def _fields(error: PydanticValidationError) -> list[errors.FieldError]:
    return problem.fields([(fault["loc"], fault["msg"], fault["type"]) for fault in error.errors()])


def _on_http(service: Service, error: HTTPException) -> BaseResponse:
    if error.code is None or error.code < 400:
        return error.get_response()
    answer = problem.answer(service, error, _from_http(error))
    return Response(answer.body, answer.status, answer.headers)


def _from_http(error: HTTPException) -> errors.ServiceError:
    if isinstance(error, MethodNotAllowed):
        return errors.MethodNotAllowedError(sorted(error.valid_methods or ()))
    # What the framework always says of a status is not written for our callers.
    own = error.description if error.description != type(error).description else None
    return errors.for_status(error.code or 500, own)


class _Endpoints:
    """The handlers of the application, found as the framework itself finds them."""

    def __init__(self, app: Flask) -> None:
        self._app = app

    def starts(self) -> Iterator[tuple[str, object]]:
        for rule in self._app.url_map.iter_rules():
            yield rule.rule.partition("<")[0], self._app.view_functions.get(rule.endpoint)

    def find(self, method: str, path: str) -> object | None:
        try:
            endpoint, _ = self._app.url_map.bind("").match(path, method)
        except (HTTPException, RoutingException):
            return None
        return self._app.view_functions.get(endpoint)


class _KeepsRoute(Request):
    """Leaves the route behind at the end of the request, when Flask takes the request out of the environment."""

    def close(self) -> None:
        self.environ[_RULE] = self.url_rule
        super().close()


def _route_of(environ: Environ) -> str | None:
    """Return the template of the route that Flask has found; a hook of its own would cost more than all the ids."""
    present = environ.get("werkzeug.request")
    rule = environ.get(_RULE) if present is None else present.url_rule
    return None if rule is None else _template(rule.rule)


@lru_cache(maxsize=1024)
def _template(rule: str) -> str:
    """Write `/notes/<int:note_id>` as OpenAPI and OpenTelemetry do: `/notes/{note_id}`."""
    return re.sub(r"<(?:[^:<>]+:)?([^<>]+)>", r"{\1}", rule)
