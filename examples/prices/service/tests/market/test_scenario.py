"""The acceptance of the service: two upstreams, alerts to ten clients at once, and a database that is not available."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import duckdb
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from ..chassis.process import PATIENCE_SECONDS, serving, until
from ..chassis.upstream import cut, serving_upstream, status
from ..package import PACKAGE, environment
from .tokens import bearer, token

PRICES = "/api/v1/prices"
CLIENTS = 10
QUICK = {"POLL_INTERVAL_SECONDS": "0.05", "RETRY_ATTEMPTS": "1", "CIRCUIT_FAILURE_THRESHOLD": "100"}


def whale(name: str, btc: str) -> dict[str, str]:
    return {"id": name, "btc": btc}


def close_code(client: ClientConnection) -> int:
    """Read until the connection is closed, and return the code of the service."""
    while True:
        try:
            client.recv(PATIENCE_SECONDS)
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 0


def test_alert_reaches_ten_clients_and_bad_data_ends_no_task(migrated: None, folder: Path) -> None:
    """One client's token expires: it is closed with 4401, and the others get the next alert."""
    reader = bearer(token("prices:read"))
    with serving_upstream() as spot, serving_upstream() as chain, ExitStack() as stack:
        spot.respond(status(200, b'{"usd": "64000.50"}'))
        chain.respond(status(200, b"[]"))
        upstreams = {"SPOT_URL": spot.url, "CHAIN_URL": chain.url}
        process = stack.enter_context(serving(folder, PACKAGE, "serve", **QUICK, **upstreams))
        http = stack.enter_context(process.client())
        until(lambda: http.get(PRICES, headers=reader).json()["items"])
        checks = http.get("/health").json()["checks"]
        assert [checks[name]["status"] for name in ("spot", "chain")] == ["ok", "ok"]
        assert all(checks[name]["last_success"] for name in ("spot", "chain"))

        def listen(seconds: float) -> ClientConnection:
            url = f"ws://127.0.0.1:{process.port}/api/v1/alerts"
            headers = bearer(token("prices:read", seconds=seconds))
            return stack.enter_context(connect(url, additional_headers=headers, open_timeout=PATIENCE_SECONDS))

        expiring = listen(5)
        clients = [listen(600) for _ in range(CLIENTS - 1)]
        chain.respond(status(200, json.dumps([whale("a1", "1200.5"), whale("a2", "999.9")]).encode()))
        for client in clients:
            assert json.loads(client.recv(PATIENCE_SECONDS)) == whale("a1", "1200.5")

        bad = [b"<html>", b'{"usd": "-1"}', b'{"usd": null}', b"[" * 5000]
        spot.respond(*(status(200, body) for body in bad), status(500), cut, status(200, b'{"usd": "70000.00"}'))
        chain.respond(status(200, b'[{"id": "a3"}]'), status(200, b"\xff\xfe"), status(200, b"[]"))
        until(lambda: http.get(PRICES, headers=reader).json()["items"][0]["usd"] == "70000.00")
        assert len([entry for entry in process.events("poll_failed") if entry["upstream"] == "spot"]) == 6

        assert close_code(expiring) == 4401
        chain.respond(status(200, json.dumps([whale("a1", "1200.5"), whale("a4", "5000")]).encode()))
        for client in clients:
            assert json.loads(client.recv(PATIENCE_SECONDS)) == whale("a4", "5000")


def test_database_that_is_not_available_is_503(migrated: None, folder: Path) -> None:
    """Another process has the file open. The service is alive, not ready, and waits."""
    file = environment(folder)["DATABASE_URL"].removeprefix("duckdb:///")
    with duckdb.connect(file), serving(folder, PACKAGE, "serve", started=False) as process:
        response = process.get(PRICES, bearer(token("prices:read")))
        assert (response.status_code, response.json()["error_code"]) == (503, "UNAVAILABLE")
        assert "retry-after" in response.headers
        assert process.get("/health/live").status_code == 200
        assert process.get("/health/ready").status_code == 503
