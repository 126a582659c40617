"""A load generator: keep-alive connections to 127.0.0.1 that request one path, bounded in count and in time.

Run it as a separate process: `python load.py PORT PATH COUNT [HEADERS]`. It exits with 1 if a response is not 200.
HEADERS is a file with one header per line; the requests use them in turn.
"""

import asyncio
import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import cast

import uvloop

CONNECTIONS = 16
SECONDS = 300


class Connection(asyncio.Protocol):
    """Sends the next request as soon as a response is complete."""

    def __init__(self, take: Callable[[], bytes | None], done: asyncio.Future[None]) -> None:
        self._take = take
        self._done = done
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._request_next()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator or len(body) < _content_length(head):
            return
        if not head.startswith(b"HTTP/1.1 200"):
            self._done.set_exception(RuntimeError(head.decode("latin-1")))
            self._transport.close()
            return
        self._received = b""
        self._request_next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(exc or ConnectionError("the server closed the connection"))

    def _request_next(self) -> None:
        if request := self._take():
            self._transport.write(request)
        elif not self._done.done():
            self._done.set_result(None)
            self._transport.close()


def _content_length(head: bytes) -> int:
    return int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])


async def load(port: int, path: str, count: int, headers: Sequence[str]) -> None:
    """Send `count` requests over `CONNECTIONS` connections."""
    requests = [f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{header}\r\n\r\n".encode() for header in headers]
    queue = islice(cycle(requests), count)
    loop = asyncio.get_running_loop()
    ends: list[asyncio.Future[None]] = [loop.create_future() for _ in range(CONNECTIONS)]
    async with asyncio.timeout(SECONDS):
        for end in ends:
            connection = partial(Connection, lambda: next(queue, None), end)
            await loop.create_connection(connection, "127.0.0.1", port)
        await asyncio.gather(*ends)


if __name__ == "__main__":
    port, path, count, *files = sys.argv[1:]
    headers = [line for name in files for line in Path(name).read_text().splitlines()]
    uvloop.run(load(int(port), path, int(count), headers or ["Accept: */*"]))
