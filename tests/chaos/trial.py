"""One fault under load: what came of it, and which promises it broke."""

import time
from dataclasses import dataclass
from pathlib import Path

from chaos import load
from chaos.faults import Fault
from chaos.watch import HEALTH, LIVE, READY, UNWELL, WELL, Watch
from chaos.world import World

# What a service promises, in seconds.
TRUTH_SECONDS = 2.0
RECOVERY_SECONDS = 5.0
REQUEST_SECONDS = 5.0
# Nobody waits for a cache that is gone; a busy machine takes its time.
CACHE_SECONDS = 1.0
LIVE_SECONDS = 1.0  # as long as kubelet waits unless it is told otherwise
# What the clocks and the pauses between two probes may add.
_BLUR_SECONDS = 0.25
# How long it is watched after it seems well again.
_QUIET_SECONDS = 1.5


@dataclass
class Outcome:
    """What was answered while a fault began, lasted and was over; times by the monotonic clock."""

    fault: Fault
    began: float
    returned: float
    requests: list[load.Request]
    watch: Watch
    kept: dict[str, str]

    def count(self, *statuses: int) -> int:
        return sum(request.status in statuses for request in self.requests)

    @property
    def longest_seconds(self) -> float:
        return max(request.seconds for request in self.requests)

    def percentile(self, share: float) -> float:
        """How many seconds this share of all requests took at most."""
        return sorted(request.seconds for request in self.requests)[int(len(self.requests) * share)]

    @property
    def told_seconds(self) -> float | None:
        """How long after the fault's beginning the health report said so."""
        return self.watch.first(HEALTH, ("unhealthy", "degraded"), self.began)

    @property
    def recovery_seconds(self) -> float:
        """How long after the fault's end something still failed, or said so."""
        failed = [request.until for request in self.requests if request.status >= 300 or not request.status]
        unwell = [probe.until for path in (READY, HEALTH) for probe in self.watch.of(path) if probe.said not in WELL]
        return max(0.0, max([*failed, *unwell], default=0.0) - self.returned)


def run(world: World, fault: Fault, scratch: Path) -> Outcome:
    """Have a fault happen to a service under load, and wait until it is over and done with."""
    answers = scratch / "answers.jsonl"
    watch = Watch(world.live.url)
    with watch.running(), load.load(world.live.url, answers):
        time.sleep(_QUIET_SECONDS)
        began = time.monotonic()
        fault.begin(world.targets[fault.of])
        time.sleep(fault.seconds)
        fault.end(world.targets[fault.of])
        returned = time.monotonic()
        while not watch.well() and time.monotonic() < returned + 2 * RECOVERY_SECONDS:
            time.sleep(0.1)
        time.sleep(_QUIET_SECONDS)
    return Outcome(fault, began, returned, load.read(answers), watch, world.notes())


def broken(outcome: Outcome) -> list[str]:
    """Every promise that was not kept, with a figure."""
    return [*_of_requests(outcome), *lost(outcome.requests, outcome.kept), *_of_health(outcome)]


def _of_requests(outcome: Outcome) -> list[str]:
    requests, found = outcome.requests, []
    other = [request for request in requests if request.status not in (200, 201, 503)]
    if other:
        found.append(f"neither 2xx nor 503: {sorted({(request.status, request.error) for request in other})}")
    dumb = [request for request in requests if request.status == 503 and not request.retry_after]
    if dumb:
        found.append(f"{len(dumb)} of 503 without Retry-After")
    if outcome.longest_seconds > (CACHE_SECONDS if outcome.fault.of == "cache" else REQUEST_SECONDS):
        found.append(f"a request took {outcome.longest_seconds:.1f} s")
    if outcome.fault.effect != "some" and (outcome.fault.effect == "unready") != bool(outcome.count(503)):
        found.append(f"{outcome.count(503)} of 503")
    if outcome.recovery_seconds > RECOVERY_SECONDS:
        found.append(f"well again only after {outcome.recovery_seconds:.1f} s")
    if not outcome.count(201):
        found.append("nothing was written at all")
    return found


def lost(requests: list[load.Request], kept: dict[str, str]) -> list[str]:
    """What was acknowledged is there, and as it was sent; what was not may be there."""
    titles = [request.title for request in requests if request.written and request.status == 201]
    gone = [title for title in titles if kept.get(title) != title]
    found = [f"{len(gone)} acknowledged writes are not in the database"] if gone else []
    wrong = [request.wrong for request in requests if request.wrong]
    return found + ([f"{len(wrong)} reads of something else: {sorted(set(wrong))}"] if wrong else [])


def _of_health(outcome: Outcome) -> list[str]:
    watch, found = outcome.watch, []
    dead = [probe for probe in watch.of(LIVE) if probe.status != 200]
    if dead:
        found.append(f"{len(dead)} times not alive: {sorted({probe.status for probe in dead})}")
    slowest = max(probe.seconds for probe in watch.of(LIVE))
    if slowest > LIVE_SECONDS + _BLUR_SECONDS:
        found.append(f"alive only after {slowest:.1f} s")
    for path, said in _truth(outcome).items():
        seconds = watch.first(path, said, outcome.began)
        if seconds is None or seconds > TRUTH_SECONDS + _BLUR_SECONDS:
            found.append(f"{path} said it after {seconds} s")
    if outcome.fault.effect == "degraded" and watch.first(READY, UNWELL[READY], outcome.began) is not None:
        found.append("not ready although there is a database")
    return found


def _truth(outcome: Outcome) -> dict[str, tuple[str, ...]]:
    """What the health paths must say of a fault while it lasts."""
    if outcome.fault.effect == "degraded":
        return {HEALTH: ("degraded",)}
    return UNWELL if outcome.fault.effect == "unready" else {}
