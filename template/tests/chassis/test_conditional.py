"""Conditional requests: which `If-None-Match` gets 304, and which `If-Match` gets 412."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel

from ..package import module

conditional = module("chassis.web.conditional")
errors = module("chassis.errors")


class Thing(BaseModel):
    name: str


THING = Thing(name="one")
ETAG = conditional.etag_of(THING)


def sent(if_none_match: str, status: int, etag: str | None) -> tuple[int, list[bytes], bytes]:
    """Return the status, the names of the headers and the body that a client gets for a response in two parts."""
    messages: list[Any] = []

    async def send(message: Any) -> None:
        messages.append(message)

    async def respond() -> None:
        wrapped = conditional.not_modified(if_none_match, send)
        headers = [(b"content-type", b"text/plain"), (b"Content-Length", b"4")]
        headers += [(b"ETag", etag.encode())] if etag else []
        await wrapped({"type": "http.response.start", "status": status, "headers": headers})
        await wrapped({"type": "http.response.body", "body": b"te", "more_body": True})
        await wrapped({"type": "http.response.body", "body": b"xt"})

    asyncio.run(respond())
    start, *parts = messages
    return start["status"], [name for name, _ in start["headers"]], b"".join(part["body"] for part in parts)


@pytest.mark.parametrize("header", [ETAG, f"W/{ETAG}", f'"other", {ETAG}', f'"a,b",{ETAG}', "*"])
def test_known_etag_gets_304_without_a_body(header: str) -> None:
    """The comparison is weak (RFC 9110, 8.8.3.2): the prefix `W/` is ignored."""
    assert sent(header, 200, ETAG) == (304, [b"ETag"], b"")
    assert sent(header, 200, f"W/{ETAG}") == (304, [b"ETag"], b"")


@pytest.mark.parametrize(
    ("header", "status", "etag"),
    [
        ('"other"', 200, ETAG),
        (ETAG.strip('"'), 200, ETAG),
        ("", 200, ETAG),
        ("x*", 200, ETAG),
        ("*", 200, None),
        (ETAG, 404, ETAG),
    ],
)
def test_other_response_is_sent_whole(header: str, status: int, etag: str | None) -> None:
    code, headers, body = sent(header, status, etag)
    assert (code, headers[:2], body) == (status, [b"content-type", b"Content-Length"], b"text")


@pytest.mark.parametrize("header", [None, ETAG, "*", f'"other", {ETAG}'])
def test_current_etag_matches(header: str | None) -> None:
    """Without the header, the request is unconditional."""
    conditional.require_match(header, THING)


@pytest.mark.parametrize(
    "header", ["", '"other"', f"W/{ETAG}", ETAG.strip('"'), "foo*", '"other*', conditional.etag_of(Thing(name="two"))]
)
def test_other_etag_is_a_failed_precondition(header: str) -> None:
    """The comparison is strong: a weak ETag never matches (RFC 9110, 13.1.1)."""
    with pytest.raises(errors.PreconditionFailedError):
        conditional.require_match(header, THING)
