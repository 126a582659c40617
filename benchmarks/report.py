"""The page `docs/performance.md`: how it was measured, on what, and what came out."""

import os
import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path

from load import CONNECTIONS
from renders import Time
from serving import Case, bare

DOCUMENT = Path(__file__).parent.parent / "docs" / "performance.md"
PACKAGES = ("fastapi", "starlette", "uvicorn", "flask", "granian", "sqlalchemy", "pydantic", "orjson", "copier")
SERVERS = {"fastapi": "FastAPI on uvicorn (uvloop, httptools)", "flask": "Flask on granian"}

METHOD = """\
# Performance

`make bench` wrote this page. It measures a rendered service and its bare counterpart side by side, in one run. Only the
ratios mean something elsewhere; the microseconds beside them belong to the machine.

## What a hardened request costs

- The figure is **CPU time per request**: user and system time of the server's process and its children, read from the
  kernel's clocks before and after a fixed number of requests. What the load generator uses does not count.
- A process of its own makes the load: {connections} keep-alive connections over loopback, each asking again as soon as
  its answer is whole. Anything but a 200 ends the run.
- The bare application is the same framework on the same server with as many threads (Flask: `SERVER_THREADS` and the
  spare ones, and once more with as many as granian takes by itself), the same routes and handlers, the same driver and
  SQLAlchemy session, and nothing around it: no access log, ids, headers or limits. A check before the run sees that
  the bodies are the same.
- The rendered service is the default render of its framework with its default settings, served by the function that
  `python -m <package> serve` calls, with the routes of the benchmark added. It writes a JSON line a request into a pipe
  that another process empties, as in a container.
- All servers run at once. Every case is measured once a round, in a new random order, for {rounds} rounds. A ratio is
  the median of the rounds' own ratios, because what slows the machine for a while slows both sides of a round. The bare
  application runs as two processes, and a ratio is to the mean of both: how far the two are apart is how far off the
  others may be.
"""
LAYERS = """
The example's layers are the route `GET /api/v1/notes/{id}` with its router, service and repository; the bare
application has the same ones.
"""
RENDERING = """
## What rendering costs

The default render, {files} files, medians of several in turns; where nothing is said of the CPU, by the clock on the
wall, which other work on the machine makes slower. The template is a copy without its git repository. Plain Jinja gets
the answers ready made.
"""
MACHINE = """
## On what

{cores} cores, {system}, {python}. Other work at the start: a load average of {load:.1f}.

{packages}.

## What is not measured

Latency and its tail, throughput, memory and the time to start; TLS, proxies and networks; request bodies; more than one
worker; `LOG_FILE`, CORS and trusted proxies switched on; databases other than SQLite; renders other than the default.
"""


def markdown(served: Mapping[str, list[Case]], rendered: list[Time], rounds: int, load: float) -> str:
    """Return the text of the page."""
    machine = {
        "cores": os.cpu_count(),
        "system": f"{platform.system()} on {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": ", ".join(f"{name} {version(name)}" for name in PACKAGES),
    }
    return "".join(
        [
            METHOD.format(connections=CONNECTIONS, rounds=rounds),
            *(_serving_table(framework, cases) for framework, cases in served.items()),
            LAYERS,
            RENDERING.format(files=rendered[0].files),
            _render_table(rendered),
            MACHINE.format(**machine, load=load),
        ]
    )


def _serving_table(framework: str, cases: list[Case]) -> str:
    rows = [(case.label, f"{case.ratio_to(bare(cases, case.base)):.2f}", f"{case.median_us:.0f}") for case in cases]
    return f"\n### {SERVERS[framework]}\n\n" + _table(("request", "of bare", "CPU microseconds"), rows)


def _render_table(times: list[Time]) -> str:
    rows = [
        (
            way.label,
            f"{way.cpu_ms / times[0].cpu_ms:.1f}",
            f"{way.cpu_ms / way.files:.2f}",
            f"{way.wall_ms / way.files:.2f}",
            f"{way.wall_ms:.0f}",
        )
        for way in times
    ]
    return "\n" + _table(("way", "CPU, of plain Jinja", "CPU ms a file", "ms a file", "ms in all"), rows)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) + ("---:",) * (len(head) - 1), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
