"""The FastAPI adapter: the OpenAPI document, the page that shows it, and FastAPI's own lifespans."""

from __future__ import annotations

import asyncio
import re
import signal
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from starlette.requests import ClientDisconnect
from starlette.staticfiles import StaticFiles

from ..package import module
from .application import Thing, create_app
from .conftest import FAULTS, Logs, Start, settings_for_tests
from .in_process import open_client
from .process import PATIENCE_SECONDS, Process, serving, until
from .test_errors import assert_is_problem


def test_head_of_a_stream_does_not_wait_for_its_first_part(running: Process) -> None:
    """A client of server-sent events knows at once that it is connected."""
    with running.connect() as connection:
        connection.sendall(b"GET /api/stream/late HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received = connection.recv(65_536)
    assert (received[:12], received[-4:]) == (b"HTTP/1.1 200", b"\r\n\r\n")


def test_openapi_document_has_no_health_endpoints(start: Start) -> None:
    """Health endpoints are for the infrastructure and not for clients of the service."""
    paths = start().get("/openapi.json").json()["paths"]
    assert "/api/things/{thing_id}" in paths
    assert not [path for path in paths if "health" in path or path == "/docs"]


def test_openapi_document_lists_the_errors_with_their_body() -> None:
    """The document has them for each route of a router that the application includes."""

    async def create(thing: Thing) -> Thing:
        return thing

    router = APIRouter()
    router.add_api_route("/new", create, methods=["POST"])
    app = create_app(settings_for_tests(), module("chassis.features").FEATURES, {})
    app.include_router(router)
    with open_client(app) as client:
        document = client.get("/openapi.json").json()
    responses = document["paths"]["/new"]["post"]["responses"]
    assert {"400", "404", "405", "413", "415", "422", "500", "503", "504"} <= responses.keys()
    assert list(responses["422"]["content"]) == ["application/problem+json"]
    assert set(document["components"]["schemas"]["Problem"]["required"]) >= {"error_code", "error_id", "status"}


def test_client_that_disconnects_is_not_a_failure_of_the_service(start: Start, logs: Logs) -> None:
    """A handler that reads the body itself gets a ClientDisconnect, which is not logged as an error."""

    def read() -> None:
        raise ClientDisconnect

    assert start({"read": read}).get("/api/here/read").status_code == 400
    assert logs("request_failed") == []


def test_routes_of_starlette_are_logged_with_their_template(logs: Logs, folder: Path) -> None:
    """FastAPI stores only its own routes in the scope. `/openapi.json` and mounted files are routes of Starlette."""
    (folder / "a.txt").touch()
    app = create_app(settings_for_tests(), module("chassis.features").FEATURES, {})
    app.mount("/files", StaticFiles(directory=folder))
    app.add_api_route("/numbers/{number:int}", lambda number: number)
    with open_client(app) as client:
        for path in ("/openapi.json", "/docs", "/files/a.txt", "/nowhere", "/numbers/1"):
            client.get(path)
        client.head("/openapi.json")
    routes = [entry["http.route"] for entry in logs("request_finished")]
    assert routes == ["/openapi.json", "/docs", "/files", None, "/numbers/{number}", "/openapi.json"]


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_number_in_a_path_with_too_many_digits_for_python_is_not_found(method: str) -> None:
    """Python refuses to convert more than 4,300 digits to an integer. This limit can be lowered to 640."""
    app = create_app(settings_for_tests(), module("chassis.features").FEATURES, {})
    for known in ("GET", "DELETE"):
        app.add_api_route("/numbers/{number:int}", lambda number: number, methods=[known])
    with open_client(app) as client:
        assert client.request(method, f"/numbers/{'9' * 640}").status_code == 200
        assert_is_problem(client.request(method, f"/numbers/{'9' * 5000}"), 404, "NOT_FOUND")


def test_plain_route_in_an_included_router_is_logged_with_its_whole_template(logs: Logs) -> None:
    async def plain(_request: Request) -> Response:
        return Response()

    app = create_app(settings_for_tests(), module("chassis.features").FEATURES, {})
    router = APIRouter()
    router.add_route("/plain/{name}", plain)
    app.include_router(router, prefix="/api")
    with open_client(app) as client:
        assert client.get("/api/plain/a").status_code == 200
    assert [entry["http.route"] for entry in logs("request_finished")] == ["/api/plain/{name}"]
    assert app.chassis.routes.resolve("GET", "/api/plain/a") is plain


def test_http_exception_in_a_before_request_hook_has_its_status(start: Start, logs: Logs) -> None:
    def refuse(*_: object) -> None:
        raise HTTPException(403)

    client = start(install=lambda chassis: chassis.before_request.append(refuse))
    assert_is_problem(client.get("/api/things/7"), 403, "PERMISSION_DENIED")
    assert logs("request_failed") == []


def test_docs_page_alone_has_a_looser_content_security_policy(start: Start) -> None:
    """The policy names each source, and allows inline scripts by their hash."""
    response = start().get("/docs")
    assert response.status_code == 200
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "frame-ancestors 'none'" in policy
    assert "'unsafe-inline'" not in re.search(r"script-src [^;]*", policy)[0]
    assert "'sha256-" in policy
    assert response.headers["x-frame-options"] == "DENY"
    for path in ("/openapi.json", "/nowhere"):
        assert start().get(path).headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"


def test_docs_page_names_the_document_relative_to_itself(start: Start) -> None:
    """A proxy may serve the service below a prefix, which it strips."""
    assert "url: 'openapi.json'" in start().get("/docs").text


def test_api_docs_in_production_need_two_settings(start: Start) -> None:
    """API_DOCS_PUBLIC must confirm API_DOCS_ENABLED."""
    production = {"environment": "production", "allowed_hosts": "localhost,api.example.com"}
    for path in ("/docs", "/openapi.json"):
        assert start(**production).get(path).status_code == 404
        assert start(**production, api_docs_enabled=True, api_docs_public=True).get(path).status_code == 200
    with pytest.raises(module("chassis.settings").SettingsError, match="API_DOCS_ENABLED: "):
        settings_for_tests(**production, api_docs_enabled=True)


def test_api_docs_can_be_disabled(start: Start) -> None:
    client = start(api_docs_enabled=False)
    assert client.get("/docs").status_code == client.get("/openapi.json").status_code == 404


def test_service_has_started_after_the_lifespans_of_the_application() -> None:
    """No handler may run before the lifespans of the application and its routers are open."""
    seen: list[bool] = []

    @asynccontextmanager
    async def own(app: FastAPI) -> AsyncIterator[None]:
        seen.append(chassis.lifecycle.started)
        yield

    app = FastAPI(lifespan=own)
    chassis = module("chassis.web.fastapi").install(app, settings_for_tests(), module("chassis.features").FEATURES)
    app.include_router(APIRouter(lifespan=own))
    with open_client(app):
        assert (seen, chassis.lifecycle.started) == ([False, False], True)


def test_allow_of_mounted_files_has_the_methods_that_they_support(folder: Path) -> None:
    """A mounted application is one route for all methods, and `StaticFiles` does not name its methods."""
    (folder / "page.txt").write_text("page")
    app = FastAPI()
    module("chassis.web.fastapi").install(app, settings_for_tests(), module("chassis.features").FEATURES)
    app.mount("/files", StaticFiles(directory=folder))
    with open_client(app) as client:
        response = client.post("/files/page.txt")
        assert_is_problem(response, 405, "METHOD_NOT_ALLOWED")
        assert response.headers["allow"] == "GET, HEAD"
        assert client.head("/files/page.txt").headers["content-length"] == "4"


def test_explicit_head_route_is_used_for_head() -> None:
    """A GET route serves HEAD only if the application has no HEAD route for the path."""
    app = FastAPI()
    module("chassis.web.fastapi").install(app, settings_for_tests(), module("chassis.features").FEATURES)
    app.add_api_route("/page", lambda: "get", methods=["GET"])
    app.add_api_route("/page", lambda: Response(headers={"x-method": "head"}), methods=["HEAD"])
    with open_client(app) as client:
        assert client.head("/page").headers["x-method"] == "head"
        assert client.get("/page").json() == "get"


# -- cancellation ------------------------------------------------------------------------------------------------------


async def await_a_cancelled_task() -> None:
    task = asyncio.create_task(asyncio.sleep(60))
    task.cancel()
    await task


def test_handler_that_awaits_a_cancelled_task_is_500(start: Start, logs: Logs) -> None:
    """Only the deadline and the server cancel a request."""
    client = start({"cancelled": await_a_cancelled_task})
    assert_is_problem(client.get("/api/here/cancelled"), 500, "INTERNAL")
    assert len(logs("request_failed")) == 1
    assert [entry["http.response.status_code"] for entry in logs("request_finished")] == [500]


def test_handler_that_ignores_its_cancellation_is_504_while_it_runs(start: Start, logs: Logs) -> None:
    """Its own response, which comes later, is dropped."""
    release = threading.Event()

    async def ignore() -> str:
        while not release.is_set():
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)
        return "late"

    client = start({"ignore": ignore}, request_timeout_seconds=0.5)  # the handler has begun by then
    with ThreadPoolExecutor(1) as caller:
        request = caller.submit(client.get, "/api/here/ignore", headers={"X-Request-ID": "r-1"})
        try:
            until(lambda: logs("request_finished"))
        finally:
            release.set()
        assert_is_problem(request.result(PATIENCE_SECONDS), 504, "DEADLINE_EXCEEDED")
    assert [entry["request_id"] for entry in logs("cancellation_ignored")] == ["r-1"]
    assert [entry["http.response.status_code"] for entry in logs("request_finished")] == [504]


