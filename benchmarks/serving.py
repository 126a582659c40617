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
    """One path of one variant; `base` is the label of the case that it is compared with."""

    label: str
    variant: str
    path: str
    requests: int
    base: str
    samples_us: list[float] = field(default_factory=list)

    @property
    def median_us(self) -> float:
        return statistics.median(self.samples_us)

    def ratio_to(self, base: "Case") -> float:
        """Return the median of the rounds' own ratios: what slows the machine for a while slows both of a round."""
        return statistics.median(own / other for own, other in zip(self.samples_us, base.samples_us, strict=True))


def cases(framework: str, scale: float) -> list[Case]:
    """Return what is measured; the second of two equal cases is the noise figure."""
    hello, row = int(2000 * scale), int(500 * scale)
    # What granian takes by itself where nobody says how many threads it shall have.
    threads = [Case("hello, bare with granian's own threads", "threads", "/hello", hello, "hello, bare")]
    return [
        *(threads if framework == "flask" else []),
        Case("hello, bare", "bare", "/hello", hello, "hello, bare"),
        Case("the same once more (A/A)", "bare again", "/hello", hello, "hello, bare"),
        Case("hello, bare with the server's own access log", "logging", "/hello", hello, "hello, bare"),
        Case("**hello, rendered service**", "rendered", "/hello", hello, "hello, bare"),
        Case("one row, bare", "bare", "/rows/1", row, "one row, bare"),
        Case("the same once more (A/A, one row)", "bare again", "/rows/1", row, "one row, bare"),
        Case("**one row, rendered service**", "rendered", "/rows/1", row, "one row, bare"),
        Case(
            "the same in the example's layers, bare", "bare", NOTE_PATH, row, "the same in the example's layers, bare"
        ),
        Case(
            "the same in the example's layers, rendered service",
            "rendered",
            NOTE_PATH,
            row,
            "the same in the example's layers, bare",
        ),
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
