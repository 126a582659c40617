"""The store of idempotency keys in memory: bounded in size and time."""

from __future__ import annotations

import asyncio

from ..package import module

MemoryStore = module("chassis.idempotency.memory").MemoryStore


def test_responses_expire_and_the_oldest_are_dropped() -> None:
    """A request that is running is never dropped."""
    now = 0.0
    store = MemoryStore(1000, lambda: now)

    async def use() -> None:
        nonlocal now
        assert await store.begin("running", b"r", 60) is None
        assert await store.begin("a", b"-", 60) is None
        assert await store.finish("a", b"1" * 100, 10)
        assert await store.begin("a", b"-", 60) == b"1" * 100
        now = 9.0
        await store.finish("b", b"2" * 100, 10)
        await store.finish("c", b"3" * 100, 10)  # too large for all three
        assert await store.begin("b", b"-", 60) == b"2" * 100
        assert await store.begin("a", b"-", 60) is None
        assert await store.begin("running", b"-", 60) == b"r"
        now = 19.0
        assert await store.begin("c", b"-", 60) is None

    asyncio.run(use())


def test_request_that_failed_leaves_nothing() -> None:
    store = MemoryStore(1000)

    async def use() -> None:
        assert await store.begin("a", b"-", 60) is None
        assert await store.finish("a", None, 10)
        assert await store.begin("a", b"-", 60) is None

    asyncio.run(use())
