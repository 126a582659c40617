"""API keys: 256 random bits, of which only the SHA-256 hash is stored.

A slow hash protects passwords, which can be guessed. For a secret with at least 112 bits of entropy, NIST SP 800-63B,
5.1.2.2 only asks for an approved one-way hash.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from hmac import compare_digest

from ..authentication import accept, bearer_token, fingerprint, reject
from ..request_context import Principal, RequestContext

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
SCOPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_ID_LENGTH = 12
_MAX_KEY_LENGTH = 256
_UNKNOWN = None, datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class ApiKey:
    """One key. `digest` is the SHA-256 hash in hexadecimal. Two keys may have the same name, for rotation."""

    digest: str
    name: str
    scopes: frozenset[str]
    expires_at: datetime
    created_at: datetime | None = None
    last_used_at: datetime | None = None

    @property
    def id(self) -> str:
        """The start of the hash, which identifies the key in `list` and `revoke`."""
        return self.digest[:_ID_LENGTH]

    @property
    def principal(self) -> Principal:
        return Principal(self.name, "api-key", self.scopes, self.name, self.expires_at)


def new_key(prefix: str) -> str:
    """Return a new key; the prefix lets scanners for secrets recognise it."""
    return f"{prefix}_{secrets.token_urlsafe(32)}"


def digest_of(key: str) -> str:
    return sha256(key.encode(errors="surrogatepass")).hexdigest()


def presented_key(headers: Mapping[str, str]) -> str | None:
    """Return the key in `X-API-Key` or `Authorization: Bearer`. A token with dots is an access token (RFC 7519)."""
    key = headers.get("x-api-key")
    if key is None:
        key = bearer_token(headers)
        return None if key is None or "." in key else key
    return key


def utc_now() -> datetime:
    return datetime.now(UTC)


class KeyAuthenticator:
    """Accepts requests that have one of these keys."""

    def __init__(self, keys: Iterable[ApiKey] = (), clock: Callable[[], datetime] = utc_now) -> None:
        self._clock = clock
        self.replace(keys)

    def replace(self, keys: Iterable[ApiKey]) -> None:
        """Accept these keys from now on, and no others."""
        self._keys = {key.id: key for key in keys}
        # By the fingerprint of a checked key: its caller, and the time at which the key must be checked again.
        self._callers: dict[bytes, tuple[Principal, datetime]] = {}

    def __call__(self, context: RequestContext, headers: Mapping[str, str]) -> Awaitable[None] | None:
        presented = presented_key(headers)
        if presented is not None:
            self.check(context, presented, self._clock())
        return None

    def check(self, context: RequestContext, presented: str, now: datetime) -> None:
        """Accept or reject a request with a key. The comparison takes the same time wherever the hashes differ."""
        presented = presented if len(presented) <= _MAX_KEY_LENGTH else ""
        key_fingerprint = fingerprint(presented)
        caller, until = self._callers.get(key_fingerprint, _UNKNOWN)
        if caller is None or until <= now:
            digest = digest_of(presented)
            key = self._keys.get(digest[:_ID_LENGTH])
            if key is None or not compare_digest(key.digest, digest) or key.expires_at <= now:
                reject(context, "The API key is not valid, or it has expired.")
                return
            caller = key.principal
            self._callers[key_fingerprint] = caller, self.record_use(key, now)
        accept(context, caller)

    def record_use(self, key: ApiKey, now: datetime) -> datetime:
        """Return when a key that is used now must be checked again. A subclass can also record the use."""
        return key.expires_at
