"""Conditional requests (RFC 9110, 13): a client repeats the ETag of what it has read.

A GET route only sets the header `etag`: the middleware then answers `If-None-Match` with 304.
"""

from __future__ import annotations

import re
from hashlib import blake2b

from pydantic import BaseModel

from ..app import Message, Send
from ..errors import PreconditionFailedError

_ETAG = re.compile(r'(?:W/)?"[^"]*"')
# A 304 has no body, so the headers that describe a body are left out.
_BODY_HEADERS = frozenset({b"content-length", b"content-type"})


def etag_of(model: BaseModel) -> str:
    """Return the ETag of a response with this body."""
    return f'"{blake2b(model.model_dump_json().encode(), digest_size=12).hexdigest()}"'


def require_match(if_match: str | None, model: BaseModel) -> None:
    """Check that a model is unchanged since the client read it, if the request has the header `If-Match`.

    Raises:
        PreconditionFailedError: The model has changed.
    """
    if if_match is not None and not {"*", etag_of(model)} & set(_listed(if_match)):
        raise PreconditionFailedError


def not_modified(if_none_match: str, send: Send) -> Send:
    """Wrap `send`: a response with status 200 and an ETag that the client has becomes a 304 without a body."""
    known = {etag.removeprefix("W/") for etag in _listed(if_none_match)}
    is_known = False

    async def send_if_modified(message: Message) -> None:
        nonlocal is_known
        if message["type"] == "http.response.body" and is_known:
            message = {**message, "body": b""}
        elif message["type"] == "http.response.start" and message["status"] == 200:
            headers = list(message.get("headers", ()))
            etags = [value.decode("latin-1").removeprefix("W/") for name, value in headers if name.lower() == b"etag"]
            is_known = bool(etags) and bool({"*", *etags} & known)
            if is_known:
                headers = [(name, value) for name, value in headers if name.lower() not in _BODY_HEADERS]
                message = {**message, "status": 304}
            message = {**message, "headers": headers}
        await send(message)

    return send_if_modified


def _listed(header: str) -> list[str]:
    return ["*"] if header.strip() == "*" else _ETAG.findall(header)
