"""Caches values in Redis for all processes of the service."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import cast

from pydantic import Field

from ..app import Chassis
from ..redis import RedisConnection
from ..settings import BaseChassisSettings


class Settings(BaseChassisSettings):
    """Cache in Redis"""

    cache_version: str = Field(
        "1", min_length=1, description="Second part of every key; raise it when the format of cached values changes."
    )


class RedisStore:
    """The store for handlers that run in threads."""

    def __init__(self, connection: RedisConnection, version: str) -> None:
        self._call = connection.call_sync
        self._client = connection.sync_client
        self._prefix = _prepare(connection, version)

    def get(self, key: str) -> bytes | None:
        return self._call(lambda: cast("bytes | None", self._client.get(self._prefix + key)), None)

    def set(self, key: str, value: bytes, ttl_seconds: float) -> bool:
        milliseconds = _milliseconds(ttl_seconds)
        return self._call(lambda: bool(self._client.set(self._prefix + key, value, px=milliseconds)), False)

    def delete(self, key: str) -> bool:
        return self._call(lambda: bool(self._client.delete(self._prefix + key)), False)


class AsyncRedisStore:
    """The store for handlers on the event loop."""

    def __init__(self, connection: RedisConnection, version: str) -> None:
        self._call = connection.call
        self._client = connection.client
        self._prefix = _prepare(connection, version)

    async def get(self, key: str) -> bytes | None:
        return await self._call(lambda: cast("Awaitable[bytes | None]", self._client.get(self._prefix + key)), None)

    async def set(self, key: str, value: bytes, ttl_seconds: float) -> bool:
        milliseconds = _milliseconds(ttl_seconds)
        return bool(await self._call(lambda: self._client.set(self._prefix + key, value, px=milliseconds), None))

    async def delete(self, key: str) -> bool:
        return bool(await self._call(lambda: self._client.delete(self._prefix + key), 0))


def _prepare(connection: RedisConnection, version: str) -> str:
    """Return the first part of every key, and add the commands of the cache to the probes of the connection."""
    key = f"{connection.namespace}:probe"
    connection.probes += [("SET", key, b"", "PX", 60_000), ("GET", key), ("DEL", key)]
    return f"{connection.namespace}:{version}:"


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))


def open_store(chassis: Chassis) -> RedisStore:
    return RedisStore(chassis.get(RedisConnection), chassis.settings_as(Settings).cache_version)


def open_async_store(chassis: Chassis) -> AsyncRedisStore:
    return AsyncRedisStore(chassis.get(RedisConnection), chassis.settings_as(Settings).cache_version)
