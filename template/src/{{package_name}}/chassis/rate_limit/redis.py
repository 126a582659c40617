"""Counts requests in Redis for all processes of the service, exactly, with one script per request."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any

from ..app import Chassis
from ..redis import RedisConnection
from . import Limit, RateLimitResult, limiter
from . import Settings as Settings

# A client is a hash: `w`, the number of the current window; `n`, the requests in it; `p`, those in the previous window.
# The arithmetic is that of `Limit`. The clock is that of Redis, because the clocks of the replicas differ.
_SCRIPT = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local count, size = tonumber(ARGV[1]), tonumber(ARGV[2])
local window = math.floor(now / size)
local elapsed = now - window * size
local stored = redis.call('HMGET', KEYS[1], 'w', 'n', 'p')
local w, n, p = tonumber(stored[1]) or 0, tonumber(stored[2]) or 0, tonumber(stored[3]) or 0
if w == window - 1 then p, n = n, 0 elseif w ~= window then p, n = 0, 0 end
local free = math.floor(count - n - p * (1 - elapsed / size))
if free < 1 then
  local wait
  if n < count then wait = size * (1 - (count - n - 1) / p) - elapsed
  else wait = size - elapsed + size * (1 - (count - 1) / n) end
  return {0, 0, math.ceil(wait)}
end
redis.call('HSET', KEYS[1], 'w', window, 'n', n + 1, 'p', p)
redis.call('PEXPIRE', KEYS[1], 2 * size)
return {1, free - 1, size - elapsed}
"""


class RedisStore:
    """One hash per client and limit."""

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        self._script = connection.client.register_script(_SCRIPT)
        self._prefix = f"{connection.namespace}:rate:"
        # A count that the probe never reaches, so that each run of the script writes.
        run = ("EVALSHA", self._script.sha, 1, f"{self._prefix}probe", 1_000_000_000, 60_000)
        connection.probes += [("SCRIPT LOAD", _SCRIPT), run]

    @property
    def unavailable(self) -> bool:
        return self._connection.problem is not None

    async def hit(self, client: str, limit: Limit) -> RateLimitResult | None:
        key, arguments = f"{self._prefix}{limit.name}:{client}", [limit.count, limit.seconds * 1000]
        reply = await self._connection.call("EVALSHA", lambda: self._run(key, arguments), None)
        return None if reply is None else RateLimitResult(reply[0] == 1, reply[1], reply[2] / 1000)

    def _run(self, key: str, arguments: list[int]) -> Awaitable[list[int] | None]:
        return self._script([key], arguments)

    def details(self) -> Mapping[str, Any]:
        return {"backend": "redis"}


def install(chassis: Chassis) -> None:
    limiter.install(chassis, RedisStore(chassis.get(RedisConnection)))
