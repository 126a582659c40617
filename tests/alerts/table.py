"""Injects every fault and writes the table of alerts in docs/reliability.md: `make alerts`."""

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dashboards
from measured import replaced
from questions import ROOT, read_yaml
from rendering import Render, Renderer, export

from alerts.faults import FAULTS, OF_SQLITE, Fault
from alerts.monitor import Firing, shorten
from alerts.world import World, running

DOCUMENT = ROOT / "docs" / "reliability.md"
ANSWERS = {
    "framework": "fastapi",
    "database": "postgresql",
    "features": ["rate-limit", "backup", "cache", "http-client"],
    "cache": "redis",
    "monitoring": ["prometheus"],
}
STACKS = [(ANSWERS, FAULTS), (ANSWERS | {"database": "sqlite", "cache": "memory"}, OF_SQLITE)]
# Needed in addition to the databases and caches.
PROGRAMS = ("prometheus", "prometheus-alertmanager", "prometheus-blackbox-exporter")
HEAD = "| fault | expected alerts | consequences | not sent | resolved after (s) |\n|---|---|---|---|---:|\n"
# More clients than the pool has connections.
CLIENTS = 8
PAUSE_SECONDS = 0.5
# Alerts about delays, which other work of a busy machine also causes.
_DELAYS = {"DependencyFlapping", "EventLoopBlocked", "LatencyBudgetBurn", "RouteSlow"}
# For alerts to fire, and to be resolved: several times as long as they take.
PATIENCE_SECONDS = 300
# How long a fault continues after its alerts have fired, so that unexpected alerts can fire too.
MORE_SECONDS = 6


def noise() -> set[str]:
    """Return the alerts that only count where a fault names them. On a quiet machine there are none."""
    return _DELAYS if os.getloadavg()[0] > (os.cpu_count() or 1) else set()


@dataclass
class Outcome:
    """The alerts of one fault."""

    fault: Fault
    fired: Firing
    inhibited: set[str]
    resolved_seconds: float | None
    answered: set[str] = field(repr=False)  # the queries that returned data
    noise: set[str] = field(default_factory=noise)

    def line(self) -> str:
        """Return a row of the table."""
        said: dict[bool, list[str]] = {True: [], False: []}
        for name, seconds in sorted(self.fired.items(), key=lambda item: item[1]):
            alert, severity = name.split()
            if alert in self.noise - self.fault.alerts - self.fault.also:
                continue
            said[alert in self.fault.alerts].append(f"{alert} ({severity}, {seconds:.0f} s)")
        resolved = "-" if not self.fault.alerts else f"{self.resolved_seconds or float('inf'):.0f}"
        cells = [", ".join(alerts) or "none" for alerts in (said[True], said[False], self._not_sent())]
        return "| " + " | ".join((self.fault.name, *cells, resolved)) + " |\n"

    def _not_sent(self) -> list[str]:
        """Return the alerts that were held back, with the severity if another one of the same alert was sent."""
        sent = {name.split()[0] for name in self.fired.keys() - self.inhibited}
        held = (name.split() for name in self.inhibited & self.fired.keys())
        return sorted({f"{alert} ({severity})" if alert in sent else alert for alert, severity in held})

    def missing(self) -> list[str]:
        """Return the alerts of the fault that did not fire, or were not resolved."""
        found = [f"{name} did not fire" for name in sorted(self.fault.alerts - self._names)]
        if self.resolved_seconds is None:
            found.append(f"not resolved within {PATIENCE_SECONDS} s")
        return [f"{self.fault.name}: {text}" for text in found]

    def unexpected(self) -> list[str]:
        """Return the alerts that fired although the fault does not explain them."""
        names = self._names - self.fault.alerts - self.fault.also - self.noise
        return [f"{self.fault.name}: {name} fired" for name in sorted(names)]

    @property
    def _names(self) -> set[str]:
        return {name.split()[0] for name in self.fired}


