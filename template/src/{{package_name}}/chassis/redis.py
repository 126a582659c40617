"""The connection to Redis 7 or newer, or Valkey (redis.io, valkey.io), that the features of the service share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from functools import cached_property
from typing import Any, TypeVar

import redis
from pydantic import Field, SecretStr, field_validator
from redis.asyncio import ConnectionPool as AsyncPool
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from .app import Chassis
from .circuit_breaker import CircuitBreaker, CircuitOpenError
from .health.checks import Check, Outcome
from .instrumentation import Operation, OperationObserver, observed
from .settings import BaseChassisSettings, ServiceSettings

T = TypeVar("T")
_ERRORS = (redis.RedisError, OSError)  # a TimeoutError is an OSError
_UNAVAILABLE = (*_ERRORS, CircuitOpenError)
# The time from the first failed call to the trial call. All calls in between return their default immediately.
_RECOVERY_SECONDS = 0.5

_CLUSTER = "Redis Cluster is not supported; use a single server or a proxy"
# The error in the health report, by the cause in the log.
PROBLEMS = {
    "ASK": _CLUSTER,
    "CLUSTERDOWN": _CLUSTER,
    "CROSSSLOT": _CLUSTER,
    "DENIED": "protected mode; set a password on the server",
    "LOADING": "the server is loading its data",
    "MASTERDOWN": "a replica without a connection to its master",
    "MAXCLIENTS": "no free connection; raise maxclients on the server",
    "MISCONF": "read-only, because the server cannot save to its disk",
    "MOVED": _CLUSTER,
    "NOAUTH": "the server requires a password; add it to REDIS_URL",
    "NOPERM": "the user in REDIS_URL has no permission for a command or key; see docs/options/redis.md",
    "OOM": "out of memory; raise maxmemory, or set maxmemory-policy to allkeys-lru",
    "READONLY": "read-only, as a replica is",
    "TLS": "the TLS handshake failed; check the certificate and REDIS_URL",
    "TimeoutError": "no response within REDIS_TIMEOUT_SECONDS",
    "WRONGPASS": "the server rejects the user or password in REDIS_URL",
}
# Replies that name their cause only in their text.
_TEXTS = {
    "max number of clients": "MAXCLIENTS",
    "The user executing the script": "NOPERM",
    "without any password configured": "WRONGPASS",
    "SSL": "TLS",
}


def cause_of(error: BaseException) -> str:
    """Return the code of Redis's reply, such as `READONLY`, or the type of an error without a reply."""
    text = str(error)
    for part, code in _TEXTS.items():
        if part in text:
            return code
    code = getattr(error, "status_code", None) or text.partition(" ")[0]
    return code if code in PROBLEMS else type(error).__name__


class Settings(BaseChassisSettings):
    """Redis"""

    redis_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="URL of Redis or Valkey, such as `redis://:password@host:6379/0`; `rediss://` for TLS.",
    )
    redis_timeout_seconds: float = Field(
        0.1, gt=0, description="How long a call may take; after that the service continues without Redis."
    )
    redis_pool_size: int = Field(20, gt=0, description="Maximum number of connections per process.")
    redis_namespace: str = Field("", description="First part of every key; SERVICE_NAME if it is empty.")

    @field_validator("redis_url")
    @classmethod
    def _is_a_redis_url(cls, value: SecretStr) -> SecretStr:
        try:
            pool = AsyncPool.from_url(value.get_secret_value())
            # Creating the object rejects unknown parameters; it does not connect.
            pool.connection_class(**pool.connection_kwargs)
        except ValueError:
            raise ValueError("is not a Redis URL; use the form redis://127.0.0.1:6379/0") from None
        except (TypeError, redis.RedisError):
            raise ValueError("has a parameter that the Redis client does not accept; remove it") from None
        return value


