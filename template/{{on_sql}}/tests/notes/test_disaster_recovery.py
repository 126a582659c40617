"""Disaster recovery: every note that was acknowledged before the last backup comes back."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ..chassis.process import PATIENCE_SECONDS, Process, serving, until
from ..chassis.sql import engine, tables
from ..package import PACKAGE, environment


def command(folder: Path, *arguments: str) -> None:
    """Run a command of the service, which must succeed."""
    done = subprocess.run(
        [sys.executable, "-m", PACKAGE, *arguments],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr


class Writer(threading.Thread):
    """A client that creates notes until `stop()`; the service has acknowledged those in `acknowledged`."""

    def __init__(self, process: Process, name: str) -> None:
        super().__init__()
        self._process, self._name = process, name
        self._stopping = threading.Event()
        self.acknowledged: list[dict[str, Any]] = []

    def run(self) -> None:
        with self._process.client() as client:
            while not self._stopping.is_set():
                title = f"{self._name} {len(self.acknowledged)}"
                response = client.post("/api/v1/notes", json={"title": title, "body": "Ť🚢", "tag": self._name})
                self.acknowledged.append(response.raise_for_status().json())

    def stop(self) -> None:
        self._stopping.set()
        self.join(PATIENCE_SECONDS)


def stop(process: Process) -> None:
    process.send(signal.SIGTERM)
    assert process.exit_code() == 0


def test_restore_after_the_loss_of_all_tables_brings_back_acknowledged_notes(migrated: None, folder: Path) -> None:
    """The backup is made while clients write, and the service works on the restored database."""
    with serving(folder, PACKAGE, "serve", SHUTDOWN_DRAIN_SECONDS="0") as process:
        writers = [Writer(process, name) for name in ("port", "starboard")]
        for writer in writers:
            writer.start()
        until(lambda: all(len(writer.acknowledged) > 20 for writer in writers))
        before = [note for writer in writers for note in writer.acknowledged]
        command(folder, "backup")
        after = sum(len(writer.acknowledged) for writer in writers)
        for writer in writers:
            writer.stop()
        assert after > len(before), "nothing was written during the backup"
        stop(process)
    with engine() as opened:
        found = sa.MetaData()
        found.reflect(opened)
        found.drop_all(opened)
    assert not tables()
    (file,) = (folder / "backups").iterdir()
    command(folder, "restore", str(file))
    with serving(folder, PACKAGE, "serve", SHUTDOWN_DRAIN_SECONDS="0") as process:
        with process.client() as client:
            assert [client.get(f"/api/v1/notes/{note['id']}").json() for note in before] == before
            created = client.post("/api/v1/notes", json={"title": "Afterwards"}).raise_for_status().json()
        assert created["id"] > max(note["id"] for note in before)
        stop(process)
