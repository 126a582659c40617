"""A Redis server for the tests, or a Valkey, and names on it for each."""

from __future__ import annotations

import os
import shutil
import signal
from functools import cache
from pathlib import Path

import redis

from . import GIVEN_REDIS_URL, Server, program

_PLACES = ("usr/bin", "usr/local/bin", "opt/homebrew/bin")
# A machine that is busy with tests is no outage; the tests of outages have a time of their own.
_PATIENCE_SECONDS = 60


def settings(folder: Path) -> dict[str, str]:
    """Return how a service finds the server, and its own names on it."""
    return {
        "REDIS_URL": server(),
        "CACHE_NAMESPACE": _namespace(folder),
        "CACHE_TIMEOUT_SECONDS": str(_PATIENCE_SECONDS),
    }


def remove(folder: Path) -> None:
    """Forget what a test kept on a server that you gave; one of our own ends with the tests."""
    if GIVEN_REDIS_URL:
        with connect(GIVEN_REDIS_URL) as client:
            for key in client.scan_iter(f"{_namespace(folder)}*", count=1000):
                client.delete(key)


def _namespace(folder: Path) -> str:
    return f"test-{os.getpid()}-{folder.name}"


def connect(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, socket_timeout=_PATIENCE_SECONDS, socket_connect_timeout=_PATIENCE_SECONDS)


@cache
def server() -> str:
    """Return the URL of a server."""
    return GIVEN_REDIS_URL or start()[1]


def start() -> tuple[Server, str]:
    """Start a server of our own."""
    # It has no answer to SIGQUIT, which whoever runs in the background has been told to ignore.
    here = Server("redis", signal.SIGKILL)
    url = f"redis://127.0.0.1:{here.port}/0"
    here.start(
        shutil.which("valkey-server") or program("redis-server", "redis-server", _PLACES),
        "--port", str(here.port), "--bind", "127.0.0.1", "--dir", str(here.folder), "--save", "",
        ready=lambda: _ping(url),
    )  # fmt: skip
    return here, url


def _ping(url: str) -> None:
    with connect(url) as client:
        client.ping()


def connections(url: str) -> int:
    """Return how many others are connected to the server."""
    with connect(url) as client:
        return len(client.client_list()) - 1
