"""The client of one other service: the parts that asynchronous and synchronous callers share."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from contextlib import aclosing
from dataclasses import replace
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Generic, TypeVar

import httpx

from .. import errors, request_context
from ..app import Chassis
from ..instrumentation import Operation, observed
from ..settings import SettingsError
from . import TRANSIENT_STATUSES, Settings, circuit_breaker, is_transient, translate
from .retry import Retry

# Methods that have the same effect when a request is sent twice (RFC 9110, 9.2.2).
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
_MAX_REDIRECTS = 5

ResponseT = TypeVar("ResponseT")
ClientT = TypeVar("ClientT", bound="BaseHttpClient[Any]")


class BaseHttpClient(ABC, Generic[ResponseT]):
    """A pooled client of one other service, with timeouts, retries and a circuit breaker.

    If the service cannot be reached or answers 502, 503 or 504, the call is retried and finally raises
    `UnavailableError`; any other response is returned. Redirects are followed only within the same service.

    Args:
        chassis: The service that calls.
        name: The name of the other service, in logs, health reports and `http_client(chassis, name)`.
        base_url: Its scheme, host and path prefix; the client calls nothing else.
        options: Arguments of `httpx.AsyncClient`, such as `headers`, `auth` and `verify`.

    Raises:
        ValueError: Another client has this name.
        SettingsError: The URL, which usually comes from a setting, is not absolute.
    """

    def __init__(self, chassis: Chassis, name: str, base_url: str, **options: Any) -> None:
        settings = chassis.settings_as(Settings)
        clients = chassis.get_or_provide(_Clients)
        self.name = name
        self._base_url = httpx.URL(base_url)
        self._observers = chassis.operation_observers
        self._timeout_seconds = settings.http_client_timeout_seconds
        if name in clients:
            raise ValueError(f"an HTTP client named {name!r} already exists; choose another name")
        if not self._base_url.is_absolute_url:
            shown = base_url.rpartition("@")[2]  # without credentials
            form = f"use the form https://{name}.example.com"
            raise SettingsError([f"HTTP client {name!r}: {shown!r} is not an absolute URL; {form}"])
        self.retry = Retry.of(chassis, transient=is_transient)
        self.breaker = circuit_breaker(chassis, name)
        self._client = httpx.AsyncClient(**_defaults(settings, base_url) | options)
        clients[name] = self
        chassis.lifespans.append((name, lambda: aclosing(self)))

    @abstractmethod
    def request(self, method: str, url: str, *, retry: bool | None = None, **content: Any) -> ResponseT:
        """Send a request and return the response.

        Args:
            method: The HTTP method.
            url: A path of the service, relative to its base URL.
            retry: Whether the call may be sent more than once; by default only if its method is idempotent.
            content: Arguments of httpx: `params`, `json`, `data`, `content`, `files`, `headers`.

        Raises:
            UnavailableError: The service cannot be reached, is unavailable, or has failed repeatedly (503, with
                `Retry-After`).
        """

    def get(self, url: str, **content: Any) -> ResponseT:
        return self.request("GET", url, **content)

    def post(self, url: str, **content: Any) -> ResponseT:
        return self.request("POST", url, **content)

    def put(self, url: str, **content: Any) -> ResponseT:
        return self.request("PUT", url, **content)

    def patch(self, url: str, **content: Any) -> ResponseT:
        return self.request("PATCH", url, **content)

    def delete(self, url: str, **content: Any) -> ResponseT:
        return self.request("DELETE", url, **content)

    async def aclose(self) -> None:
        """Close the connections; the chassis does so when the service stops."""
        await self._client.aclose()

    async def _request(self, method: str, url: str, retry: bool | None, content: dict[str, Any]) -> httpx.Response:
        policy = self._retry_for(method, retry, content)
        deadline = time.monotonic() + policy.deadline_seconds
        try:
            return await policy.call_async(self._try, deadline, method, url, content)
        except httpx.HTTPError as error:
            raise translate(error) or errors.InternalError() from error

    def _retry_for(self, method: str, retry: bool | None, content: dict[str, Any]) -> Retry:
        is_allowed = method.upper() in IDEMPOTENT if retry is None else retry
        # The first try consumes a streamed body.
        is_repeatable = isinstance(content.get("content", b""), str | bytes) and not content.get("files")
        attempts = self.retry.attempts if is_allowed and is_repeatable else 1
        return replace(self.retry, attempts=attempts, operation=f"{method.upper()} {self.name}")

    async def _try(self, deadline: float, method: str, url: str, content: dict[str, Any]) -> httpx.Response:
        request = self._client.build_request(method, url, **content)
        if not self._is_within(request.url):
            raise ValueError(f"the client of {self.name} calls {self._base_url} only; create another client")
        operation = Operation("http", method.upper(), self._attributes(request))
        for name, value in _tracing_headers(operation.span_id).items():
            request.headers.setdefault(name, value)
        # A try may take up to its own time limit, or the time left for all tries if that is shorter.
        seconds = min(self._timeout_seconds, deadline - time.monotonic())
        with self.breaker.guard(), observed(operation, self._observers):
            try:
                async with asyncio.timeout(seconds):
                    response = await self._send(request)
            except TimeoutError:
                raise httpx.ReadTimeout("the response was not complete in time", request=request) from None
            operation.attributes["http.response.status_code"] = response.status_code
            if response.status_code in TRANSIENT_STATUSES:
                raise httpx.HTTPStatusError(str(response.status_code), request=request, response=response)
            return response

    def _attributes(self, request: httpx.Request) -> dict[str, str | int]:
        url = request.url
        return {
            "http.request.method": request.method,
            "server.address": url.host,
            "server.port": url.port or {"http": 80, "https": 443}.get(url.scheme, 0),
            # A query may contain secrets.
            "url.full": f"{url.scheme}://{url.netloc.decode()}{url.path}",
        }

    async def _send(self, request: httpx.Request) -> httpx.Response:
        response = await self._client.send(request)
        for _ in range(_MAX_REDIRECTS):
            # A redirect elsewhere is returned, because a request there would carry this service's credentials.
            if response.next_request is None or not self._is_within(response.next_request.url):
                break
            response = await self._client.send(response.next_request)
        return response

    def _is_within(self, url: httpx.URL) -> bool:
        base = self._base_url
        return (url.scheme, url.host, url.port) == (base.scheme, base.host, base.port)


class _Clients(dict[str, BaseHttpClient[Any]]):
    """The clients of one service, by name."""


def find(chassis: Chassis, name: str, kind: type[ClientT]) -> ClientT:
    """Return the client of this name.

    Raises:
        LookupError: No client has this name.
    """
    client = chassis.get_or_provide(_Clients).get(name)
    if isinstance(client, kind):
        return client
    raise LookupError(f"no HTTP client is named {name!r}; add it with add_http_client(chassis, {name!r}, ...)")


def _defaults(settings: Settings, base_url: str) -> dict[str, Any]:
    """Return the arguments of every `httpx.AsyncClient`."""
    connections = settings.http_client_max_connections
    connect_seconds = settings.http_client_connect_timeout_seconds
    return {
        "base_url": base_url,
        "timeout": httpx.Timeout(
            settings.http_client_read_timeout_seconds, connect=connect_seconds, pool=connect_seconds
        ),
        "limits": httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        # Callers share the client: a cookie that one of them receives must not be sent for another.
        "cookies": CookieJar(DefaultCookiePolicy(allowed_domains=[])),
    }


def _tracing_headers(span_id: str) -> dict[str, str]:
    """Return the headers that connect the logs of both services (W3C Trace Context, 3.2)."""
    context = request_context.current()
    if context is None:
        return {}
    parent = f"00-{context.trace_id}-{span_id}-{context.trace_flags}"
    headers = {"x-request-id": context.request_id, "traceparent": parent}
    return headers | ({"tracestate": context.tracestate} if context.tracestate else {})
