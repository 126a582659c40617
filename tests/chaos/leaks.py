"""What a service holds: connections, files, threads and tasks, counted before and after many faults."""

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

# How much more may be there by chance: a connection that is being closed, a check of health, threads of bounded pools.
SLACK = {"connections": 2, "in_use": 1, "files": 2, "threads": 8, "tasks": 2}
# How long everything may take to come to rest.
REST_SECONDS = 10


@dataclass(frozen=True)
class Held:
    """Counts. `in_use` is of the pool; the files are those that are no connection of the database's."""

    connections: int
    in_use: int
    files: int
    threads: int
    tasks: int


def count(world: World) -> Held:
    """Count what the service's processes hold, and the server has of them."""
    time.sleep(1)  # until the connections of the load are closed
    pids = list(_family(world.live.process.pid))
    connections = world.connections()
    files = sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids)
    threads = sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in pids)
    report = _ask(f"{world.live.url}/health")
    in_use = report["checks"]["database"]["details"].get("in_use", -1)
    # A service of threads has no tasks.
    return Held(connections, in_use, files - connections, threads, _ask(f"{world.live.url}/tasks") or 0)


def compressed_hour(world: World, cycles: int, scratch: Path) -> list[load.Request]:
    """Have many short faults happen under load, one for each minute of an hour when there are sixty."""
    answers = scratch / "hour.jsonl"
    with load.load(world.live.url, answers):
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
    """Every count that stays above what it was. The pool may have grown to its size, and no further."""
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
    """A process and what it has started."""
    yield pid
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False, timeout=10)
    for child in found.stdout.split():
        yield from _family(int(child))


def _ask(url: str) -> Any:
    """What the service answers, or None when it knows nothing of that."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return json.load(error) if error.code == 503 else None
