"""The keys that check access tokens: one secret, or those that an identity provider publishes (JWKS, RFC 7517)."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import Context
from typing import Any, Protocol

import httpx
import jwt
import structlog
from pydantic import SecretStr

from ..health.checks import Check, Outcome

log = structlog.get_logger(__name__)

_FETCH_TIMEOUT_SECONDS = 5.0
_MAX_JWKS_BYTES = 262_144
# An unknown key id fetches the keys at most this often, so that invented ids do not load the identity provider. A
# failed fetch is repeated after this time.
_MIN_INTERVAL_SECONDS = 10.0


class Keys(Protocol):
    """The keys. `version` changes with them, and `problem` says why they could not be fetched."""

    version: int
    problem: str | None

    @property
    def usable(self) -> bool: ...

    def find(self, kid: Any) -> Sequence[Any]: ...

    async def refresh(self) -> None: ...


class SecretKey:
    """The secret that the service shares with the issuer. Without one, no token is valid."""

    usable = True

    def __init__(self, secret: SecretStr | None) -> None:
        self.version = 0
        self.problem: str | None = None
        self._secret = [secret.get_secret_value()] if secret else []

    def find(self, _kid: Any) -> list[str]:
        return self._secret

    async def refresh(self) -> None:
        """Do nothing: a secret does not change while the service runs."""


class JwksKeys:
    """The public keys of an identity provider, by their ids. They are fetched in the background."""

    def __init__(
        self,
        url: str,
        algorithms: list[str],
        cache_seconds: float,
        stale_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.version = 0
        self.problem: str | None = "not fetched yet"
        self._url = url
        self._algorithms = algorithms
        self._cache_seconds = cache_seconds
        self._stale_seconds = stale_seconds
        self._clock = clock
        self._keys: list[jwt.PyJWK] = []
        self._fetched_at = self._tried_at = -float("inf")
        self._fetching: asyncio.Task[None] | None = None

    @property
    def usable(self) -> bool:
        """Whether there are keys that are not too old."""
        return self.age_seconds < self._stale_seconds

    @property
    def age_seconds(self) -> float:
        return self._clock() - self._fetched_at

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, kid: Any) -> list[jwt.PyJWK]:
        """Return the keys with this id; keys of different types may share one.

        A token without an id uses the keys without one, or the only key.
        """
        if kid is None and len(self._keys) == 1:
            return self._keys
        return [key for key in self._keys if key.key_id == kid]

    async def refresh(self) -> None:
        """Fetch the keys, unless the last attempt is too recent. All callers wait for the same request."""
        if self._fetching is None or self._fetching.done():
            if self._clock() - self._tried_at < _MIN_INTERVAL_SECONDS:
                return
            self._tried_at = self._clock()
            # The task belongs to no request, so the deadline of a request does not cancel it.
            self._fetching = asyncio.get_running_loop().create_task(self._fetch(), context=Context())
        await asyncio.shield(self._fetching)

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(_FETCH_TIMEOUT_SECONDS):
                keys = _parse(await _get(self._url), self._algorithms)
        except Exception as error:
            # The URL and the text of the error may contain credentials.
            cause = str(error) if isinstance(error, JwksError) else type(error).__name__
            self.problem = f"the keys could not be fetched: {cause}"
            log.warning("jwks_not_fetched", cause=cause, usable=self.usable)
            return
        if [key.key_id for key in keys] != [key.key_id for key in self._keys] or self.problem:
            log.info("jwks_fetched", keys=len(keys))
        self.problem, self._keys, self._fetched_at = None, keys, self._clock()
        self.version += 1

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Fetch the keys regularly. The service starts without them; requests that need them get 503 until then."""
        task = asyncio.create_task(self._keep_fresh())
        try:
            yield
        finally:
            task.cancel()

    async def _keep_fresh(self) -> None:
        while True:
            await self.refresh()
            await asyncio.sleep(_MIN_INTERVAL_SECONDS if self.problem else self._cache_seconds)


class JwksError(Exception):
    """The response contains no usable keys. The message says why."""


async def _get(url: str) -> bytes:
    # A small compressed body could decompress to gigabytes at once, before its size is checked.
    client = httpx.AsyncClient(timeout=_FETCH_TIMEOUT_SECONDS, headers={"accept-encoding": "identity"})
    async with client, client.stream("GET", url) as response:
        if response.status_code != 200:
            raise JwksError(f"status {response.status_code}")
        if response.headers.get("content-encoding", "identity") != "identity":
            raise JwksError("a compressed body, although the request forbids it")
        body = b""
        async for part in response.aiter_bytes():
            body += part
            if len(body) > _MAX_JWKS_BYTES:
                raise JwksError(f"more than {_MAX_JWKS_BYTES} bytes")
        return body


def _parse(body: bytes, algorithms: list[str]) -> list[jwt.PyJWK]:
    """Return the keys for these algorithms. Keys for encryption and secrets are left out."""
    try:
        listed = [one for one in json.loads(body)["keys"] if one.get("use", "sig") == "sig"]
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        raise JwksError("not a JSON Web Key Set") from None
    usable = []
    for one in listed:
        try:
            key = jwt.PyJWK(one)
        except jwt.PyJWTError:  # of a kind that the library does not support
            continue
        if key.algorithm_name in algorithms:
            usable.append(key)
    if not usable:
        raise JwksError(f"no key for {', '.join(algorithms)}")
    return usable


class JwksCheck(Check):
    """Warns while the keys cannot be fetched, and fails when those in use are too old."""

    def __init__(self, keys: JwksKeys) -> None:
        async def probe() -> str | None:
            return keys.problem

        def details() -> Mapping[str, Any]:
            known = {"age_seconds": round(keys.age_seconds, 1)} if len(keys) else {}
            return {"keys": len(keys), **known}

        super().__init__("jwks", probe, details=details)
        self._jwks = keys

    def evaluate(self, value: Any) -> Outcome:
        if value is None:
            return Outcome()
        return Outcome("warning" if self._jwks.usable else "error", value)