def test_handler_that_swallows_its_cancellation_is_504(start: Start, logs: Logs) -> None:
    """A response after the deadline is not sent, because nothing of the request may be committed any more."""

    async def swallow() -> str:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        return "late"

    client = start({"swallow": swallow}, request_timeout_seconds=0.5)
    assert_is_problem(client.get("/api/here/swallow"), 504, "DEADLINE_EXCEEDED")
    assert [entry["http.response.status_code"] for entry in logs("request_finished")] == [504]


@pytest.mark.parametrize("path", ["here/wait-in-a-thread", "here/ignore-cancellation", "background/wait"])
def test_shutdown_abandons_a_task_or_thread_that_cannot_be_cancelled(folder: Path, path: str) -> None:
    """asyncio and Python would wait for it without limit. The exit code is 0, and the log says what happened."""
    limits = {"SHUTDOWN_DRAIN_SECONDS": "0", "SHUTDOWN_TIMEOUT_SECONDS": "1", "REQUEST_TIMEOUT_SECONDS": "600"}
    with serving(folder, *FAULTS, **limits) as process, process.connect() as connection:
        connection.sendall(f"GET /api/{path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        until(lambda: process.events("waiting"))
        process.send(signal.SIGTERM)
        assert process.exit_code() == 0
        assert len(process.events("threads_abandoned")) == 1
