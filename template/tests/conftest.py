"""What every test stands on: an environment of its own, never yours, and the service itself in this process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from . import servers
from .chassis.in_process import open_client
from .package import PACKAGE, ROOT, environment, module, program


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Keep a test away from your data: it runs in a folder of its own, and sees none of your variables and files."""
    wanted = environment(tmp_path)
    for name in set(os.environ) - set(wanted):
        monkeypatch.delenv(name)
    for name, value in wanted.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    servers.remove(ROOT / "src" / PACKAGE / "chassis", tmp_path)


@pytest.fixture
def migrated(folder: Path) -> None:
    """Bring the test's database to the newest schema, with the service's own command."""
    if (ROOT / "migrations").is_dir():
        (folder / "migrations").symlink_to(ROOT / "migrations")
        assert module("chassis.cli").main(program(), ["migrate"]) == 0


@pytest.fixture
def client(migrated: None) -> Iterator[httpx.Client]:
    """Talk to the service as `main.py` makes it."""
    with open_client(module("main").create_app()) as opened:
        yield opened
