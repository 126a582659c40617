"""What every request passes first and last, whatever the framework and its interface."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from typing import Generic, TypeVar

from .. import errors, request_context
from ..cors import Cors
from ..hosts import AllowedHosts
from ..problem import Answer, answer
from ..proxies import TrustedProxies
from ..request_context import RequestContext
from ..service import Service

# The request headers that are looked at; everything else is the application's business.
WANTED = (
    "host", "origin", "content-length", "transfer-encoding", "traceparent", "x-request-id", "x-correlation-id",
    "x-forwarded-for", "x-forwarded-proto", "access-control-request-method", "x-api-key",
)  # fmt: skip


HeaderText = TypeVar("HeaderText", bound=str | bytes)


class Edge(Generic[HeaderText]):
    """Opens a request's context, refuses what must not reach the application, and completes the answer's headers.

    `encode` turns text into what a header is made of: bytes in ASGI, text in WSGI. What every answer gets is encoded
    once, here.
    """

    def __init__(self, service: Service, encode: Callable[[str], HeaderText]) -> None:
        settings = service.settings
        self.service = service
        self.max_body_bytes: int = settings.max_request_body_bytes
        self.timeout_seconds: float = settings.request_timeout_seconds
        self._allowed_host = AllowedHosts(settings.allowed_hosts)
        self._cors = Cors(settings) if settings.cors_allowed_origins else None
        self._proxies = TrustedProxies(settings.trusted_proxies) if settings.trusted_proxies else None
        self._encode = encode
        self._headers = self._encoded(service.response_headers)
        self._https_headers = self._headers + self._encoded(service.https_response_headers)
        self._request_id, self._vary = encode("x-request-id"), encode("vary")
        self._never_added = frozenset(map(encode, ("content-length", "content-type")))

    def open(self, method: str, path: str, head: Mapping[str, str], peer: str, scheme: str) -> RequestContext:
        """Return the context of a request whose wanted headers are `head`."""
        if self._proxies:
            peer, scheme = self._proxies.resolve(
                peer, scheme, head.get("x-forwarded-for"), head.get("x-forwarded-proto")
            )
        accepted = request_context.accepted_id
        correlation_id = head.get("x-correlation-id")
        request_id = accepted(head.get("x-request-id")) or accepted(correlation_id) or request_context.new_id()
        trace_id, span_id, flags = request_context.parse_traceparent(head.get("traceparent"))
        if correlation_id is not None:
            correlation_id = accepted(correlation_id) or request_id
        return RequestContext(
            request_id, trace_id, span_id, method, path, peer, scheme, correlation_id, trace_flags=flags
        )

    def refuse(self, context: RequestContext, head: Mapping[str, str]) -> Answer | None:
        """Return the answer to a request that must not reach the application, else None."""
        if self.service.lifecycle.opening:
            return self.failure(errors.UnavailableError("The service is starting."))
        if not self._allowed_host(head.get("host")):
            return self.failure(errors.BadRequestError("This host is not served here."))
        length = head.get("content-length")
        if length is not None and not length.isdecimal():
            return self.failure(errors.BadRequestError("The Content-Length is no number."))
        if length is not None and int(length.lstrip("0")[:19] or "0") > self.max_body_bytes:
            return self.failure(errors.PayloadTooLargeError())
        return self._cors.preflight(context.method, head) if self._cors else None

    def failure(self, cause: BaseException) -> Answer:
        return answer(self.service, cause)

    def added_headers(
        self, context: RequestContext, head: Mapping[str, str], present: Set[HeaderText]
    ) -> list[tuple[HeaderText, HeaderText]]:
        """Return what an answer still lacks; a header that the route has set itself is left as it is."""
        added = [(self._request_id, self._encode(context.request_id))]
        added += self._https_headers if context.scheme == "https" else self._headers
        if context.correlation_id is not None:
            added += self._encoded({"x-correlation-id": context.correlation_id})
        if context.headers is not None:
            added += context.headers
        if self._cors:
            added += self._encoded(self._cors.headers(head.get("origin")))
        if self.service.lifecycle.draining:
            # The client's next request must open a connection to another replica (RFC 9112, 9.6).
            added += self._encoded({"connection": "close"})
        if present <= self._never_added:
            return added
        # `Vary` adds up, everything else is the route's to decide.
        return [pair for pair in added if pair[0] not in present or pair[0] == self._vary]

    def _encoded(self, headers: Mapping[str, str]) -> list[tuple[HeaderText, HeaderText]]:
        return [(self._encode(name), self._encode(value)) for name, value in headers.items()]
