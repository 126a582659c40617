"""Caches values in Redis for all processes of the service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
    """Stores each value under its own key. The calls block, or return awaitables."""

    def __init__(self, connection: RedisConnection, version: str, *, blocking: bool) -> None:
        self._call: Callable[..., Any] = connection.call_sync if blocking else connection.call
        self._client: Any = connection.sync_client if blocking else connection.client
        self._prefix = f"{connection.namespace}:{version}:"
        probe = f"{connection.namespace}:probe"
        connection.probes += [("SET", probe, b"", "PX", 60_000), ("GET", probe), ("DEL", probe)]

    def get(self, key: str) -> Any:
        return self._call("GET", lambda: self._client.get(self._prefix + key), None)

    def set(self, key: str, value: bytes, ttl_seconds: float) -> Any:
        milliseconds = max(1, int(ttl_seconds * 1000))
        return self._call("SET", lambda: self._client.set(self._prefix + key, value, px=milliseconds), False)

    def delete(self, key: str) -> Any:
        return self._call("DEL", lambda: self._client.delete(self._prefix + key), 0)


def open_store(chassis: Chassis, *, blocking: bool) -> RedisStore:
    version = chassis.settings_as(Settings).cache_version
    return RedisStore(chassis.get(RedisConnection), version, blocking=blocking)
