"""Runs one fault under load, and finds the promises that the service broke."""

import time
from dataclasses import dataclass
from pathlib import Path

from chaos import load
from chaos.faults import Fault
from chaos.watch import HEALTH, LIVE, READY, UNWELL, WELL, Watch
from chaos.world import World

# Promises of a service, in seconds.
TRUTH_SECONDS = 2.0
RECOVERY_SECONDS = 5.0
REQUEST_SECONDS = 5.0
# An unavailable cache delays no request; a busy machine may.
CACHE_SECONDS = 1.0
LIVE_SECONDS = 1.0  # the default timeout of kubelet
# Tolerance for the clocks and for the pause between two probes.
_BLUR_SECONDS = 0.25
# How long the service is observed after it has recovered.
_QUIET_SECONDS = 1.5


@dataclass
class Outcome:
    """The requests and probes before, during and after a fault; times by the monotonic clock."""

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
        """Return the longest duration of this share of all requests, in seconds."""
        return sorted(request.seconds for request in self.requests)[int(len(self.requests) * share)]

    @property
    def told_seconds(self) -> float | None:
        """The seconds from the beginning of the fault until the health report showed it."""
        return self.watch.first(HEALTH, ("unhealthy", "degraded"), self.began)

    @property
    def recovery_seconds(self) -> float:
        """The seconds from the end of the fault until the last failure or unhealthy report."""
        failed = [request.until for request in self.requests if request.status >= 300 or not request.status]
        unwell = [probe.until for path in (READY, HEALTH) for probe in self.watch.of(path) if probe.said not in WELL]
        return max(0.0, max([*failed, *unwell], default=0.0) - self.returned)


def run(world: World, fault: Fault, scratch: Path) -> Outcome:
    """Apply a fault to a service under load, and wait until the service has recovered."""
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
    """Return every broken promise, with a figure."""
    return [*_of_requests(outcome), *lost(outcome.requests, outcome.kept), *_of_health(outcome)]


def _of_requests(outcome: Outcome) -> list[str]:
    requests, found = outcome.requests, []
    other = [request for request in requests if request.status not in (200, 201, 503)]
    if other:
        found.append(f"neither 2xx nor 503: {sorted({(request.status, request.error) for request in other})}")
    silent = [request for request in requests if request.status == 503 and not request.retry_after]
    if silent:
        found.append(f"{len(silent)} responses with 503 lack Retry-After")
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
    """Return the acknowledged writes that are missing or changed. Unacknowledged writes may exist."""
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
    """Return the states that the health paths must report during the fault."""
    if outcome.fault.effect == "degraded":
        return {HEALTH: ("degraded",)}
    return UNWELL if outcome.fault.effect == "unready" else {}
