"""A limit, and the arithmetic of its sliding window."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
_TEXT = re.compile(r"(\d{1,9})/(?:(\d{1,4}) )?(second|minute|hour|day)s?")


class Verdict(NamedTuple):
    """What became of one request: whether it may go on, how many more may, and when to look again, in seconds."""

    allowed: bool
    remaining: int
    reset_seconds: float


@dataclass(frozen=True, slots=True)
class Limit:
    """So many requests of one client in so many seconds.

    A client is two numbers: the requests in the present window, and those in the window before. Of the latter as much
    counts as the window that slides still covers. That takes no memory for each request; the error is that the earlier
    requests are taken to be spread evenly over their window.
    """

    name: str
    count: int
    seconds: int
    # The value of `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-11).
    policy: str

    @classmethod
    def parse(cls, name: str, text: str) -> Limit:
        """Return the limit that is written like `100/minute` or `500/15 minutes`.

        Raises:
            ValueError: it is written differently.
        """
        match = _TEXT.fullmatch(text.strip())
        if match is None or int(match[1]) < 1 or (match[2] is not None and int(match[2]) < 1):
            raise ValueError(f"{text!r} is no limit; write it like 100/minute or 500/15 minutes")
        count, seconds = int(match[1]), int(match[2] or 1) * _UNITS[match[3]]
        return cls(name, count, seconds, f'"{name}";q={count};w={seconds}')

    def wait(self, present: int, before: int, left_seconds: float) -> float:
        """Return after how many seconds a client that may send none may send one; the window ends in `left_seconds`."""
        if present < self.count:
            return left_seconds - self.seconds * (self.count - present - 1) / before
        return left_seconds + self.seconds * (1 - (self.count - 1) / present)
