"""Counts the clients of one limit in the memory of this process, in a bounded part of it."""

from __future__ import annotations

from .limit import Limit, Verdict


class Window:
    """Two tables: the requests of each client in the present window, and in the one before. Not for several threads."""

    def __init__(self, limit: Limit, max_clients: int, now: float) -> None:
        self._limit = limit
        self._max_clients = max_clients
        self._present: dict[str, int] = {}
        self._before: dict[str, int] = {}
        self._ends = now - now % limit.seconds + limit.seconds

    def __len__(self) -> int:
        return len(self._present)

    def take(self, client: str, now: float) -> Verdict:
        """Count one request of a client, unless it is one too many."""
        limit = self._limit
        if now >= self._ends:
            self._slide(now)
        left_seconds = self._ends - now
        sent = self._present.get(client, 0)
        before = self._before.get(client, 0)
        free = limit.count - sent - before * left_seconds / limit.seconds if before else limit.count - sent
        if free < 1:
            return Verdict(False, 0, limit.wait(sent, before, left_seconds))
        if not sent and len(self._present) >= self._max_clients:
            self._present = _busiest(self._present, self._max_clients * 9 // 10)
        self._present[client] = sent + 1
        return Verdict(True, int(free) - 1, left_seconds)

    def _slide(self, now: float) -> None:
        self._before = self._present if now < self._ends + self._limit.seconds else {}
        self._present = {}
        self._ends = now - now % self._limit.seconds + self._limit.seconds


def _busiest(clients: dict[str, int], most: int) -> dict[str, int]:
    """Forget those who sent the least: of a flood of clients, those are the flood."""
    least = 1
    while len(clients) > most:
        clients = {client: sent for client, sent in clients.items() if sent > least}
        least *= 2
    return clients
