"""Requests that Redis counts for all processes, and hands out to them in advance."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

from ..rate_limit.limit import Limit, Verdict

# One client is a hash: `w`, the number of its window; `n`, the requests in that one; `p`, those in the one before. It
# is the arithmetic of rate_limit/limit.py, by the clock of Redis, as those of the replicas differ. Of what is free it
# hands out a twentieth at once, so that a busy client costs few round trips; the last forty go one by one.
SCRIPT = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local count, size, most = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local window = math.floor(now / size)
local elapsed = now - window * size
local kept = redis.call('HMGET', KEYS[1], 'w', 'n', 'p')
local w, n, p = tonumber(kept[1]) or 0, tonumber(kept[2]) or 0, tonumber(kept[3]) or 0
if w == window - 1 then p, n = n, 0 elseif w ~= window then p, n = 0, 0 end
local free = math.floor(count - n - p * (1 - elapsed / size))
if free < 1 then
  local wait
  if n < count then wait = size * (1 - (count - n - 1) / p) - elapsed
  else wait = size - elapsed + size * (1 - (count - 1) / n) end
  return {0, 0, math.ceil(wait)}
end
local given = math.max(1, math.min(most, math.floor(free / 20)))
redis.call('HSET', KEYS[1], 'w', window, 'n', n + given, 'p', p)
redis.call('PEXPIRE', KEYS[1], 2 * size)
return {given, free - given, size - elapsed}
"""
_MOST_AT_ONCE = 50
_MOST_CLIENTS = 10_000


class Allowances:
    """What Redis has given to this process beforehand, and whom it has refused, by client; until its window ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left: OrderedDict[str, tuple[int, int, float]] = OrderedDict()

    def take(self, key: str) -> Verdict | None:
        """Return a verdict that needs no question, else None."""
        with self._lock:
            given, free, until = self._left.get(key, (0, 0, 0.0))
            left_seconds = until - time.monotonic()
            if left_seconds <= 0:
                return None
            if given < 0:
                return Verdict(False, 0, left_seconds)
            if given == 0:
                return None
            self._left[key] = (given - 1, free, until)
        return Verdict(True, given - 1 + free, left_seconds)

    def put(self, key: str, answer: list[int]) -> Verdict:
        """Keep what Redis has answered, one taken off, and return the verdict for that one."""
        given, free, until_ms = answer
        now, seconds = time.monotonic(), until_ms / 1000
        with self._lock:
            # Two requests at once ask twice, and both get something.
            unused, _, until = self._left.pop(key, (0, 0, 0.0))
            given += unused if until > now and unused > 0 else 0
            self._left[key] = (given - 1, free, now + seconds)
            if len(self._left) > _MOST_CLIENTS:
                self._left.popitem(last=False)
        return Verdict(given > 0, max(0, given - 1) + free, seconds)


def arguments(limit: Limit) -> list[int]:
    """Return what the script is called with."""
    return [limit.count, limit.seconds * 1000, _MOST_AT_ONCE]
