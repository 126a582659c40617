"""Response headers: security headers on every response (OWASP Secure Headers Project), ids, CORS, `Connection`.

If a route sets one of these headers, the route's value is sent.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Set

from ..app import Chassis
from ..request_context import RequestContext

RawHeaders = list[tuple[bytes, bytes]]

# The browser features that an API does not use.
_FEATURES = (
    "accelerometer", "autoplay", "browsing-topics", "camera", "display-capture", "encrypted-media", "fullscreen",
    "geolocation", "gyroscope", "magnetometer", "microphone", "midi", "payment", "picture-in-picture",
    "publickey-credentials-get", "screen-wake-lock", "sync-xhr", "usb", "web-share", "xr-spatial-tracking",
)  # fmt: skip

HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "permissions-policy": ", ".join(f"{feature}=()" for feature in _FEATURES),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    # The XSS filter of old browsers was itself a vulnerability; 0 disables it.
    "x-xss-protection": "0",
}
# Two years, more than the year that the preload lists of browsers require (https://hstspreload.org).
HTTPS_HEADERS = {"strict-transport-security": "max-age=63072000; includeSubDomains"}

# The key in the scope for a list of header lines. The server adds an empty list, and sends its lines without checks.
HEADER_LINES = "chassis.header_lines"
# A header's name is a token (RFC 9110, 5.6.2). A value must not hold control characters (5.5); a tab is allowed.
_TOKEN = (string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~").encode()
_CONTROL = bytes({*range(32), 127} - {9})
_NEVER_ADDED = frozenset({b"content-length", b"content-type"})


def install(chassis: Chassis) -> None:
    chassis.response_headers.update(HEADERS)
    chassis.https_response_headers.update(HTTPS_HEADERS)


def encoded(headers: Mapping[str, str]) -> RawHeaders:
    """Return headers as ASGI sends them."""
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


def is_sendable(name: bytes, value: bytes) -> bool:
    """Tell whether a header has only characters that are allowed in headers."""
    return bool(name) and not name.translate(None, _TOKEN) and value == value.translate(None, _CONTROL)


def _lines(headers: RawHeaders) -> bytes:
    for name, value in headers:
        if not is_sendable(name, value):
            raise ValueError(f"the header {name.decode('latin-1')!r} of every response has an invalid character")
    return b"".join(b"%b: %b\r\n" % pair for pair in headers)


class ResponseHeaders:
    """Completes the headers of responses. The headers of every response are encoded once, here."""

    def __init__(self, chassis: Chassis) -> None:
        self._lifecycle = chassis.lifecycle
        http = {name.lower(): value for name, value in chassis.response_headers.items()}
        https = http | {name.lower(): value for name, value in chassis.https_response_headers.items()}
        self._http, self._https = encoded(http), encoded(https)
        self._http_lines, self._https_lines = _lines(self._http), _lines(self._https)
        self._names = {name for name, _ in self._https}

    def missing(
        self, context: RequestContext, cors: RawHeaders, present: Set[bytes], lines: list[bytes] | None
    ) -> RawHeaders:
        """Return the headers that a response still lacks.

        Args:
            context: The request.
            cors: The CORS headers for its origin.
            present: The lower-case names of the headers that the response has.
            lines: The server's list of header lines. It gets the headers that every response has, to save time.
        """
        added = [(b"x-request-id", context.request_id.encode())]
        is_https = context.scheme == "https"
        # The server reads `Connection`, so it must be in the message.
        if lines is not None and self._names.isdisjoint({*present, b"connection"}):
            lines.append(self._https_lines if is_https else self._http_lines)
        else:
            added += self._https if is_https else self._http
        if context.correlation_id is not None:
            added.append((b"x-correlation-id", context.correlation_id.encode()))
        if context.headers is not None:
            added += context.headers
        added += cors
        if self._lifecycle.draining:
            # The client's next request must open a connection to another replica (RFC 9112, 9.6).
            added.append((b"connection", b"close"))
        if present <= _NEVER_ADDED:
            return added
        # The values of `Vary` are combined. For any other header the route decides.
        return [pair for pair in added if pair[0] not in present or pair[0] == b"vary"]