class RedisConnection:
    """A connection to Redis for the event loop and for threads, behind one circuit breaker.

    Calls never raise because Redis is unavailable, slow or rejects a command: they return a default. The first failure
    opens the circuit, so that an outage costs one timeout per half second and not one per call.
    """

    def __init__(self, settings: Settings, service_name: str, observers: Sequence[OperationObserver] = ()) -> None:
        self.namespace = settings.redis_namespace or service_name
        # The commands that the features need. A trial call of the circuit and the health check run all of them,
        # because a server that answers a ping or a read may reject a write or a script.
        self.probes: list[tuple[Any, ...]] = []
        self._timeout_seconds = settings.redis_timeout_seconds
        self._observers = observers
        self.circuit = CircuitBreaker(
            "redis",
            failure_threshold=1,
            recovery_seconds=_RECOVERY_SECONDS,
            is_failure=lambda error: isinstance(error, _ERRORS),
            cause_of=cause_of,
        )
        # No RESP 3 and no names of client and library, because an ACL may reject the commands HELLO and CLIENT.
        options: dict[str, Any] = {"max_connections": settings.redis_pool_size, "protocol": 2, "driver_info": None}
        self._options = options
        self._url = settings.redis_url.get_secret_value()
        # A semaphore and a plain pool cost 20 us less CPU per call than the client's own blocking pool.
        self._slots = asyncio.Semaphore(settings.redis_pool_size)
        self.client = self.new_client()

    def new_client(self) -> AsyncRedis:
        """Return a client with a separate pool, for example for a subscription, which occupies a connection."""
        pool = AsyncPool.from_url(
            self._url, socket_timeout=None, socket_connect_timeout=None, retry=AsyncRetry(NoBackoff(), 0),
            **self._options,
        )  # fmt: skip
        return AsyncRedis(connection_pool=pool)

    @cached_property
    def sync_client(self) -> redis.Redis:
        """The client for handlers that run in threads."""
        seconds = self._timeout_seconds
        pool = redis.BlockingConnectionPool.from_url(
            self._url, timeout=seconds, socket_timeout=seconds, socket_connect_timeout=seconds,
            retry=Retry(NoBackoff(), 0), **self._options,
        )  # fmt: skip
        return redis.Redis(connection_pool=pool)

    @property
    def problem(self) -> str | None:
        """Why Redis is unavailable, without addresses and secrets; None if the last call succeeded."""
        cause = self.circuit.cause
        problem = PROBLEMS.get(cause, "unreachable")
        # In a cluster, calls for the keys of this server succeed. The others still fail.
        return None if self.circuit.state == "closed" and problem != _CLUSTER else problem

    def _observed(self, name: str) -> AbstractContextManager[None]:
        if not self._observers:
            return nullcontext()
        attributes: dict[str, str | int] = {"db.system.name": "redis", "db.operation.name": name}
        return observed(Operation("db", name, attributes), self._observers)

    async def call(self, name: str, command: Callable[[], Awaitable[T]], default: T) -> T:
        """Return the result of a command of `client`, or `default` if Redis is unavailable.

        `name` is the name of the command, for metrics and traces.
        """
        # Waiting for a slot is not counted as a failure of Redis: in a flood of requests the process itself is slow.
        async with self._slots:
            try:
                with self.circuit.guard(), self._observed(name):
                    async with _BusyLoopTimeout(self._timeout_seconds):
                        if self.circuit.state == "half_open":
                            await self._run_probes()
                        return await command()
            except _UNAVAILABLE:
                return default

    def call_sync(self, name: str, command: Callable[[], T], default: T) -> T:
        """Return the result of a command of `sync_client`, or `default` if Redis is unavailable."""
        try:
            with self.circuit.guard(), self._observed(name):
                if self.circuit.state == "half_open":
                    execute: Callable[..., Any] = self.sync_client.execute_command
                    for probe in self.probes:
                        execute(*probe)
                return command()
        except _UNAVAILABLE:
            return default

    async def probe(self) -> bool:
        """Return whether Redis executes all commands that the service needs."""
        return await self.call("probe", self._run_probes, False)

    async def _run_probes(self) -> bool:
        execute: Callable[..., Any] = self.client.execute_command
        for probe in self.probes:
            await execute(*probe)
        return True

    def details(self) -> Mapping[str, Any]:
        """Return the details for the health report."""
        return {"backend": "redis"} | self.circuit.details()

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Log why Redis is unavailable at start, without failing the start, and close the connections at the end."""
        try:
            await self.probe()
            yield
        finally:
            await self.client.connection_pool.disconnect()
            if "sync_client" in self.__dict__:
                self.sync_client.connection_pool.disconnect()


class _BusyLoopTimeout:
    """An `asyncio.timeout` that does not expire just because the event loop was busy.

    A flood of requests or a slow handler may block the loop for longer than a call to Redis may take, while the reply
    waits in the socket. With `asyncio.timeout`, a flood would open the circuit and so switch the rate limits off. This
    timeout consists of ticks: a blocked loop costs one tick, and the loop reads its sockets before the next tick.
    """

    _TICKS = 4

    def __init__(self, seconds: float) -> None:
        self._tick_seconds = seconds / self._TICKS
        self._ticks = self._TICKS
        self._loop = asyncio.get_running_loop()
        self._timeout = asyncio.timeout(None)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()
        self._handle = self._loop.call_later(self._tick_seconds, self._tick)

    async def __aexit__(self, *error: Any) -> None:
        self._handle.cancel()
        await self._timeout.__aexit__(*error)

    def _tick(self) -> None:
        self._ticks -= 1
        if self._ticks:
            self._handle = self._loop.call_later(self._tick_seconds, self._tick)
        else:
            self._timeout.reschedule(self._loop.time())


class RedisCheck(Check):
    """Fails while Redis is unavailable. It is not critical: without Redis the service is slower, but not down."""

    def __init__(self, connection: RedisConnection) -> None:
        super().__init__("cache", connection.probe, details=connection.details)
        self._connection = connection

    def evaluate(self, value: Any) -> Outcome:
        # This is not raised as an exception, because the circuit breaker has already logged the outage.
        problem = self._connection.problem
        return Outcome("error", problem) if problem else Outcome()


def install(chassis: Chassis) -> None:
    service_name = chassis.settings_as(ServiceSettings).service_name
    connection = RedisConnection(chassis.settings_as(Settings), service_name, chassis.operation_observers)
    chassis.provide(connection)
    chassis.health.add(RedisCheck(connection))
    chassis.measurements.append(connection.circuit.measure)
    chassis.lifespans.append(("redis", connection.lifespan))
