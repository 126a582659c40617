"""Policies, claims and data files, in the process of the tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from ..chassis.in_process import open_client
from ..package import module

commands = module("portfolio.commands")
DataFileError = module("chassis.data_files").DataFileError
CLAIM = {"number": "C-3001", "policy_number": "P-1001", "amount": "500.00", "occurred_on": "2026-08-01"}


@pytest.fixture
def insured(client: httpx.Client) -> httpx.Client:
    """A client of a service that has imported its data files."""
    import_files()
    return client


def import_files(*arguments: str) -> int:
    cli, features = module("chassis.cli"), module("chassis.features")
    program = cli.Program("insurance.main:create_app", module("settings").Settings, (commands,), features.serve)
    code: int = cli.main(program, ["import", *arguments])
    return code


def files(folder: Path, policies: str, claims: str) -> Path:
    (folder / "policies.csv").write_text(f"number,holder,sum_insured,starts_on,ends_on\n{policies}\n", encoding="utf-8")
    (folder / "claims.csv").write_text(f"number,policy_number,amount,occurred_on,status\n{claims}\n", encoding="utf-8")
    return folder


# -- data files --------------------------------------------------------------------------------------------------------


def test_imported_policies_and_claims_are_served(insured: httpx.Client) -> None:
    """A second import changes nothing."""
    policy = insured.get("/api/v1/policies/P-1003").json()
    assert (policy["holder"], policy["sum_insured"]) == ("Harbour Café Ltd", "1200000.00")
    assert import_files() == 0
    claims = insured.get("/api/v1/claims", params={"policy": "P-1002"}).json()["items"]
    assert [(claim["number"], claim["status"]) for claim in claims] == [("C-2002", "open")]


@pytest.mark.parametrize(
    ("policies", "claims", "fault"),
    [
        ("P-1,Ada,1.00,2026-01-01,2026-12-31", "", "field number"),
        ("P-1001,Ada,-1.00,2026-01-01,2026-12-31", "", "field sum_insured"),
        ("P-1001,Ada,1.00,2026-12-31,2026-01-01", "", "ends_on is before starts_on"),
        ("P-1001,Ada,1.00,2026-01-01,2026-12-31\nP-1001,Bob,1.00,2026-01-01,2026-12-31", "", "the same as in record 1"),
        ("P-1001,Ada,1.00,2026-01-01,2026-12-31", "C-2001,P-9999,1.00,2026-02-01,open", "no policy P-9999"),
        ("P-1001,Ada,1.00,2026-01-01,2026-12-31", "C-2001,P-1001,1.00,2026-02-01,lost", "field status"),
    ],
)
def test_file_with_an_invalid_record_is_rejected(policies: str, claims: str, fault: str, tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match=fault):
        commands.read(files(tmp_path, policies, claims))


def test_import_of_an_invalid_file_stores_nothing(
    client: httpx.Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command prints every fault and exits with 65."""
    folder = files(tmp_path, "P-1001,Ada,1.00,2026-01-01,2026-12-31\nP-2,,x,2026-01-01,2026-12-31", "")
    assert import_files(str(folder)) == 65
    assert "policies.csv has 3 faults" in capsys.readouterr().err
    assert client.get("/api/v1/policies/P-1001").status_code == 404


# -- claims ------------------------------------------------------------------------------------------------------------


def test_filed_claim_is_listed_and_open(insured: httpx.Client) -> None:
    response = insured.post("/api/v1/claims", json=CLAIM)
    assert (response.status_code, response.json()["status"]) == (201, "open")
    assert response.json() in insured.get(response.headers["location"]).json()["items"]


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"policy_number": "P-9999"}, 404, "NOT_FOUND"),
        ({"number": "C-2001"}, 409, "CONFLICT"),
        ({"occurred_on": "2027-01-01"}, 422, "outside_term"),
        ({"amount": "250000.01"}, 422, "above_sum_insured"),
        ({"amount": "0"}, 422, "greater_than"),
        ({"amount": "1.001"}, 422, "decimal_max_places"),
        ({"status": "paid"}, 422, "extra_forbidden"),
    ],
)
def test_claim_that_is_not_valid_is_rejected(
    insured: httpx.Client, changes: dict[str, str], status: int, code: str
) -> None:
    response = insured.post("/api/v1/claims", json=CLAIM | changes)
    problem: dict[str, Any] = response.json()
    codes = [error["code"] for error in problem["errors"]] or [problem["error_code"]]
    assert (response.status_code, codes) == (status, [code])


def test_unknown_policy_is_not_found(client: httpx.Client) -> None:
    assert client.get("/api/v1/policies/P-1001").status_code == 404
    assert client.get("/api/v1/claims", params={"policy": "P-1001"}).status_code == 404


# -- reserves ----------------------------------------------------------------------------------------------------------


def test_reserve_ratio_follows_a_new_claim(insured: httpx.Client) -> None:
    """The sum of the open claims is cached, and deleted from the cache after the commit."""
    before = insured.get("/api/v1/reserves").json()
    assert before["open_claims"] == "304500.50"
    insured.post("/api/v1/claims", json=CLAIM)
    after = insured.get("/api/v1/reserves").json()
    assert after["open_claims"] == "305000.50"
    assert after["ratio"] < before["ratio"]


@pytest.mark.parametrize(
    ("amount", "status", "health"), [("600000", "ok", 200), ("400000", "warning", 200), ("300000", "error", 503)]
)
def test_reserve_ratio_warns_and_then_fails_health(
    migrated: None, monkeypatch: pytest.MonkeyPatch, amount: str, status: str, health: int
) -> None:
    monkeypatch.setenv("RESERVE_AMOUNT", amount)
    import_files()
    with open_client(module("main").create_app()) as client:
        response = client.get("/health")
    assert (response.status_code, response.json()["checks"]["reserve_ratio"]["status"]) == (health, status)