def inject(world: World, fault: Fault, queries: Iterable[str], more_seconds: float) -> Outcome:
    """Inject a fault under load, until its alerts have fired, and then until they are resolved."""
    monitor = world.monitor
    notes = world.calling("/api/v1/notes", CLIENTS, PAUSE_SECONDS)
    with notes, world.calling("/planted/work", 1, PAUSE_SECONDS):
        time.sleep(2)
        began = time.time()
        fault.begin(world)
        while time.time() < began + PATIENCE_SECONDS:
            if fault.alerts <= {name.split()[0] for name in monitor.firing(began)}:
                break
            time.sleep(0.5)
        time.sleep(more_seconds)
        answered = {query for query in queries if monitor.query(shorten(query))}
        inhibited = monitor.inhibited() if fault.alerts != {"MonitoringDown"} else set()
        fault.end(world)
        ended = time.time()
        while (active := monitor.active() & fault.alerts) and time.time() < ended + PATIENCE_SECONDS:
            time.sleep(0.5)
        resolved = None if active else time.time() - ended
    # On a busy machine, alerts about delays may have fired before the fault. They are not its consequences.
    fired = {name: at for name, at in monitor.firing(began).items() if at > 0 or name.split()[0] in fault.alerts}
    return Outcome(fault, fired, inhibited, resolved, answered)


def rule_queries(monitoring: Path) -> list[str]:
    """Return the expressions of all rules."""
    paths = (monitoring / name for name in ("chassis/alerts.yml", "chassis/recording.yml", "rules/slo.yml"))
    groups: list[dict[str, Any]] = [group for path in paths for group in read_yaml(path)["groups"]]
    return [rule["expr"] for group in groups for rule in group["rules"]]


def panel_queries(job: str) -> list[str]:
    """Return the queries of all panels, as Grafana sends them for one service."""
    return [query.replace("$job", job).replace("$__rate_interval", "5m") for query in dashboards.queries()]


def await_quiet(world: World, fault: Fault) -> None:
    """Wait until Prometheus has scraped the service, and no alert is pending, least of all one of the next fault."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if world.monitor.query("health_ready == 1") and not world.monitor.active() - (noise() - fault.alerts):
            return
        time.sleep(0.5)
    raise AssertionError(f"still active: {world.monitor.active()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faults", nargs="*", help="names of faults; only all of them write the page")
    names = parser.parse_args().faults
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        raise SystemExit(f"Not found on PATH: {', '.join(missing)}. Install them, then run this again.")
    rows, broken = "", []
    answered: set[str] = set()
    with tempfile.TemporaryDirectory() as folder:
        renderer = Renderer(export(Path(folder) / "template"))
        for number, (answers, faults) in enumerate(STACKS):
            chosen = [fault for fault in faults if not names or fault.name in names]
            if not chosen:
                continue
            render = renderer(Path(folder) / str(number) / "service", answers)
            queries = rule_queries(render.path / "monitoring") + panel_queries(render.answers["service_name"])
            for outcome in outcomes(render, chosen, queries, MORE_SECONDS):
                print(outcome.line(), end="", flush=True)
                rows += outcome.line()
                broken += outcome.missing() + outcome.unexpected()
                answered |= outcome.answered
    if not names:
        broken += [f"no data: {query}" for query in queries if query not in answered]
        DOCUMENT.write_text(replaced(DOCUMENT.read_text(encoding="utf-8"), "alerts", HEAD + rows), encoding="utf-8")
    raise SystemExit("\n".join(broken) if broken else 0)


def outcomes(
    render: Render, faults: list[Fault], queries: Iterable[str] = (), more_seconds: float = 0
) -> Iterator[Outcome]:
    """Inject faults into a rendered service, one after another."""
    with running(render, render.path.parent) as world:
        for fault in faults:
            await_quiet(world, fault)
            yield inject(world, fault, queries, more_seconds)


if __name__ == "__main__":
    main()
