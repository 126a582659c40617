"""Stores responses in Redis for all processes of the service."""

from __future__ import annotations

from typing import Any

from ..app import Chassis
from ..errors import UnavailableError
from ..redis import RedisConnection
from . import Settings as Settings
from . import install as install_store

_UNAVAILABLE = object()


class RedisStore:
    """Stores each record under its own key, which Redis deletes when it expires."""

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        self._prefix = f"{connection.namespace}:idempotency:"
        probe = f"{self._prefix}probe"
        connection.probes += [("SET", probe, b"", "NX", "GET", "PX", 60_000), ("DEL", probe)]

    async def begin(self, name: str, record: bytes, ttl_seconds: float) -> bytes | None:
        found = await self._call("SET", self._set(name, record, ttl_seconds, nx=True, get=True))
        if found is _UNAVAILABLE:
            raise UnavailableError
        return None if found is None else bytes(found)

    async def finish(self, name: str, record: bytes | None, ttl_seconds: float) -> bool:
        if record is None:
            done = await self._call("DEL", lambda: self._connection.client.delete(self._prefix + name))
        else:
            done = await self._call("SET", self._set(name, record, ttl_seconds))
        return done is not _UNAVAILABLE

    def _set(self, name: str, record: bytes, ttl_seconds: float, **options: Any) -> Any:
        milliseconds = max(1, int(ttl_seconds * 1000))
        return lambda: self._connection.client.set(self._prefix + name, record, px=milliseconds, **options)

    async def _call(self, command: str, call: Any) -> Any:
        return await self._connection.call(command, call, _UNAVAILABLE)


def install(chassis: Chassis) -> None:
    install_store(chassis, RedisStore(chassis.get(RedisConnection)))
