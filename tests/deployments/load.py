"""Load on a service while it is deployed: the smoke profile of its `make load`."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from containers.engine import wait_for
from live import STOP_SECONDS, environment, start_group

# What an owner would add to a scenario to record each request: a line with its duration in milliseconds and its error.
RECORDER = """

import json
from pathlib import Path

from locust import events

_record = Path({path!r}).open("a", buffering=1)


@events.request.add_listener
def write(request_type, name, response_time, exception, **_):
    error = exception and f"{{request_type}} {{name}}: {{exception!r}}"
    _record.write(json.dumps([response_time, error]) + "\\n")
"""


@dataclass
class Outcome:
    """The requests of all clients: how many, those without a successful response, and the slowest one."""

    requests: int = 0
    lost: list[str] = field(default_factory=list)
    longest_seconds: float = 0.0


@contextmanager
def load(service: Path, port: int) -> Iterator[Outcome]:
    """Send requests to a port of this machine during the block. The outcome is complete after the block."""
    outcome, record, scenario = Outcome(), service.parent / "requests.jsonl", service / "load/scenario.py"
    record.write_text("", encoding="utf-8")
    unchanged = scenario.read_text(encoding="utf-8")
    scenario.write_text(unchanged + RECORDER.format(path=str(record)), encoding="utf-8")
    # It runs longer than any block, and is stopped.
    command = ("make", "load", "PROFILE=smoke", f"URL=http://127.0.0.1:{port}", "RUN_TIME=24h")
    process = start_group(*command, cwd=service, variables=environment())
    try:
        wait_for(lambda: process.poll() is not None or record.read_text(encoding="utf-8"))
        yield outcome
    finally:
        scenario.write_text(unchanged, encoding="utf-8")
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        said, _ = process.communicate(timeout=STOP_SECONDS)
    requests = [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]
    assert requests, said
    outcome.requests = len(requests)
    outcome.lost = [error for _, error in requests if error]
    outcome.longest_seconds = max(milliseconds for milliseconds, _ in requests) / 1000
