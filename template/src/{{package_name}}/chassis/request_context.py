"""The request being served: one object in one `ContextVar`, so that nothing leaks into the next request."""

from __future__ import annotations

import contextvars
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import ParamSpec, TypeVar

from .errors import DeadlineExceededError, ServiceError

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
# version-traceid-parentid-flags. All-zero ids and version ff are invalid (W3C Trace Context, 3.2). Version 00 must end
# after the flags; later versions may append fields (4.3).
_TRACEPARENT = re.compile(
    rb"(?!ff|00-.{52}-)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?"
)
# A longer or malformed value is dropped, as 3.3.1.5 and 4.3 allow.
_TRACESTATE = re.compile(rb"[\x20-\x7e\t]{1,512}")


@dataclass(frozen=True, slots=True)
class Principal:
    """The authenticated caller. `id` stays the same when a credential is replaced by a newer one."""

    id: str
    kind: str
    scopes: frozenset[str] = frozenset()
    name: str = ""
    expires_at: datetime | None = None


@dataclass(slots=True, eq=False, weakref_slot=True)
class RequestContext:
    """One request, from its headers to its access log entry."""

    request_id: str
    trace_id: str
    span_id: str
    method: str
    path: str
    client_address: str
    scheme: str = "http"
    correlation_id: str | None = None
    trace_flags: str = "00"
    # The span of the caller, and what its tracing systems add to the trace (W3C Trace Context, 3.3).
    parent_span_id: str | None = None
    tracestate: str | None = None
    # Asks the framework for the route's template while the request runs; `end` stores the result.
    find_route: Callable[[], str | None] | None = None
    user_id: str | None = None
    principal: Principal | None = None
    # Why the credentials of the request were not accepted. Only a route that requires them responds with it.
    authentication_error: ServiceError | None = None
    status: int = 0
    # The exception behind an error response, and the code in its body.
    error: BaseException | None = None
    error_code: str | None = None
    # Extra response headers, such as those of a rate limit: lower-case names and values, as ASGI sends them.
    headers: list[tuple[bytes, bytes]] | None = None
    # Health probes are not traffic: the access log, error reporters and observers skip them.
    is_probe: bool = False
    # The deadline has passed: the response is a 504, and no unit of work commits any more.
    timed_out: bool = False
    # How many units of work are being committed right now.
    committing: int = 0
    # A unit of work has been committed. Always false for safe methods (RFC 9110, 9.2.1), which may be repeated.
    committed: bool = False
    # The deadline will be extended once, because of a commit.
    extension_due: bool = False
    started: float = field(default_factory=time.perf_counter)
    duration_seconds: float = 0.0
    ended: bool = False
    _route: str | None = None

    @property
    def route(self) -> str | None:
        """The route's template (`/notes/{note_id}`), never a raw path; None until a route is chosen."""
        return self._route if self.find_route is None else self.find_route()

    @property
    def is_failure(self) -> bool:
        """Whether the service failed: the status is 5xx, or the response broke off after its status was sent."""
        return self.status >= 500 or (self.error is not None and self.status < 300)

    def end(self) -> None:
        """Record the duration and the route, and release what only a running request needs."""
        self.duration_seconds = time.perf_counter() - self.started
        self._route, self.find_route = self.route, None
        self.ended = True

    def begin_commit(self) -> None:
        """Announce a commit; until `end_commit` the deadline waits for it.

        Raises:
            DeadlineExceededError: The deadline has passed, so the caller must roll back.
        """
        # Write, then read, as `expire` does. In any order of the threads, at most one of the two proceeds.
        self.committing += 1
        if self.timed_out:
            self.committing -= 1
            raise DeadlineExceededError

    def end_commit(self) -> None:
        """Tell the deadline that the commit has ended."""
        self.committed = self.extension_due = self.method not in _SAFE_METHODS
        self.committing -= 1

    def expire(self) -> bool:
        """Refuse further commits, and return whether that was possible.

        During or after a commit it is not possible: a 504 would make the client repeat a request that was saved.
        """
        if not self.committing and not self.extension_due:
            self.timed_out = True
            if self.committing or self.extension_due:  # a thread has begun a commit meanwhile
                self.timed_out = False
        return self.timed_out

    def log_fields(self) -> dict[str, object]:
        """Return the fields that every log entry of the request carries, under OpenTelemetry's names."""
        fields: dict[str, object] = {
            "request_id": self.request_id,
            "trace_id": self.trace_id,
            "span_id": self.span_id,
            "http.request.method": self.method,
            "url.path": self.path,
            "http.route": self.route,
            "client.address": self.client_address,
        }
        if self.user_id is not None:
            fields["user_id"] = self.user_id
        if self.error_code is not None:
            fields["error_code"] = self.error_code
        return fields


_current: contextvars.ContextVar[RequestContext | None] = contextvars.ContextVar("request_context", default=None)
current = _current.get
bind = _current.set
reset = _current.reset


def new_context(
    method: str,
    path: str,
    *,
    client_address: str = "",
    scheme: str = "http",
    request_id: bytes | None = None,
    correlation_id: bytes | None = None,
    traceparent: bytes | None = None,
    tracestate: bytes | None = None,
) -> RequestContext:
    """Return the context of a request. The last four arguments are raw headers. Malformed ids are replaced."""
    correlation = _accepted_id(correlation_id)
    drawn = (random.getrandbits(320) | 1).to_bytes(40).hex()  # not secret, and the span id is not zero (3.2.2.4)
    accepted = _accepted_id(request_id) or correlation or drawn[:32]
    if correlation_id is not None:
        correlation = correlation or accepted
    parent = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
    if parent is None:
        return RequestContext(accepted, drawn[32:64], drawn[64:], method, path, client_address, scheme, correlation)
    trace_id, span_id, flags = parent[1].decode(), parent[2].decode(), parent[3].decode()
    state = tracestate.decode() if tracestate and _TRACESTATE.fullmatch(tracestate) else None
    return RequestContext(
        accepted, trace_id, span_id, method, path, client_address, scheme, correlation, flags, span_id, state
    )


def new_span_id() -> str:
    """Return 16 hexadecimal digits, not all of them zero (W3C Trace Context, 3.2.2.4)."""
    return f"{random.getrandbits(64) or 1:016x}"


def _accepted_id(sent: bytes | None) -> str | None:
    """Return a client's id if it is well-formed, else None."""
    return sent.decode() if sent is not None and _REQUEST_ID.fullmatch(sent) else None


P = ParamSpec("P")
T = TypeVar("T")


def copy_request_context(function: Callable[P, T]) -> Callable[P, T]:
    """Wrap a function so that a thread that runs it sees the request, because threads do not inherit the context.

    Example: `threading.Thread(target=copy_request_context(work)).start()`
    """
    context = contextvars.copy_context()
    return lambda *args, **kwargs: context.run(function, *args, **kwargs)
