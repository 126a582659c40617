"""A load generator: keep-alive connections to 127.0.0.1 that request one path, bounded in count and in time.

Run it as a separate process: `python load.py PORT PATH COUNT`. It exits with 1 if a response is not 200.
"""

import asyncio
import sys
from collections.abc import Callable
from functools import partial
from typing import cast

import uvloop

CONNECTIONS = 16
SECONDS = 300


class Connection(asyncio.Protocol):
    """Sends the next request as soon as a response is complete."""

    def __init__(self, request: bytes, take: Callable[[], bool], done: asyncio.Future[None]) -> None:
        self._request = request
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
        if self._take():
            self._transport.write(self._request)
        elif not self._done.done():
            self._done.set_result(None)
            self._transport.close()


def _content_length(head: bytes) -> int:
    return int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])


async def load(port: int, path: str, count: int) -> None:
    """Send `count` requests over `CONNECTIONS` connections."""
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\n\r\n".encode()
    numbers = iter(range(count))
    loop = asyncio.get_running_loop()
    ends: list[asyncio.Future[None]] = [loop.create_future() for _ in range(CONNECTIONS)]
    async with asyncio.timeout(SECONDS):
        for end in ends:
            connection = partial(Connection, request, lambda: next(numbers, None) is not None, end)
            await loop.create_connection(connection, "127.0.0.1", port)
        await asyncio.gather(*ends)


if __name__ == "__main__":
    uvloop.run(load(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
