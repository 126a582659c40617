"""Redis 7 or newer, or Valkey (https://redis.io, https://valkey.io): one memory for all processes of the service."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar, cast

import redis
from pydantic import Field, SecretStr, field_validator
from redis.asyncio import BlockingConnectionPool as AsyncPool
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from ..rate_limit.limit import Limit, Verdict
from ..resilience.circuit_breaker import CircuitBreaker
from ..resilience.failures import CircuitOpenError
from . import Settings as CacheSettings
from .allowances import SCRIPT, Allowances, arguments

T = TypeVar("T")
_ERRORS = (redis.RedisError, OSError)  # a time-out is an OSError
_AWAY = (*_ERRORS, CircuitOpenError)
# How long Redis is left alone when it does not answer. Then one call is the trial: it waits for its time-out, no other.
_RECOVERY_SECONDS = 0.5


class Settings(CacheSettings):
    """Redis"""

    redis_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="Where Redis or Valkey is, such as `redis://:password@host:6379/0`; `rediss://` for TLS.",
    )
    cache_timeout_seconds: float = Field(
        0.1, gt=0, description="How long a call may take; then the service goes on without."
    )
    cache_pool_size: int = Field(20, gt=0, description="How many connections are open at most.")

    @field_validator("redis_url")
    @classmethod
    def _is_a_redis_url(cls, value: SecretStr) -> SecretStr:
        try:
            redis.ConnectionPool.from_url(value.get_secret_value())
        except ValueError:
            raise ValueError("is no URL of Redis; write it like redis://127.0.0.1:6379/0") from None
        return value


class _RedisStore:
    """What the two kinds of store share."""

    def __init__(self, settings: Any) -> None:
        self._timeout_seconds: float = settings.cache_timeout_seconds
        self._prefix = f"{settings.cache_namespace or settings.service_name}:rate:"
        self._circuit = CircuitBreaker(
            "redis",
            failure_threshold=1,
            recovery_seconds=_RECOVERY_SECONDS,
            is_failure=lambda error: isinstance(error, _ERRORS),
        )
        self._allowances = Allowances()

    @property
    def away(self) -> bool:
        return self._circuit.state != "closed"

    def _details(self) -> Mapping[str, Any]:
        return {"backend": "redis"} | self._circuit.details()

    def _key(self, client: str, limit: Limit) -> str:
        return f"{self._prefix}{limit.name}:{client}"


class RedisStore(_RedisStore):
    """Redis from threads."""

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self._client = redis.Redis(connection_pool=redis.BlockingConnectionPool.from_url(**_options(settings, Retry)))
        self._script = self._client.register_script(SCRIPT)

    def get(self, key: str) -> bytes | None:
        return self._call(lambda: cast("bytes | None", self._client.get(key)), None)

    def set(self, key: str, value: bytes, ttl_seconds: float) -> bool:
        return self._call(lambda: bool(self._client.set(key, value, px=_milliseconds(ttl_seconds))), False)

    def delete(self, key: str) -> bool:
        return self._call(lambda: bool(self._client.delete(key)), False)

    def take(self, client: str, limit: Limit) -> Verdict | None:
        key = self._key(client, limit)
        verdict = self._allowances.take(key)
        if verdict is not None:
            return verdict
        answer = self._call(lambda: self._script([key], arguments(limit)), None)
        return None if answer is None else self._allowances.put(key, answer)

    def ping(self) -> Mapping[str, Any]:
        self._call(lambda: self._client.ping(), False)
        return self._details()

    def close(self) -> None:
        self._client.connection_pool.disconnect()

    def _call(self, command: Callable[[], T], otherwise: T) -> T:
        try:
            with self._circuit.guard():
                return command()
        except _AWAY:
            return otherwise


class AsyncRedisStore(_RedisStore):
    """Redis from an event loop."""

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self._client = AsyncRedis(connection_pool=AsyncPool.from_url(**_options(settings, AsyncRetry)))
        self._script = self._client.register_script(SCRIPT)

    async def get(self, key: str) -> bytes | None:
        return await self._call(lambda: cast("Awaitable[bytes | None]", self._client.get(key)), None)

    async def set(self, key: str, value: bytes, ttl_seconds: float) -> bool:
        return bool(await self._call(lambda: self._client.set(key, value, px=_milliseconds(ttl_seconds)), False))

    async def delete(self, key: str) -> bool:
        return bool(await self._call(lambda: self._client.delete(key), 0))

    def take_at_once(self, client: str, limit: Limit) -> Verdict | None:
        return self._allowances.take(self._key(client, limit))

    async def take(self, client: str, limit: Limit) -> Verdict | None:
        key = self._key(client, limit)
        answer = await self._call(lambda: self._script([key], arguments(limit)), None)
        return None if answer is None else self._allowances.put(key, answer)

    async def ping(self) -> Mapping[str, Any]:
        await self._call(lambda: self._client.ping(), False)
        return self._details()

    async def close(self) -> None:
        await self._client.connection_pool.disconnect()

    async def _call(self, command: Callable[[], Awaitable[T]], otherwise: T) -> T:
        try:
            with self._circuit.guard():
                async with asyncio.timeout(self._timeout_seconds):
                    return await command()
        except _AWAY:
            return otherwise


def _options(settings: Any, retry: type[Any]) -> dict[str, Any]:
    """Return the options of a pool of connections that gives up in time, and tries nothing twice."""
    timeout_seconds = settings.cache_timeout_seconds
    return {
        "url": settings.redis_url.get_secret_value(),
        "max_connections": settings.cache_pool_size,
        "timeout": timeout_seconds,
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        "retry": retry(NoBackoff(), 0),
        "client_name": settings.service_name,
    }


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))


def open_store(settings: Any) -> RedisStore:
    return RedisStore(settings)


def open_async_store(settings: Any) -> AsyncRedisStore:
    return AsyncRedisStore(settings)
