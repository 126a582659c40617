"""What the asynchronous and the synchronous HTTP client share: what goes out, and what an answer means."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import replace
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Generic, TypeVar

import httpx

from .. import errors, request_context
from ..service import Service
from . import failures
from .circuit_breaker import circuit_breaker
from .retry import Retry

# What may be sent twice to the same effect as once (RFC 9110, 9.2.2).
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
MAX_REDIRECTS = 5

AnswerT = TypeVar("AnswerT")


class BaseHttpClient(ABC, Generic[AnswerT]):
    """A pooled client of one other service, with time-outs, retries and a circuit breaker.

    502, 503, 504 and a service that cannot be reached raise `UnavailableError` once no try is left; every other answer
    is returned. `retry=True` says of a call that it may run twice although its method is not idempotent, `retry=False`
    that it may not although its method is. Redirects are followed within the service, never to another one.
    """

    def __init__(self, service: Service, name: str, base_url: str) -> None:
        settings = service.settings
        self.name = name
        self.retry = Retry.of(service, transient=failures.is_transient)
        self.breaker = circuit_breaker(service, name)
        self._base_url = httpx.URL(base_url)
        self._timeout_seconds: float = settings.http_client_timeout_seconds
        if not self._base_url.is_absolute_url:
            raise ValueError(f"{base_url!r} is no base URL; write it like https://{name}.example.com")

    @abstractmethod
    def request(self, method: str, url: str, *, retry: bool | None = None, **content: Any) -> AnswerT:
        """Send a request to a path of the service, and return its answer.

        `content` is what httpx takes: `params`, `json`, `data`, `content`, `files`, `headers`.

        Raises:
            UnavailableError: the service cannot be reached, is away, or has been failing (503, with `Retry-After`).
        """

    def get(self, url: str, **content: Any) -> AnswerT:
        return self.request("GET", url, **content)

    def post(self, url: str, **content: Any) -> AnswerT:
        return self.request("POST", url, **content)

    def put(self, url: str, **content: Any) -> AnswerT:
        return self.request("PUT", url, **content)

    def patch(self, url: str, **content: Any) -> AnswerT:
        return self.request("PATCH", url, **content)

    def delete(self, url: str, **content: Any) -> AnswerT:
        return self.request("DELETE", url, **content)

    def _retry_for(self, method: str, retry: bool | None, content: dict[str, Any]) -> Retry:
        wanted = method.upper() in IDEMPOTENT if retry is None else retry
        # A body that is read as it is sent is used up by the first try.
        lasting = isinstance(content.get("content", b""), str | bytes) and not content.get("files")
        attempts = self.retry.attempts if wanted and lasting else 1
        return replace(self.retry, attempts=attempts, operation=f"{method.upper()} {self.name}")

    def _ends(self) -> float:
        return time.monotonic() + self.retry.deadline_seconds

    def _seconds_for(self, ends: float) -> float:
        """Return how long the next try may take: its own limit, or what is left of all of them."""
        return min(self._timeout_seconds, ends - time.monotonic())

    def _prepared(self, request: httpx.Request) -> httpx.Request:
        """Complete a request, in which what the caller has set itself stays as it is."""
        if not self._is_within(request.url):
            raise ValueError(f"the client of {self.name} calls {self._base_url} and nothing else")
        for name, value in _passed_on().items():
            request.headers.setdefault(name, value)
        return request

    def _redirected(self, response: httpx.Response) -> httpx.Request | None:
        """Return the request that follows, if it stays within the service: credentials go nowhere else."""
        request = response.next_request
        return request if request is not None and self._is_within(request.url) else None

    def _is_within(self, url: httpx.URL) -> bool:
        base = self._base_url
        return (url.scheme, url.host, url.port) == (base.scheme, base.host, base.port)


class HttpClients(dict[str, Any]):
    """The clients of one service, by name."""

    def add(self, service: Service, client: Any) -> None:
        """Register a client, and have it closed when the service has stopped."""
        if client.name in self:
            raise ValueError(f"an HTTP client named {client.name!r} is there already; choose another name")
        self[client.name] = client
        service.lifespans.append((client.name, client.lifespan))

    def __missing__(self, name: str) -> Any:
        raise LookupError(f"no HTTP client is named {name!r}; add it with add_http_client(service, {name!r}, ...)")


def options(settings: Any, base_url: str, chosen: dict[str, Any]) -> dict[str, Any]:
    """Return what httpx's clients are made with."""
    most = settings.http_client_max_connections
    connect = settings.http_client_connect_timeout_seconds
    standard = {
        "base_url": base_url,
        "timeout": httpx.Timeout(settings.http_client_read_timeout_seconds, connect=connect, pool=connect),
        "limits": httpx.Limits(max_connections=most, max_keepalive_connections=most),
        # Callers share the client: what one of them is sent to keep must not be sent for another.
        "cookies": CookieJar(DefaultCookiePolicy(allowed_domains=[])),
    }
    return standard | chosen


def judged(response: httpx.Response) -> httpx.Response:
    """Return an answer, or raise when it only says that the service is away."""
    if response.status_code in failures.TRANSIENT_STATUSES:
        raise httpx.HTTPStatusError(str(response.status_code), request=response.request, response=response)
    return response


def meaning(error: httpx.HTTPError) -> Exception:
    """Return what a handler sees of a failure; a fault of this service stays what it is."""
    return failures.translate(error) or errors.InternalError()


def _passed_on() -> dict[str, str]:
    """Return the headers by which the logs of both services are found together (W3C Trace Context, 3.2)."""
    context = request_context.current()
    if context is None:
        return {}
    parent = f"00-{context.trace_id}-{request_context.new_span_id()}-{context.trace_flags}"
    return {"x-request-id": context.request_id, "traceparent": parent}
