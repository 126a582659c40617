"""The acceptance of the service: data files, claims, the reserve behind them, an outage of the node, and a restore."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa

from ..chassis.in_process import open_client
from ..chassis.process import PATIENCE_SECONDS, serving, until
from ..chassis.sql import engine, tables
from ..chassis.upstream import serving_upstream, status
from ..package import PACKAGE, environment, module, program
from ..servers import free_port

cli = module("chassis.cli")
QUICK = {"HEALTH_CHECK_CACHE_SECONDS": "0.01", "NODE_CHECK_CACHE_SECONDS": "0.01"}
POLICIES = ("P-1001", "P-1002", "P-1003")


def command(folder: Path, *arguments: str) -> str:
    """Run a command of the service, which must succeed, and return its output."""
    done = subprocess.run(
        [sys.executable, "-m", PACKAGE, *arguments],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def file(client: httpx.Client, number: str, amount: str) -> None:
    claim = {"number": number, "policy_number": "P-1003", "amount": amount, "occurred_on": "2026-07-01"}
    assert client.post("/api/v1/claims", json=claim).status_code == 201


def health(client: httpx.Client) -> tuple[int, str, dict[str, str]]:
    """Return the status of `/health`, the overall status, and the status of each check."""
    response = client.get("/health")
    body = response.json()
    return response.status_code, body["status"], {name: check["status"] for name, check in body["checks"].items()}


def test_reserve_that_shrinks_degrades_and_then_fails_health(migrated: None, folder: Path) -> None:
    """The node holds the reserve: enough of it, too little, and then no response at all."""
    assert "Imported 3 policies and 3 claims." in command(folder, "import")
    metrics_port = free_port()
    with serving_upstream() as node:
        node.respond(status(200, b'{"balance": "600000.00"}'))
        settings = QUICK | {"NODE_URL": node.url, "METRICS_PORT": str(metrics_port), "RETRY_ATTEMPTS": "1"}
        with serving(folder, PACKAGE, "serve", **settings) as process, process.client() as client:
            assert health(client)[:2] == (200, "healthy")
            assert client.get("/api/v1/reserves").json() == {
                "reserve": "600000.00",
                "open_claims": "304500.50",
                "ratio": 1.9704,
            }

            file(client, "C-3001", "150000.00")
            until(lambda: health(client)[2]["reserve_ratio"] == "warning")
            assert health(client)[:2] == (200, "degraded")
            assert client.get("/health/ready").status_code == 200

            file(client, "C-3002", "200000.00")
            until(lambda: health(client)[2]["reserve_ratio"] == "error")
            assert health(client)[:2] == (503, "unhealthy")

            node.respond(status(200, b'{"balance": "2000000.00"}'))
            until(lambda: health(client)[:2] == (200, "healthy"))

            node.respond(status(503))
            until(lambda: health(client)[2]["node"] == "error")
            assert client.get("/health/ready").status_code == 503
            assert client.get("/health/live").status_code == 200
            failed = client.get("/api/v1/reserves")
            assert (failed.status_code, failed.json()["error_code"]) == (503, "UNAVAILABLE")
            assert "retry-after" in failed.headers
            assert client.get("/api/v1/policies/P-1001").status_code == 200  # does not need the node

            metrics = client.get(f"http://127.0.0.1:{metrics_port}/metrics").text
            assert "\nclaims_filed_total 2.0\n" in metrics
            assert 'health_check_status{check="node",critical="true",status="error"} 1.0' in metrics


def test_backup_restored_after_the_loss_of_all_tables_has_every_record(migrated: None, folder: Path) -> None:
    """Each policy and claim is the same as before the loss."""

    def everything(client: httpx.Client) -> list[Any]:
        paths = [f"/api/v1/policies/{number}" for number in POLICIES]
        paths += [f"/api/v1/claims?policy={number}" for number in POLICIES]
        return [client.get(path).raise_for_status().json() for path in paths]

    command(folder, "import")
    with open_client(module("main").create_app()) as client:
        file(client, "C-3001", "75000.00")
        before = everything(client)
    assert cli.main(program(), ["backup"]) == 0
    with engine() as opened:
        found = sa.MetaData()
        found.reflect(opened)
        found.drop_all(opened)
    assert not tables()
    (backup,) = (folder / "backups").iterdir()
    assert cli.main(program(), ["restore", str(backup)]) == 0
    with open_client(module("main").create_app()) as client:
        assert everything(client) == before
