"""The questions that every place to keep things answers; `memory.py` is one set of answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from ..rate_limit.limit import Limit, Verdict


class Store(Protocol):
    """Keeps bytes, and counts requests. It never raises because it is away: it says that it knows nothing."""

    @property
    def away(self) -> bool:
        """Tell whether the store does not answer of late."""

    def get(self, key: str) -> bytes | None: ...

    def set(self, key: str, value: bytes, ttl_seconds: float) -> bool:
        """Keep a value; return whether it is kept."""

    def delete(self, key: str) -> bool:
        """Forget a value; return whether it was there."""

    def take(self, client: str, limit: Limit) -> Verdict | None:
        """Take one request off what a client may still send; None when nobody can tell."""

    def ping(self) -> Mapping[str, Any]:
        """Try the store, and return what the health report shows; `away` tells how that went."""

    def close(self) -> None: ...


class AsyncStore(Protocol):
    """The same questions on an event loop."""

    @property
    def away(self) -> bool: ...

    async def get(self, key: str) -> bytes | None: ...

    async def set(self, key: str, value: bytes, ttl_seconds: float) -> bool: ...

    async def delete(self, key: str) -> bool: ...

    def take_at_once(self, client: str, limit: Limit) -> Verdict | None:
        """Take one request off without waiting; None when that cannot be done, and `take` must be asked."""

    async def take(self, client: str, limit: Limit) -> Verdict | None: ...

    async def ping(self) -> Mapping[str, Any]: ...

    async def close(self) -> None: ...


class Backend(Protocol):
    """A module of this form makes a cache an option. It also has `Settings`."""

    def open_store(self, settings: Any) -> Store: ...

    def open_async_store(self, settings: Any) -> AsyncStore: ...
