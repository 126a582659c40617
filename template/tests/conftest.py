"""Fixtures of every test: a separate environment, and a client of your service."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from . import servers
from .chassis.in_process import open_client
from .package import CHASSIS, ROOT, environment, module, program


def pytest_collection_finish() -> None:
    """Exclude imported objects from garbage collection, which otherwise takes a fifth of the time of the tests."""
    gc.freeze()


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Run a test in a temporary folder, without your environment variables and files, and return the folder."""
    wanted = environment(tmp_path)
    for name in set(os.environ) - set(wanted):
        monkeypatch.delenv(name)
    for name, value in wanted.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    servers.remove(CHASSIS, tmp_path)


# A database in a file after its migration, which takes longer than most tests. All other tests copy it.
_migrated: list[bytes] = []


@pytest.fixture
def migrated(folder: Path) -> None:
    """Migrate the test's database with the service's own command."""
    if not (ROOT / "migrations").is_dir():
        return
    (folder / "migrations").symlink_to(ROOT / "migrations")
    file = servers.database_file(CHASSIS, folder)
    if file and _migrated:
        file.write_bytes(_migrated[0])
        return
    assert module("chassis.cli").main(program(), ["migrate"]) == 0
    if file:
        _migrated.append(file.read_bytes())


@pytest.fixture
def client(migrated: None) -> Iterator[httpx.Client]:
    """Return a client of your service, as `main.py` creates it, with its middleware and its resources."""
    with open_client(module("main").create_app()) as opened:
        yield opened
