"""CPU time per request of a rendered service, compared with bare applications of the same framework in the same run."""

import random
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from cpu import cpu_ns, family
from servers import Server, running_all, sink

LOAD = Path(__file__).with_name("load.py")
# How many times a full run starts each server.
STARTS = 12
NOTE_PATH = "/api/v1/notes/1"
NOTE = {"title": "A row", "body": "The text that a request reads.", "tag": "benchmark"}
# The features of the rendered services that are compared with bare applications.
FEATURES = ["rate-limit", "backup", "deploy-check", "http-client", "cache", "data-files"]
# The variants that a framework's other variants are compared with, and the heading of that column.
REFERENCES = {
    "fastapi": {"bare": "of bare on uvicorn"},
    "flask": {"bare": "of bare on gunicorn", "bridge": "of bare behind the bridge"},
}
# The other variants, measured on `/hello` only.
EXTRAS = {
    "fastapi": {
        "logging": "bare with the server's own access log",
        "limits": "bare with the limits on heads and connections",
        "instrumentator": "bare with prometheus-fastapi-instrumentator",
        "integrations": "bare with the integrations of Sentry, traces at 10 %",
        "instrumentation": "bare with OpenTelemetry's instrumentation, 10 % sampled",
    },
    "flask": {},
}
# Rendered services with monitoring. The first three are measured on `/hello` only.
MONITORED = {
    "prometheus": "rendered service with metrics",
    "sentry": "rendered service with Sentry, traces at 10 %",
    "opentelemetry": "rendered service with OpenTelemetry, 10 % sampled",
    "monitored": "rendered service with all three",
}


@dataclass(frozen=True)
class Effort:
    """How much to measure. A quick run only shows that the benchmark works. Its figures are meaningless."""

    rounds: int
    quick: bool = False

    def requests(self, count: int) -> int:
        """Return the number of requests to send: `count`, or a twentieth of it in a quick run."""
        return count // 20 if self.quick else count


@dataclass
class Case:
    """One path of one variant; cases with the same path are compared with each other."""

    request: str
    variant: str
    path: str
    requests: int
    # One header per line; the requests use them in turn.
    headers: Path | None = None
    # JSON to send with POST. If it is empty, the requests are GET.
    body: str = ""
    samples_us: list[float] = field(default_factory=list)

    @property
    def median_us(self) -> float:
        return statistics.median(self.samples_us)

    def ratio_to(self, references: Sequence["Case"]) -> float:
        """Return the median of the rounds' own ratios to the mean of `references`.

        Other work on the machine slows both sides of a round. Chance effects on one process, such as its place in
        memory, are averaged over the references.
        """
        means = map(statistics.mean, zip(*(case.samples_us for case in references), strict=True))
        return statistics.median(own / mean for own, mean in zip(self.samples_us, means, strict=True))


def references(measured: Sequence[Case], path: str, variant: str) -> list[Case]:
    """Return the processes that a path is compared with: the reference variant, and its second process if any."""
    return [case for case in measured if case.path == path and case.variant in (variant, f"{variant} again")]


def cases(framework: str, monitored: Iterable[str], effort: Effort) -> list[Case]:
    """Return the cases to measure. The distance between `bare` and `bare again` is the noise of the run."""
    # A measurement takes about a second, because the service sends at most five traces per second to Sentry. In a
    # shorter measurement, these would be a larger part of the CPU time.
    hello, row = effort.requests(6000), effort.requests(1000)
    bare = ["bare", "bare again", *list(REFERENCES[framework])[1:]]
    return [
        *(Case("hello", variant, "/hello", hello) for variant in [*bare, *EXTRAS[framework], "rendered", *monitored]),
        *(Case("one row", variant, "/rows/1", row) for variant in [*bare, "rendered", "monitored"]),
        *(Case("one row in the example's layers", variant, NOTE_PATH, row) for variant in [*bare, "rendered"]),
    ]


def measure(framework: str, service: Path, monitored: Mapping[str, Path], effort: Effort) -> list[Case]:
    """Measure every case once per round, in a new order each round, with all servers running side by side.

    The services with monitoring use the database of the other one. All servers are started `STARTS` times,
    because the CPU time of a process differs by up to a tenth from one start to the next, for example with its layout
    in memory.
    """
    measured = cases(framework, monitored, effort)
    apps = {
        variant: ("rendered" if variant in monitored else variant.partition(" ")[0], monitored.get(variant, service))
        for variant in sorted({case.variant for case in measured})
    }
    starts = 1 if effort.quick else STARTS
    for start in range(starts):
        with ExitStack() as stack:
            variables = stack.enter_context(sink()) | {"DATABASE_URL": f"sqlite:///{service}/data/service.db"}
            servers = stack.enter_context(running_all(framework, apps, variables, shared=effort.quick))
            if start == 0:
                servers["rendered"].post("/api/v1/notes", NOTE)
            _compare(servers, measured)
            measure_in_turns(servers, measured, Effort(effort.rounds // starts, effort.quick))
    return measured


def measure_in_turns(
    servers: Mapping[str, Server],
    measured: Sequence[Case],
    effort: Effort,
    settle: Callable[[], None] = lambda: None,
) -> None:
    """Warm up every case, except in a quick run, then measure each once per round, in a new random order.

    `settle` waits until a server has finished the work that follows its responses. This work counts too.
    """
    for case in measured if not effort.quick else ():
        _sample(servers[case.variant], replace(case, requests=case.requests // 4), settle)
    for _ in range(effort.rounds):
        for case in random.sample(measured, len(measured)):
            case.samples_us.append(_sample(servers[case.variant], case, settle))


def _compare(servers: Mapping[str, Server], measured: Sequence[Case]) -> None:
    """Check that all variants respond alike."""
    bodies: dict[str, set[bytes]] = {}
    for case in measured:
        bodies.setdefault(case.path, set()).add(servers[case.variant].get(case.path))
    different = [path for path, found in bodies.items() if len(found) > 1]
    if different:
        raise RuntimeError(f"the variants respond differently to {different}")


def _sample(server: Server, case: Case, settle: Callable[[], None]) -> float:
    """Return the CPU time in microseconds that one request costs the server."""
    pids = family(server.pid)
    before = cpu_ns(pids)
    headers = ["--headers", str(case.headers)] if case.headers else []
    arguments = [str(server.port), case.path, str(case.requests), "--body", case.body, *headers]
    subprocess.run([sys.executable, str(LOAD), *arguments], check=True)
    settle()
    return (cpu_ns(pids) - before) / case.requests / 1000
