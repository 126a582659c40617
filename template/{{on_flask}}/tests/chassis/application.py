"""An application with the chassis and nothing of yours: its routes do what a test tells them, mostly wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

from flask import Blueprint, Flask, Response, abort, jsonify
from pydantic import BaseModel, Field

from ..package import module

Behaviours = Mapping[str, Callable[[], Any]]

chassis = module("chassis.web.flask")
carry = module("chassis.request_context").carry
rate_limit = module("chassis.rate_limit").rate_limit


class Thing(BaseModel):
    name: Annotated[str, Field(min_length=1)]
    count: int = 0


class ThingQuery(BaseModel):
    limit: int = 10


def create_app(settings: Any, features: Sequence[Any], behaviours: Behaviours) -> Flask:
    """Return the application; `GET /api/<way>/<name>` calls `behaviours[name]` and answers what it returns."""
    app = Flask(__name__, static_folder=None)
    app.debug = settings.debug
    # Below the chassis, which wraps what it finds: a middleware with a fault.
    app.wsgi_app = _crashing_middleware(app.wsgi_app)  # type: ignore[method-assign]
    chassis.install(app, settings, features)
    # Behind two blueprints: that is where a framework may lose the outer part of the route's template.
    api = Blueprint("api", __name__, url_prefix="/api")
    api.register_blueprint(_ways(behaviours))
    api.register_blueprint(_things())
    app.register_blueprint(api)
    return app


def _ways(behaviours: Behaviours) -> Blueprint:
    """The ways in which a handler comes to run code."""
    blueprint = Blueprint("ways", __name__)

    @blueprint.get("/here/<name>")
    @blueprint.get("/thread/<name>")  # every handler runs in a thread
    def here(name: str) -> Response:
        return jsonify(behaviours[name]())

    @blueprint.get("/background/<name>")
    def background(name: str) -> Response:
        with ThreadPoolExecutor(1) as pool:
            return jsonify(pool.submit(carry(behaviours[name])).result())

    @blueprint.get("/slow/<float(min=0):seconds>")
    @blueprint.get("/slow/<int:seconds>")
    def slow(seconds: float) -> Response:
        # A thread can be stopped between two instructions of Python only, and not in the middle of a long sleep.
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(0.01)
        return jsonify("done")

    @blueprint.get("/half")
    def half() -> Response:
        def parts() -> Iterator[bytes]:
            yield b"half of the "
            raise RuntimeError("the other half is secret")

        return Response(parts())

    return blueprint


def _things() -> Blueprint:
    """Routes as they are written every day."""
    blueprint = Blueprint("things", __name__, url_prefix="/things")

    @blueprint.post("")
    def create() -> Response:
        return chassis.json_response(chassis.read_json(Thing), 201)

    @blueprint.get("/<int:thing_id>")
    def read(thing_id: int) -> Response:
        return jsonify(thing_id=thing_id, limit=chassis.read_query(ThingQuery).limit)

    @blueprint.get("/refused/<int:status>")
    def refused(status: int) -> None:
        try:
            raise KeyError("the cause")
        except KeyError:
            abort(status, "the framework's own words")

    @blueprint.get("/framed/by-us")
    def framed() -> Response:
        return Response("{}", headers={"X-Frame-Options": "SAMEORIGIN", "Referrer-Policy": "origin"})

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


def _crashing_middleware(app: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap an application in a middleware that crashes for every request that asks for it."""

    def crash_or_pass(environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/crash-in-middleware":
            raise RuntimeError("a secret of the middleware")
        return app(environ, start_response)

    return crash_or_pass
