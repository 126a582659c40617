"""What tests/test_chaos.py judges by: each broken promise is seen, and the page has a row for every fault."""

from dataclasses import replace

import pytest
from chaos import load, table, trial
from chaos.faults import OF_CACHE, OF_DATABASE, Fault, faults_of
from chaos.watch import HEALTH, LIVE, READY, Probe, Watch
from questions import ROOT

# A fault that begins at 10 s of the clock and is over at 12.
BEGAN, RETURNED = 10.0, 12.0
SOUND = load.Request(at=9.0, seconds=0.1, title="a", written=True, status=201, retry_after=False)
REFUSED = replace(SOUND, at=11.0, status=503, retry_after=True, title="b")


def outcome(fault: Fault, requests: list[load.Request], probes: list[Probe]) -> trial.Outcome:
    """What came of a fault in which all promises were kept, but for what is given."""
    watch = Watch("http://localhost")
    told = {"unready": ("not ready", "unhealthy"), "degraded": ("ready", "degraded")}[fault.effect]
    refused = [REFUSED] if fault.effect == "unready" else []
    watch.heard = [
        Probe(10.0, 0.1, LIVE, 200, "alive"),
        *(Probe(10.5, 0.1, path, 0, said) for path, said in zip((READY, HEALTH), told, strict=True)),
        *(Probe(12.5, 0.1, path, 200, said) for path, said in ((READY, "ready"), (HEALTH, "healthy"))),
        *probes,
    ]
    return trial.Outcome(fault, BEGAN, RETURNED, [SOUND, *refused, *requests], watch, {"a": "a"})


KILLED, CACHE_KILLED = OF_DATABASE[1], OF_CACHE[0]
BROKEN = {
    "a 503 without Retry-After": (KILLED, [replace(REFUSED, retry_after=False)], []),
    "a 500": (KILLED, [replace(SOUND, status=500)], []),
    "no answer": (KILLED, [replace(SOUND, status=0)], []),
    "a request that hangs": (KILLED, [replace(REFUSED, seconds=5.5, at=8.0)], []),
    "a write that is lost": (KILLED, [replace(SOUND, title="c")], []),
    "a read of something else": (KILLED, [replace(SOUND, written=False, status=200, wrong="another note")], []),
    "a late recovery": (KILLED, [replace(REFUSED, at=17.0)], []),
    "health that stays unwell": (KILLED, [], [Probe(18.0, 0.1, HEALTH, 503, "unhealthy")]),
    "a service that is not alive": (KILLED, [], [Probe(11.0, 0.1, LIVE, 503, "")]),
    "a service that is alive too late": (KILLED, [], [Probe(11.0, 1.5, LIVE, 200, "alive")]),
    "a 503 for want of a cache": (CACHE_KILLED, [REFUSED], []),
    "a request that waits for a cache": (CACHE_KILLED, [replace(SOUND, seconds=1.5)], []),
    "not ready for want of a cache": (CACHE_KILLED, [], [Probe(11.0, 0.1, READY, 503, "not ready")]),
}


@pytest.mark.parametrize("fault", [KILLED, CACHE_KILLED], ids=lambda fault: fault.name)
def test_a_kept_promise_is_not_called_broken(fault: Fault) -> None:
    """Neither with a database that is gone, nor with a cache."""
    assert not trial.broken(outcome(fault, [], []))


@pytest.mark.parametrize(("fault", "requests", "probes"), BROKEN.values(), ids=BROKEN)
def test_a_broken_promise_is_seen(fault: Fault, requests: list[load.Request], probes: list[Probe]) -> None:
    """Each in one figure."""
    assert len(trial.broken(outcome(fault, requests, probes))) == 1


@pytest.mark.parametrize("path", [READY, HEALTH])
def test_health_that_never_tells_is_seen(path: str) -> None:
    """Readiness as well as the report."""
    found = outcome(KILLED, [], [])
    found.watch.heard = [probe for probe in found.watch.heard if probe.path != path or probe.status == 200]
    assert trial.broken(found) == [f"{path} said it after None s"]


def test_a_fault_that_nobody_felt_is_seen() -> None:
    """A row of successes says nothing when the fault did not reach the service."""
    found = outcome(KILLED, [], [])
    found.requests = [SOUND]
    assert trial.broken(found) == ["0 of 503"]


def test_the_page_has_a_row_for_every_fault() -> None:
    """And one for what every stack holds after an hour of them; `make chaos` writes it."""
    lines = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8").splitlines()
    rows = [tuple(line.strip("| ").split(" | ")[:2]) for line in lines if line.startswith("| ")]
    wanted = [(stack, fault.name) for stack in table.STACKS for fault in faults_of(stack)]
    assert [row for row in rows if row in set(wanted)] == wanted
    assert {(stack, str(table.MINUTES)) for stack in table.STACKS} <= set(rows)
