"""What only FastAPI brings: the OpenAPI document, and pages that show it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from fastapi import APIRouter, FastAPI
from starlette.requests import ClientDisconnect

from ..package import module
from .conftest import Logs, Start, settings_for_tests
from .in_process import open_client


def test_health_is_not_in_the_openapi_document(start: Start) -> None:
    """It is for machines around the service, and not for its clients."""
    paths = start().get("/openapi.json").json()["paths"]
    assert "/api/things/{thing_id}" in paths
    assert not [path for path in paths if "health" in path or path == "/docs"]


def test_the_document_says_which_errors_there_are(start: Start) -> None:
    """Each with the body that is really sent."""
    document = start().get("/openapi.json").json()
    responses = document["paths"]["/api/things"]["post"]["responses"]
    assert {"400", "404", "405", "413", "415", "422", "500", "503", "504"} <= responses.keys()
    assert list(responses["422"]["content"]) == ["application/problem+json"]
    assert set(document["components"]["schemas"]["Problem"]["required"]) >= {"error_code", "error_id", "status"}


def test_a_client_that_goes_away_is_no_fault_of_ours(start: Start, logs: Logs) -> None:
    """A handler that reads the body itself hears of it by an exception; it is no failure of the service."""

    def read() -> None:
        raise ClientDisconnect

    assert start({"read": read}).get("/api/here/read").status_code == 400
    assert logs("request_failed") == []


def test_the_page_alone_gets_the_sources_that_it_needs(start: Start) -> None:
    """Named one by one: inline scripts by their hash, and nothing else is loosened."""
    answer = start().get("/docs")
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "frame-ancestors 'none'" in policy
    assert "'unsafe-inline'" not in re.search(r"script-src [^;]*", policy)[0]
    assert "'sha256-" in policy
    assert answer.headers["x-frame-options"] == "DENY"
    for path in ("/openapi.json", "/nowhere"):
        assert start().get(path).headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"


def test_documents_are_not_public_in_production_unless_asked_for(start: Start) -> None:
    """One setting alone is refused; it takes a second one that says that it is meant."""
    production = {"environment": "production", "allowed_hosts": "localhost,api.example.com"}
    for path in ("/docs", "/openapi.json"):
        assert start(**production).get(path).status_code == 404
        assert start(**production, api_docs_enabled=True, api_docs_public=True).get(path).status_code == 200
    with pytest.raises(module("chassis.settings").SettingsError, match="API_DOCS_ENABLED: "):
        settings_for_tests(**production, api_docs_enabled=True)


def test_documents_can_be_switched_off_elsewhere(start: Start) -> None:
    """Then there is nothing."""
    client = start(api_docs_enabled=False)
    assert client.get("/docs").status_code == client.get("/openapi.json").status_code == 404


def test_it_has_started_when_your_own_lifespans_are_open_too() -> None:
    """The application's and a router's: a handler must not run before them."""
    seen: list[bool] = []

    @asynccontextmanager
    async def own(app: FastAPI) -> AsyncIterator[None]:
        seen.append(service.lifecycle.started)
        yield

    app = FastAPI(lifespan=own)
    service = module("chassis.web.fastapi").install(app, settings_for_tests(), module("chassis.features").FEATURES)
    app.include_router(APIRouter(lifespan=own))
    with open_client(app):
        assert (seen, service.lifecycle.started) == ([False, False], True)
