"""Authentication: the principal of a request, and the scopes that a route requires.

Credentials are checked before the framework runs, by the authenticators of the features. Routes decide whether they
need them, with `require_scope` from `fastapi.py` or `flask.py` in this package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b

from .. import request_context
from ..app import BeforeRequest, Chassis
from ..errors import PermissionDeniedError, UnauthenticatedError
from ..request_context import Principal, RequestContext

# Browsers cannot set headers of a WebSocket, but they can offer subprotocols.
_SUBPROTOCOL = "bearer."


def add_authenticator(chassis: Chassis, authenticator: BeforeRequest) -> None:
    """Add a function that checks another kind of credentials, before the other hooks run."""
    if not chassis.authenticators:
        chassis.before_request.append(chassis.authenticate)
    chassis.authenticators.append(authenticator)


def bearer_token(headers: Mapping[str, str]) -> str | None:
    """Return the token in `Authorization: Bearer`, or in the subprotocol `bearer.<token>` of a WebSocket handshake."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    protocols = headers.get("sec-websocket-protocol")
    if protocols is None:
        return None
    offered = (name.strip() for name in protocols.split(","))
    return next((name.removeprefix(_SUBPROTOCOL) for name in offered if name.startswith(_SUBPROTOCOL)), None)


def fingerprint(credentials: str) -> bytes:
    """Return the BLAKE2b hash under which checked credentials are cached. It takes less CPU time than SHA-256."""
    return blake2b(credentials.encode(errors="surrogatepass"), digest_size=32).digest()


def accept(context: RequestContext, principal: Principal) -> None:
    """Store the caller of a request; all its log entries then have `user_id`."""
    context.principal = principal
    context.user_id = principal.id


def reject(context: RequestContext, detail: str) -> None:
    """Store that the credentials of a request are not valid (RFC 6750, 3.1)."""
    context.authentication_error = UnauthenticatedError(detail, challenge='Bearer error="invalid_token"')


def authorize(*scopes: str) -> Principal:
    """Return the caller of the current request, who must have all these scopes.

    Raises:
        UnauthenticatedError: The credentials are missing or not valid.
        PermissionDeniedError: A scope is missing.
    """
    return _authorized(request_context.current(), scopes)


async def authenticate_token(chassis: Chassis, token: str, *scopes: str) -> Principal:
    """Return the caller with this token or key, such as one in the first message of a WebSocket.

    Raises:
        UnauthenticatedError: The token is not valid.
        PermissionDeniedError: A scope is missing.
        UnavailableError: The token cannot be checked at the moment.
    """
    context = request_context.new_context("GET", "")
    pending = chassis.authenticate(context, {"authorization": f"Bearer {token}"})
    if pending is not None:
        await pending
    return _authorized(context, scopes)


def _authorized(context: RequestContext | None, scopes: Sequence[str]) -> Principal:
    if context is not None and context.authentication_error is not None:
        raise context.authentication_error
    if context is None or context.principal is None:
        raise UnauthenticatedError()
    if not context.principal.scopes.issuperset(scopes):
        required = " ".join(scopes)
        challenge = f'Bearer error="insufficient_scope", scope="{required}"'
        raise PermissionDeniedError(f"This requires the scope {required}.", headers={"www-authenticate": challenge})
    return context.principal
