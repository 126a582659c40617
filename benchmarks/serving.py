"""CPU time per request of a rendered service against a bare application of the same framework on the same server."""

import random
import statistics
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from cpu import cpu_ns, family
from servers import Server, migrate, running

LOAD = Path(__file__).with_name("load.py")
NOTE_PATH = "/api/v1/notes/1"
NOTE = {"title": "A row", "body": "What a request reads.", "tag": "benchmark"}


@dataclass
class Case:
    """One path of one variant; `base` names what it is compared with: the bare cases of the same base."""

    label: str
    variant: str
    path: str
    requests: int
    base: str
    samples_us: list[float] = field(default_factory=list)

    @property
    def median_us(self) -> float:
        return statistics.median(self.samples_us)

    def ratio_to(self, bare: Sequence["Case"]) -> float:
        """Return the median of the rounds' own ratios to the mean of `bare`.

        What slows the machine for a while slows both sides of a round, and what one process is unlucky with (where its
        memory lies, with whom it shares a core) the other may not be.
        """
        means = map(statistics.mean, zip(*(case.samples_us for case in bare), strict=True))
        return statistics.median(own / mean for own, mean in zip(self.samples_us, means, strict=True))


def bare(measured: Sequence[Case], base: str) -> list[Case]:
    """Return what the cases of one base are compared with."""
    return [case for case in measured if case.base == base and case.variant in ("bare", "bare again")]


def cases(framework: str, scale: float) -> list[Case]:
    """Return what is measured; how far the second of two equal cases is from the first is the noise figure."""
    hello, row = int(2000 * scale), int(500 * scale)
    # What granian takes by itself where nobody says how many threads it shall have.
    threads = [Case("hello, bare with granian's own threads", "threads", "/hello", hello, "hello")]
    layers = "the same in the example's layers"
    return [
        Case("hello, bare", "bare", "/hello", hello, "hello"),
        Case("hello, bare once more", "bare again", "/hello", hello, "hello"),
        *(threads if framework == "flask" else []),
        Case("hello, bare with the server's own access log", "logging", "/hello", hello, "hello"),
        Case("**hello, rendered service**", "rendered", "/hello", hello, "hello"),
        Case("one row, bare", "bare", "/rows/1", row, "one row"),
        Case("one row, bare once more", "bare again", "/rows/1", row, "one row"),
        Case("**one row, rendered service**", "rendered", "/rows/1", row, "one row"),
        Case(f"{layers}, bare", "bare", NOTE_PATH, row, layers),
        Case(f"{layers}, bare once more", "bare again", NOTE_PATH, row, layers),
        Case(f"{layers}, rendered service", "rendered", NOTE_PATH, row, layers),
    ]


def measure(framework: str, service: Path, rounds: int, scale: float) -> list[Case]:
    """Measure every case once a round, in a new order each round, all servers running side by side."""
    measured = cases(framework, scale)
    with ExitStack() as stack:
        servers = {
            variant: stack.enter_context(running(framework, variant.partition(" ")[0], service))
            for variant in sorted({case.variant for case in measured})
        }
        _prepare(servers, measured)
        for _ in range(rounds):
            for case in random.sample(measured, len(measured)):
                case.samples_us.append(_sample(servers[case.variant], case))
    return measured


def prepare_database(service: Path) -> None:
    """Make the database that all variants share."""
    migrate(service)


def _prepare(servers: dict[str, Server], measured: Sequence[Case]) -> None:
    """Write the row, warm every case, and see that all variants answer the same."""
    servers["rendered"].post("/api/v1/notes", NOTE)
    answers: dict[str, set[bytes]] = {}
    for case in measured:
        _sample(servers[case.variant], case)
        answers.setdefault(case.base, set()).add(servers[case.variant].get(case.path))
    different = [base for base, bodies in answers.items() if len(bodies) > 1]
    if different:
        raise RuntimeError(f"the variants do not answer the same: {different}")


def _sample(server: Server, case: Case) -> float:
    """Return the microseconds of CPU time that one request costs the server."""
    pids = family(server.pid)
    before = cpu_ns(pids)
    command = [sys.executable, str(LOAD), str(server.port), case.path, str(case.requests)]
    subprocess.run(command, check=True)
    return (cpu_ns(pids) - before) / case.requests / 1000
