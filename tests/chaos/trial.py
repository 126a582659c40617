"""Runs one fault under load, and finds the promises that the service broke."""

import time
from dataclasses import dataclass, field
from pathlib import Path

from chaos import load
from chaos.faults import Fault
from chaos.services import Inbox, token
from chaos.watch import API, HEALTH, LIVE, READY, UNWELL, WELL, Watch
from chaos.world import World

# Promises of a service, in seconds.
REQUEST_SECONDS = 5.0
# Nothing but the database delays a request; a busy machine may.
DEGRADED_SECONDS = 1.0
# A message that arrives later than this was delayed by the fault.
MESSAGE_SECONDS = 2.0
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
    inboxes: list[Inbox]
    kept: dict[str, str] = field(default_factory=dict)

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
        written = {request.title: request.until for request in self.requests if request.written}
        late = [
            at
            for inbox in self.inboxes
            for at, title in inbox.received
            if at > written.get(title, at) + MESSAGE_SECONDS
        ]
        again = [inbox.first(self.returned) or 0.0 for inbox in self.inboxes if inbox.lossy]
        return max(0.0, max([*failed, *unwell, *late, *again], default=0.0) - self.returned)

    @property
    def messages(self) -> list[str]:
        """The titles of the acknowledged notes about which there are messages."""
        written = [request.title for request in self.requests if request.written and request.status == 201]
        return [title for title in written if title < "2" or self.fault.messages == "websockets"]

    def missing(self, *, allowed: bool = True) -> int:
        """Return the number of messages that did not arrive, with those that a lossy inbox may miss or without."""
        count = 0
        at = {request.title: request.at for request in self.requests if request.written}
        for inbox in self.inboxes:
            arrived = {title for _, title in inbox.received}
            back = inbox.first(self.returned) or self.returned
            lossy = [] if allowed or not inbox.lossy else [t for t in self.messages if self.began - 1 < at[t] < back]
            count += len(set(self.messages) - arrived - set(lossy))
        return count

    @property
    def repeated(self) -> int:
        """The number of messages that arrived again."""
        return sum(len(inbox.received) - len({title for _, title in inbox.received}) for inbox in self.inboxes)


def run(world: World, fault: Fault, scratch: Path) -> Outcome:
    """Apply a fault to a service under load, and wait until the service has recovered."""
    answers = scratch / "answers.jsonl"
    watch = Watch(world.live.url, token("unknown") if fault.of == "keys" else "")
    target = (world.targets | world.services)[fault.of]
    with world.receiving(fault.messages) as inboxes:
        with watch.running(), load.load(world.live.url, answers, token=world.token):
            time.sleep(_QUIET_SECONDS)
            began = time.monotonic()
            fault.begin(target)
            time.sleep(fault.seconds)
            fault.end(target)
            returned = time.monotonic()
            end = returned + 2 * fault.recovery_seconds
            while not (watch.well() and all(inbox.first(returned) for inbox in inboxes)) and time.monotonic() < end:
                time.sleep(0.1)
            time.sleep(_QUIET_SECONDS)
        outcome = Outcome(fault, began, returned, load.read(answers), watch, inboxes)
        while outcome.missing(allowed=False) and time.monotonic() < end:
            time.sleep(0.1)
    outcome.kept = world.notes()
    return outcome


def broken(outcome: Outcome) -> list[str]:
    """Return every broken promise, with a figure."""
    return [
        *_of_requests(outcome),
        *lost(outcome.requests, outcome.kept),
        *_of_health(outcome),
        *_of_messages(outcome),
        *_of_unknown_tokens(outcome),
    ]


def _of_requests(outcome: Outcome) -> list[str]:
    requests, found = outcome.requests, []
    other = [request for request in requests if request.status not in (200, 201, 503)]
    if other:
        found.append(f"neither 2xx nor 503: {sorted({(request.status, request.error) for request in other})}")
    silent = [request for request in requests if request.status == 503 and not request.retry_after]
    if silent:
        found.append(f"{len(silent)} responses with 503 lack Retry-After")
    if outcome.longest_seconds > (REQUEST_SECONDS if outcome.fault.of == "database" else DEGRADED_SECONDS):
        found.append(f"a request took {outcome.longest_seconds:.1f} s")
    if outcome.fault.effect != "some" and (outcome.fault.effect == "unready") != bool(outcome.count(503)):
        found.append(f"{outcome.count(503)} of 503")
    if outcome.recovery_seconds > outcome.fault.recovery_seconds:
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
        if seconds is None or seconds > outcome.fault.report_seconds + _BLUR_SECONDS:
            found.append(f"{path} said it after {seconds} s")
    if outcome.fault.effect == "degraded" and watch.first(READY, UNWELL[READY], outcome.began) is not None:
        found.append("not ready although there is a database")
    closed = {*outcome.fault.circuits} - {name for probe in watch.of(HEALTH, outcome.began) for name in probe.open}
    if closed:
        found.append(f"the circuits of {sorted(closed)} did not open")
    return found


def _of_messages(outcome: Outcome) -> list[str]:
    found = []
    if missing := outcome.missing(allowed=False):
        found.append(f"{missing} messages did not arrive")
    if outcome.repeated:
        found.append(f"{outcome.repeated} messages arrived again")
    if outcome.fault.messages and not outcome.messages:
        found.append("there were no messages")
    return found


def _of_unknown_tokens(outcome: Outcome) -> list[str]:
    """A token of an unknown key gets 401, and 503 once the service knows that it cannot fetch newer keys."""
    probes = outcome.watch.of(API)
    statuses = [probe.status for probe in probes]
    if not probes or (set(statuses) == {401, 503} and statuses[-1] == 401):
        return []
    return [f"a token of an unknown key got {sorted(set(statuses))}, at last {statuses[-1]}"]


def _truth(outcome: Outcome) -> dict[str, tuple[str, ...]]:
    """Return the states that the health paths must report during the fault."""
    if outcome.fault.effect == "degraded":
        return {HEALTH: ("degraded",)}
    return UNWELL if outcome.fault.effect == "unready" else {}
