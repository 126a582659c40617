"""The synchronous HTTP client: `add_http_client(...)` in `main.py`, `http_client(...).get(...)` elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpcore
import httpx

from ..service import Service
from .http_client import MAX_REDIRECTS, BaseHttpClient, HttpClients, judged, meaning, options


class HttpClient(BaseHttpClient[httpx.Response]):
    """A client whose calls block their thread, for a limited time."""

    def __init__(self, service: Service, name: str, base_url: str, **chosen: Any) -> None:
        super().__init__(service, name, base_url)
        self._client = httpx.Client(**options(service.settings, base_url, chosen))
        self._deadline = _Deadline()
        _watch(self._client, self._deadline)

    def request(self, method: str, url: str, *, retry: bool | None = None, **content: Any) -> httpx.Response:
        policy = self._retry_for(method, retry, content)
        try:
            return policy.call(self._try, self._ends(), method, url, content)
        except httpx.HTTPError as error:
            raise meaning(error) from error

    def _try(self, ends: float, method: str, url: str, content: dict[str, Any]) -> httpx.Response:
        request = self._prepared(self._client.build_request(method, url, **content))
        with self.breaker.guard(), self._deadline.within(self._seconds_for(ends)):
            return judged(self._send(request))

    def _send(self, request: httpx.Request) -> httpx.Response:
        response = self._client.send(request)
        for _ in range(MAX_REDIRECTS):
            following = self._redirected(response)
            if following is None:
                break
            response = self._client.send(following)
        return response

    @contextmanager
    def lifespan(self) -> Iterator[None]:
        """Give the connections back at the end."""
        try:
            yield
        finally:
            self._client.close()


def add_http_client(service: Service, name: str, base_url: str, **chosen: Any) -> HttpClient:
    """Make the client of another service; `chosen` is what `httpx.Client` takes (`headers`, `auth`, `verify`)."""
    client = HttpClient(service, name, base_url, **chosen)
    service.get_or_provide(HttpClients).add(service, client)
    return client


def http_client(service: Service, name: str) -> HttpClient:
    """Return the client that was added under this name."""
    found: HttpClient = service.get_or_provide(HttpClients)[name]
    return found


class _Deadline(threading.local):
    """When the call that a thread makes must be over. httpx limits each read; an answer may come a byte at a time."""

    moment = float("inf")

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        self.moment = time.monotonic() + seconds
        try:
            yield
        finally:
            self.moment = float("inf")

    def limit(self, timeout: float | None, late: type[Exception]) -> float | None:
        """Return the time-out of the next step; raise `late` when there is no time for it."""
        left = self.moment - time.monotonic()
        if left <= 0:
            raise late("no whole answer in time")
        return timeout if left == float("inf") else min(left, left if timeout is None else timeout)


def _watch(client: httpx.Client, deadline: _Deadline) -> None:
    """Put the deadline under the client's pools. httpx has no public way to it: a test says when this one is gone."""
    for transport in (client._transport, *client._mounts.values()):
        pool: Any = getattr(transport, "_pool", None)
        if pool is not None:
            pool._network_backend = _Backend(pool._network_backend, deadline)


class _Backend(httpcore.NetworkBackend):
    """Opens connections that know the deadline."""

    def __init__(self, backend: httpcore.NetworkBackend, deadline: _Deadline) -> None:
        self._backend = backend
        self._deadline = deadline

    def connect_tcp(self, host: str, port: int, timeout: float | None = None, *rest: Any, **options: Any) -> _Stream:
        limit = self._deadline.limit(timeout, httpcore.ConnectTimeout)
        return _Stream(self._backend.connect_tcp(host, port, limit, *rest, **options), self._deadline)

    def connect_unix_socket(self, path: str, timeout: float | None = None, *rest: Any, **options: Any) -> _Stream:
        limit = self._deadline.limit(timeout, httpcore.ConnectTimeout)
        return _Stream(self._backend.connect_unix_socket(path, limit, *rest, **options), self._deadline)


class _Stream(httpcore.NetworkStream):
    """A connection on which nothing outlasts the deadline."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: _Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.limit(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), 65_536):
            part = buffer[start : start + 65_536]
            self._stream.write(part, self._deadline.limit(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None) -> _Stream:
        limit = self._deadline.limit(timeout, httpcore.ConnectTimeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, limit), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
