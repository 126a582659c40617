"""Counts the connections, files, threads and tasks of a service before and after many faults."""

import json
import random
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from chaos import load
from chaos.faults import SHORT
from chaos.world import World

# Tolerance: a connection that is being closed, a health check, threads of bounded pools.
SLACK = {"connections": 2, "in_use": 1, "files": 2, "threads": 8, "tasks": 2}
# The time limit until everything is idle.
REST_SECONDS = 10


@dataclass(frozen=True)
class Held:
    """Counts. `in_use` is the pool's; `files` excludes connections to the database."""

    connections: int
    in_use: int
    files: int
    threads: int
    tasks: int


def count(world: World) -> Held:
    """Count the resources of the service's processes and their connections at the server."""
    time.sleep(1)  # until the connections of the load are closed
    pids = list(_family(world.live.process.pid))
    connections = world.connections()
    files = sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids)
    threads = sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in pids)
    report = _ask(f"{world.live.url}/health")
    in_use = report["checks"]["database"]["details"].get("in_use", -1)
    # A service whose handlers run in threads does not count tasks.
    return Held(connections, in_use, files - connections, threads, _ask(f"{world.live.url}/tasks") or 0)


def compressed_hour(world: World, cycles: int, scratch: Path) -> list[load.Request]:
    """Apply many short faults under load: with sixty cycles, one for each minute of an hour."""
    answers = scratch / "hour.jsonl"
    with load.load(world.live.url, answers, token=world.token):
        for turn in range(cycles):
            begin, end = SHORT[turn % len(SHORT)]
            target = random.choice(list(world.targets.values()))  # noqa: S311
            begin(target)
            time.sleep(random.uniform(0.05, 0.4))  # noqa: S311
            end(target)
            time.sleep(0.1)
        time.sleep(1.5)
    return load.read(answers)


def leaked(world: World, before: Held) -> list[str]:
    """Return every count that stays above its former value. The pool may have grown to its size."""
    deadline = time.monotonic() + REST_SECONDS
    while True:
        after = asdict(count(world))
        allowed = asdict(before) | {"connections": max(before.connections, 10)}
        found = [
            f"{name}: {allowed[name]}, then {now}" for name, now in after.items() if now > allowed[name] + SLACK[name]
        ]
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.5)


def _family(pid: int) -> Iterator[int]:
    """Yield a process and its descendants."""
    yield pid
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False, timeout=10)
    for child in found.stdout.split():
        yield from _family(int(child))


def _ask(url: str) -> Any:
    """Return the response of the service, or None if the path does not exist."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return json.load(error) if error.code == 503 else None
