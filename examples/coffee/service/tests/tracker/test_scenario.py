"""The acceptance of the service: a day of coffee, a key that is rotated without a gap, and the pipeline."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path

import httpx
import pytest
import yaml

from ..chassis.process import serving, until
from ..package import PACKAGE, ROOT, module, program

Captured = pytest.CaptureFixture[str]
TODAY = "/api/v1/today"


def command(capsys: Captured, *arguments: str) -> str:
    """Run a command of the service, which must succeed, and return its output."""
    capsys.readouterr()
    assert module("chassis.cli").main(program(), arguments) == 0
    return capsys.readouterr().out


def create_key(capsys: Captured) -> dict[str, str]:
    """Create a key, and return the header that has it."""
    said = command(capsys, "api-keys", "create", "phone", "--scopes", "tracker:read,tracker:write")
    return {"X-API-Key": said.splitlines()[0]}


def status(client: httpx.Client, key: dict[str, str]) -> int:
    return client.get(TODAY, headers=key).status_code


def test_key_is_rotated_without_a_gap(migrated: None, folder: Path, capsys: Captured) -> None:
    """Both keys are valid until the old one is revoked. The new one is valid all the time."""
    old = create_key(capsys)
    with serving(folder, PACKAGE, "serve", API_KEYS_CACHE_SECONDS="0.05") as process, process.client() as client:
        assert client.get(TODAY).status_code == 401
        cup = client.post("/api/v1/cups", json={"kind": "espresso", "caffeine_mg": 63}, headers=old)
        assert cup.status_code == 201
        assert client.post("/api/v1/heart-rates", json={"beats_per_minute": 72}, headers=old).status_code == 201
        assert client.get(TODAY, headers=old).json()["cups"] == [cup.json()]
        assert client.get("/api/v1/correlation", headers=old).json() == {"days": 1, "coefficient": None}

        new = create_key(capsys)
        until(lambda: status(client, new) == 200)
        assert status(client, old) == 200
        listed = re.findall(r"^(\w{12})  phone", command(capsys, "api-keys", "list"), re.MULTILINE)
        assert len(listed) == 2
        command(capsys, "api-keys", "revoke", key_id(old["X-API-Key"], listed))
        until(lambda: status(client, old) == 401)
        assert status(client, new) == 200

        finished = process.events("request_finished")
        assert [entry["user_id"] for entry in finished if entry["http.response.status_code"] == 201] == ["phone"] * 2
        assert old["X-API-Key"] not in str(process.lines)


def key_id(key: str, listed: list[str]) -> str:
    """Return the id of a key, which is the start of its hash."""
    (found,) = [one for one in listed if sha256(key.encode()).hexdigest().startswith(one)]
    return found


def test_pipeline_runs_the_targets_of_this_makefile() -> None:
    """Each step of the pipeline that runs `make` names targets that exist."""
    workflow = yaml.safe_load((ROOT / ".github/workflows/chassis.yml").read_text(encoding="utf-8"))
    steps = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    targets = {target for run in steps if run.startswith("make ") for target in run.split()[1:]}
    assert {"lint", "types", "test"} <= targets
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert {target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)} == set()
