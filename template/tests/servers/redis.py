"""A Redis or Valkey server for the tests, with one namespace for each test."""

from __future__ import annotations

import os
import shutil
import signal
from functools import cache
from pathlib import Path

import redis

from . import GIVEN_REDIS_URL, Server, program

_PLACES = ("usr/bin", "usr/local/bin", "opt/homebrew/bin")
# Long, because a busy machine must not look like an outage. The tests of outages set their own timeout.
_PATIENCE_SECONDS = 60


def settings(folder: Path) -> dict[str, str]:
    """Return the settings with the server's URL and the test's namespace."""
    return {
        "REDIS_URL": server(),
        "REDIS_NAMESPACE": _namespace(folder),
        "REDIS_TIMEOUT_SECONDS": str(_PATIENCE_SECONDS),
    }


def remove(folder: Path) -> None:
    """Delete the keys of a test from a server that you provide. A private server is deleted after the tests."""
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
    """Return the URL of the server that all tests share."""
    return GIVEN_REDIS_URL or start()[1]


def start(*options: str) -> tuple[Server, str]:
    """Start a server with these options and return it with its URL."""
    # Redis does not end at SIGQUIT, which background processes ignore.
    here = Server("redis", signal.SIGKILL)
    url = f"redis://127.0.0.1:{here.port}/0"
    here.start(
        shutil.which("valkey-server") or program("redis-server", "redis-server", _PLACES),
        "--port", str(here.port), "--bind", "127.0.0.1", "--dir", str(here.folder), "--save", "",
        *options, ready=lambda: _ping(url),
    )  # fmt: skip
    return here, url


def _ping(url: str) -> None:
    with connect(url) as client:
        client.ping()


def connections(url: str) -> int:
    """Return the number of other connections to the server."""
    with connect(url) as client:
        return len(client.client_list()) - 1
