"""A load generator: keep-alive connections to 127.0.0.1 that request one path, bounded in count and in time.

Run it as a separate process: `python load.py PORT PATH COUNT`. It exits with 1 if a response is not 2xx.
"""

import argparse
import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import cast
from uuid import uuid4

import uvloop

CONNECTIONS = 16
SECONDS = 300
# Each request replaces this text, in its header and in its body, with a unique value.
UNIQUE = "{unique}"


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
        if not head.startswith(b"HTTP/1.1 2"):
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


def _request(path: str, header: str, body: str) -> bytes:
    unique = uuid4().hex
    content = body.replace(UNIQUE, unique).encode()
    head = f"Host: 127.0.0.1\r\n{header.replace(UNIQUE, unique)}\r\n"
    if not content:
        return f"GET {path} HTTP/1.1\r\n{head}\r\n".encode()
    head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + content


async def load(port: int, path: str, count: int, headers: Sequence[str], body: str) -> None:
    """Send `count` requests over `CONNECTIONS` connections: POST if there is a body, otherwise GET."""
    queue = (_request(path, header, body) for header in islice(cycle(headers), count))
    loop = asyncio.get_running_loop()
    ends: list[asyncio.Future[None]] = [loop.create_future() for _ in range(CONNECTIONS)]
    async with asyncio.timeout(SECONDS):
        for end in ends:
            connection = partial(Connection, lambda: next(queue, None), end)
            await loop.create_connection(connection, "127.0.0.1", port)
        await asyncio.gather(*ends)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("count", type=int)
    parser.add_argument("--headers", type=Path, help="a file with one header per line; the requests use them in turn")
    parser.add_argument("--body", default="", help=f"JSON to POST; each request replaces {UNIQUE} with a unique value")
    given = parser.parse_args()
    lines = given.headers.read_text().splitlines() if given.headers else ["Accept: */*"]
    uvloop.run(load(given.port, given.path, given.count, lines, given.body))
