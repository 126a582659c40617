"""The store of idempotency keys in Redis: shared by all processes, and required for a request with a key."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .conftest import Start
from .redis import RedisServer, redis_server
from .test_errors import assert_is_problem
from .test_idempotency import KEY, Counted


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


def test_processes_share_their_responses_until_they_expire(start: Start, server: RedisServer) -> None:
    """A request with a key is rejected without Redis, because it could run twice. Others are served."""
    counted = Counted()
    one, other = (start({"counted": counted}, redis_url=server.url, redis_timeout_seconds=10) for _ in range(2))
    assert one.post("/api/body/counted", headers=KEY).json() == {"runs": 1}
    again = other.post("/api/body/counted", headers=KEY)
    assert (again.json(), again.headers["idempotency-replayed"]) == ({"runs": 1}, "true")
    (key,) = (key for key in server.admin("KEYS", "*:idempotency:*") if not key.endswith(b"probe"))
    assert 86_000 < server.admin("TTL", key) <= 86_400
    server.kill()
    assert_is_problem(one.post("/api/body/counted", headers=KEY), 503, "UNAVAILABLE")
    assert one.post("/api/body/counted").json() == {"runs": 2}
