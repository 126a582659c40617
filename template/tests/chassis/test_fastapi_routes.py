"""The routes of a FastAPI application: each request is compared only with those that can serve its path."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, Request
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Match, Route
from starlette.types import Scope

from ..package import module
from .application import create_app
from .conftest import settings_for_tests
from .in_process import open_client

PATHS = [
    "/", "/plain", "/plain/", "/plains", "/slash", "/slash/", "/orders", "/orders/7", "/orders/7/items", "/orders-old",
    "/orders/", "/mounted", "/mounted/", "/mounted/deep/file", "/mountedness", "/items/7", "/x/anything/at/all",
    "/links", "/nowhere", "//plain", "/%70lain", "/openapi.json", "/orders/%2F",
]  # fmt: skip


class Compared(Route):
    """A route that records the paths that the router compares with it."""

    def __init__(self, path: str) -> None:
        super().__init__(path, lambda _request: PlainTextResponse("compared"))
        self.paths: list[str] = []

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        self.paths.append(scope["path"])
        return super().matches(scope)


def new_app() -> FastAPI:
    return create_app(settings_for_tests(), module("chassis.features").FEATURES, {})


def add_routes(app: FastAPI) -> None:
    """Add routes of every kind. Some of them share a prefix."""

    async def respond(request: Request) -> dict[str, Any]:
        return {"path": request.url.path, "parameters": request.path_params}

    async def links(request: Request) -> list[str]:
        return [str(request.url_for("an_order", order=1)), str(request.url_for("plain"))]

    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse(f"mounted {scope['path']}")(scope, receive, send)

    orders = APIRouter(prefix="/orders")
    orders.add_api_route("", respond)
    orders.add_api_route("", respond, methods=["POST"])
    orders.add_api_route("/{order}", respond, name="an_order")
    orders.add_api_route("/{order}/items", respond)
    outer = APIRouter()
    outer.include_router(orders)
    outer.add_api_route("/{kind}/{number:int}", respond)
    outer.add_api_route("/orders-old", respond)
    app.add_api_route("/plain", respond, name="plain")
    app.add_api_route("/slash/", respond)
    app.add_api_route("/links", links)
    app.mount("/mounted", mounted)
    app.include_router(outer)
    app.add_api_route("/x/{rest:path}", respond)
    app.router.routes.append(Host("other.test", Starlette(routes=[Route("/plain", PlainTextResponse("other"))])))


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
def test_request_reaches_the_same_route_as_without_the_shortlist(method: str) -> None:
    app, full = new_app(), new_app()
    add_routes(app)
    add_routes(full)
    full.router.middleware_stack = full.router.app

    def responses_of(served: FastAPI) -> list[tuple[int, str | None, str | None, object]]:
        with open_client(served) as client:
            responses = [client.request(method, path) for path in PATHS]
            responses.append(client.request(method, "/plain", headers={"host": "other.test"}))
        return [
            (one.status_code, one.headers.get("location"), one.headers.get("allow"), one.is_error or one.text)
            for one in responses
        ]

    assert responses_of(app) == responses_of(full)


def test_path_is_not_compared_with_routes_of_another_prefix() -> None:
    app, near, far = new_app(), Compared("/orders/{order}/items"), Compared("/customers/{customer}")
    app.router.routes += [near, far]
    with open_client(app) as client:
        assert client.get("/orders/7/items").text == "compared"
        assert client.get("/orders").status_code == 404
    assert set(near.paths) >= {"/orders/7/items"}
    assert far.paths == []


def test_route_that_is_added_after_a_request_is_found() -> None:
    app = new_app()
    with open_client(app) as client:
        assert client.get("/late").status_code == 404
        app.add_api_route("/late", lambda: "late")
        assert client.get("/late").json() == "late"
