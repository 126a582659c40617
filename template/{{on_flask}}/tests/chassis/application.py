"""An application with the chassis but without your code. Its routes do what a test tells them to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

from flask import Blueprint, Flask, Response, abort, jsonify, request
from pydantic import BaseModel, ConfigDict, Field
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Forbidden, ServiceUnavailable, Unauthorized
from werkzeug.routing import RequestRedirect

from ..package import CHASSIS, module

Behaviours = Mapping[str, Callable[..., Any]]

web = module("chassis.web.flask")
copy_request_context = module("chassis.request_context").copy_request_context


class Thing(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1)]
    count: int = 0
    numbers: list[int] = []


class ThingQuery(BaseModel):
    limit: int = 10


def create_app(settings: Any, features: Sequence[Any], behaviours: Behaviours) -> Flask:
    """Return the application; `GET /api/<way>/<name>` calls `behaviours[name]` and responds with its result."""
    app = Flask(__name__, static_folder=None)
    app.debug = settings.debug
    web.install(app, settings, features)
    app.wsgi_app = _failing_middleware(app.wsgi_app)  # type: ignore[method-assign]
    # Behind two blueprints, because a framework may lose the outer part of a route's template.
    api = Blueprint("api", __name__, url_prefix="/api")
    api.register_blueprint(_ways(behaviours))
    api.register_blueprint(_things())
    if (CHASSIS / "rate_limit").is_dir():
        api.register_blueprint(_limited())
    if (CHASSIS / "authentication").is_dir():
        api.register_blueprint(_protected())
    app.register_blueprint(api)
    return app


def sent_header(name: str) -> str | None:
    """Return a header of the current request as a handler reads it."""
    return request.headers.get(name)


def client_host() -> str | None:
    """Return the client's address as a handler reads it."""
    return request.remote_addr


def _ways(behaviours: Behaviours) -> Blueprint:
    """The ways in which a handler runs code."""
    blueprint = Blueprint("ways", __name__)

    @blueprint.get("/here/<name>")
    @blueprint.get("/thread/<name>")  # every handler runs in a thread
    @blueprint.post("/thread/<name>")
    def here(name: str) -> Response:
        return jsonify(behaviours[name]())

    @blueprint.get("/task/<name>")
    def task(name: str) -> Response:
        with ThreadPoolExecutor(1) as pool:
            return jsonify(pool.submit(copy_request_context(behaviours[name])).result())

    @blueprint.get("/background/<name>")
    def background(name: str) -> Response:
        threading.Thread(target=copy_request_context(behaviours[name])).start()
        return jsonify(None)

    @blueprint.get("/close/<name>")
    def close(name: str) -> Response:
        response = jsonify(None)
        response.call_on_close(behaviours[name])
        return response

    @blueprint.get("/slow/<float(min=0):seconds>")
    @blueprint.get("/slow/<int:seconds>")
    def slow(seconds: float) -> Response:
        time.sleep(seconds)
        return jsonify("done")

    @blueprint.get("/stream/<name>")
    def stream(name: str) -> Response:
        return Response(behaviours[name]())

    @blueprint.get("/large/<int:size>")
    def large(size: int) -> Response:
        return Response(bytes(size))

    @blueprint.get("/status/<int:status>")
    def status(status: int) -> Response:
        return Response(status=status)

    @blueprint.post("/body/<name>")
    def body(name: str) -> Response:
        return jsonify(behaviours[name](request.get_data()))

    @blueprint.get("/header")
    def header() -> Response:
        response = jsonify({})
        # Bypass Werkzeug's own check, which only finds line breaks.
        response.headers._list.append((request.args["name"], request.args["value"]))
        return response

    return blueprint


def _things() -> Blueprint:
    """Add typical routes."""
    blueprint = Blueprint("things", __name__, url_prefix="/things")

    @blueprint.post("")
    def create() -> Response:
        return web.json_response(web.read_json(Thing), 201)

    @blueprint.get("/<int:thing_id>")
    def read(thing_id: int) -> Response:
        return jsonify(thing_id=thing_id, limit=web.read_query(ThingQuery).limit)

    @blueprint.get("/refused/<int:status>")
    def refused(status: int) -> None:
        try:
            raise KeyError("the cause")
        except KeyError:
            abort(status, "the framework's own words")

    @blueprint.get("/busy/401")
    def unauthenticated() -> None:
        raise Unauthorized(www_authenticate=WWWAuthenticate("basic", {"realm": "things"}))

    @blueprint.get("/busy/503")
    def busy() -> None:
        raise ServiceUnavailable(retry_after=77)

    @blueprint.get("/framed/by-us")
    def framed() -> Response:
        return Response("{}", headers={"X-Frame-Options": "SAMEORIGIN", "Referrer-Policy": "origin"})

    return blueprint


def _limited() -> Blueprint:
    """Add routes with rate limits."""
    rate_limit = module("chassis.rate_limit").rate_limit
    blueprint = Blueprint("limited", __name__, url_prefix="/things")

    @blueprint.get("/rare/often")
    def often() -> Response:
        return jsonify(None)

    @blueprint.get("/rare/<int:thing_id>")
    @rate_limit("2/minute")
    def rare(thing_id: int) -> Response:
        return jsonify(thing_id)

    @blueprint.get("/free/<int:thing_id>")
    @rate_limit("off")
    def free(thing_id: int) -> Response:
        return jsonify(thing_id)

    return blueprint


def _protected() -> Blueprint:
    """Add views that require scopes: all of them `notes:read`, and one `notes:write` as well."""
    require_scope = module("chassis.authentication.flask").require_scope
    current = module("chassis.request_context").current
    blueprint = Blueprint("protected", __name__, url_prefix="/protected")
    blueprint.before_request(require_scope("notes:read"))

    @blueprint.get("")
    @require_scope()
    def read() -> Response:
        return jsonify(current().principal.id)

    @blueprint.post("")
    @require_scope("notes:write")
    def write() -> Response:
        return jsonify(current().principal.id)

    return blueprint


def _failing_middleware(app: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap an application in a middleware of the owner that fails for some paths."""

    def fail_or_pass(environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/crash-in-middleware":
            raise RuntimeError("a secret of the middleware")
        if environ["PATH_INFO"] == "/refused-in-middleware":
            raise Forbidden("the middleware's own words")
        if environ["PATH_INFO"] == "/moved-in-middleware":
            raise RequestRedirect("/elsewhere")
        return app(environ, start_response)

    return fail_or_pass
