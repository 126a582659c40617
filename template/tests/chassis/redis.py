"""A Redis server for one test, which the test stops, freezes or makes read-only."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..servers.redis import connect
from ..servers.redis import start as start_redis
from .process import until

# Far longer than a call may take, and far shorter than a request may take, so that no test fails on a busy machine.
BRIEFLY_SECONDS = 15
# The default timeout. Other tests use a longer one, because a busy machine must not look like an outage. With the
# default timeout that can happen at any time, so tests repeat calls that need Redis until they succeed.
DEFAULT_TIMEOUT = {"redis_timeout_seconds": 0.1}
# A window that does not end while a test runs.
WINDOW = "9999 days"

Break = Callable[["RedisServer"], None]


class RedisServer:
    """A Redis server with methods that cause faults."""

    def __init__(self, *options: str) -> None:
        self.process, self.url = start_redis(*options)

    def kill(self) -> None:
        self.process.stop()

    def freeze(self) -> None:
        self.process.freeze()

    def set_read_only(self, read_only: bool) -> None:
        """Make the server reject writes as a replica does after a failover. It still answers reads and pings."""
        with connect(self.url) as client:
            client.replicaof(*(("127.0.0.1", "1") if read_only else ("NO", "ONE")))

    def admin(self, *command: object) -> Any:
        """Run one command as the administrator."""
        with connect(self.url) as client:
            return client.execute_command(*command)

    def configure(self, **values: object) -> None:
        """Change settings of the server, with underscores for hyphens."""
        for name, value in values.items():
            self.admin("CONFIG", "SET", name.replace("_", "-"), value)

    def fail_to_save(self) -> None:
        """Let the server fail to write its data to its disk, as a full disk does."""
        (self.process.folder / "dump.rdb").mkdir()
        self.admin("SET", "key", 1)
        self.configure(save="3600 1")
        with connect(self.url) as client:
            client.bgsave()
            until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")

    def restore(self) -> None:
        """Undo `kill` and `freeze`."""
        self.process.thaw()
        self.process.bring_back()


@contextmanager
def redis_server(*options: str) -> Iterator[RedisServer]:
    """Start a server, and remove it when the block ends."""
    server = RedisServer(*options)
    try:
        yield server
    finally:
        server.process.remove()


def briefly(call: Callable[[], Any]) -> Any:
    """Return what a call returns, and fail if it takes too long."""
    began = time.monotonic()
    result = call()
    assert time.monotonic() - began < BRIEFLY_SECONDS
    return result
