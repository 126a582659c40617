"""What is known of the request being served: one object in one `ContextVar`, so that nothing leaks into the next."""

from __future__ import annotations

import contextvars
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
# version-traceid-parentid-flags; all-zero ids and version ff are invalid (W3C Trace Context, 3.2), and so is version 00
# with more behind it, which later versions may have (4.3)
_TRACEPARENT = re.compile(
    r"(?!ff|00-.{52}-)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?"
)


@dataclass(slots=True)
class RequestContext:
    """One request, from the first byte to the access line."""

    request_id: str
    trace_id: str
    span_id: str
    method: str
    path: str
    client_address: str
    scheme: str = "http"
    correlation_id: str | None = None
    trace_flags: str = "00"
    # Asks the framework for the route's template, while the request lasts; then `_route` holds it.
    find_route: Callable[[], str | None] | None = None
    user_id: str | None = None
    status: int = 0
    # What was found out about the request goes into its answer, as the interface sends it: bytes on ASGI, text on WSGI.
    headers: list[tuple[Any, Any]] | None = None
    started: float = field(default_factory=time.perf_counter)
    duration_seconds: float = 0.0
    _route: str | None = None

    @property
    def route(self) -> str | None:
        """The route's template (`/notes/{note_id}`), never a raw path; known once the framework has routed."""
        return self._route if self.find_route is None else self.find_route()

    def end(self) -> None:
        """Take the time: the request is answered. Nothing of it is held any longer than its line needs."""
        self.duration_seconds = time.perf_counter() - self.started
        self._route, self.find_route = self.route, None

    def log_fields(self) -> dict[str, object]:
        """Return the fields that every log line of the request carries, under OpenTelemetry's names."""
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
        return fields


_current: contextvars.ContextVar[RequestContext | None] = contextvars.ContextVar("request_context", default=None)
current = _current.get
enter = _current.set
leave = _current.reset


def accepted_id(sent: str | None) -> str | None:
    """Return a client's id when it is fit to be kept, else None."""
    return sent if sent is not None and _REQUEST_ID.fullmatch(sent) else None


def new_id() -> str:
    """Return 32 hexadecimal digits. No secret, so `random` will do, at a tenth of the cost of `uuid4`."""
    return f"{random.getrandbits(128):032x}"


def new_span_id() -> str:
    """Return 16 hexadecimal digits, not all of them zero (W3C Trace Context, 3.2.2.4)."""
    return f"{random.getrandbits(64) or 1:016x}"


def parse_traceparent(header: str | None) -> tuple[str, str, str]:
    """Return trace id, span id and flags of a W3C `traceparent`, or new ids when there is none or it is malformed."""
    match = _TRACEPARENT.fullmatch(header) if header else None
    if match is None:
        drawn = f"{random.getrandbits(192) | 1:048x}"  # one draw for both; an id is not all zero (3.2.2.4)
        return drawn[:32], drawn[32:], "00"
    return match[1], match[2], match[3]


P = ParamSpec("P")
T = TypeVar("T")


def carry(function: Callable[P, T]) -> Callable[P, T]:
    """Wrap a function so that a thread which runs it still knows the request (threads do not inherit context).

    Example: `threading.Thread(target=carry(work)).start()`
    """
    context = contextvars.copy_context()
    return lambda *args, **kwargs: context.run(function, *args, **kwargs)
