"""Security headers on every response (OWASP Secure Headers Project). A route may set its own value and keeps it."""

from __future__ import annotations

from .service import Service

# Everything a browser can be asked for that an API has no use for.
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
    # The browsers' old filter could itself be used to attack a page; 0 turns it off.
    "x-xss-protection": "0",
}
# Two years, the least that browsers' preload lists accept for long-lived sites (RFC 6797).
HTTPS_HEADERS = {"strict-transport-security": "max-age=63072000; includeSubDomains"}


def install(service: Service) -> None:
    service.response_headers.update(HEADERS)
    service.https_response_headers.update(HTTPS_HEADERS)
