"""The page `docs/performance.md`: the method, the figures and the machine."""

import os
import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path

import featured
from authenticated import FIRST, LABELS, LAST
from load import CONNECTIONS
from renders import Time
from serving import EXTRAS, FEATURES, MONITORED, REFERENCES, STARTS, Case, references

DOCUMENT = Path(__file__).parent.parent / "docs" / "performance.md"
PACKAGES = ("fastapi", "starlette", "uvicorn", "flask", "gunicorn", "sqlalchemy", "pydantic", "orjson", "copier")
SERVERS = {"fastapi": "FastAPI", "flask": "Flask"}

METHOD = """\
# Performance

`make bench` wrote this page. It measures a rendered service and bare applications side by side, in one run. Only the
ratios apply to other machines. The microseconds apply to this machine.

## Cost of a hardened request

- The figure is **CPU time per request**: user and system time of the server's processes, read from the kernel before
  and after a fixed number of requests. The load generator runs in another process, whose time does not count.
- The load is {connections} keep-alive connections over loopback. Each sends its next request as soon as a response is
  complete. A response other than 2xx ends the run.
- The bare application has the same routes, handlers, driver and SQLAlchemy session, but no access log, ids, additional
  headers or limits. Bare FastAPI runs on uvicorn. Bare Flask runs on gunicorn with as many threads as the service has
  (`SERVER_THREADS`). It also runs on uvicorn behind the *bridge*, the part of the chassis that calls Flask in threads,
  but without the middleware. The run checks first that all response bodies are equal.
- The rendered service has default settings, no monitoring, and the features {features}.
  The same function as in `python -m <package> serve` serves it, with the routes of the benchmark added. It writes one
  JSON log entry per request into a pipe. The services with monitoring report to a server on the same machine, which
  accepts everything. Nothing reads their metrics.
- All servers run at once. They are started {starts} times, because the CPU time of a process differs by up to a tenth
  from one start to the next. Every case is measured once per round, in a new random order, for {rounds} rounds in
  total. Each round has a ratio, and the tables show the median. The bare application runs as two processes, and a ratio
  compares a case with the mean of the two. The difference between the two is the noise of the run.
"""
LAYERS = """
The example's layers are the route `GET /api/v1/notes/{id}` with its router, service and repository.
"""
AUTHENTICATING = """
## Cost of credentials

CPU time of `hello` in a service with the features `rate-limit`, `api-keys` and `jwt`. The handler requires a scope, on
FastAPI with `ScopedRoute`. The ratios compare it with the mean of two routes that require none: one was added to the
application before the measured route, and one after it. The service remembers the tokens that it has verified.
"""
USING = """
## Cost of features

CPU time of requests in a service with the features `idempotency`, `notifications` and `validators`, and with SQLite.
Each request is compared with the first of its kind in the same process. Only `hello` is compared with other services,
which have no features. Responses are stored in memory, and a repeated request does not reach its handler. The body has
an email address, a phone number, an amount of money, a URL and a title. The unit of work inserts one row. A
notification adds a second row. Its figure contains the delivery after the commit: two more units of work, and a
request to a webhook on the same machine, without TLS.
"""
STARTING = """
## Cost of a start

CPU time from the start of the process until it responds to a health probe, with SQLite, in seconds.
"""
RENDERING = """
## Cost of rendering

The default render has {files} files. The figures are medians of several runs, in which the programs take turns. The
template is a copy without its git repository. Plain Jinja asks no questions, but renders with the answers that
Copier computed.
"""
MACHINE = """
## The machine

{cores} cores, {system}, {python}. Load average at the start: {load:.1f}.

{packages}.

## Not measured

- latency and its tail, throughput, memory
- TLS, proxies, networks, large request bodies
- `LOG_FILE`, CORS, trusted proxies
- databases other than SQLite, and Redis
- renders other than the default

[Decision 11](decisions/0011-connection-limits.md#measurement) has a figure for `websocket`.
"""


def markdown(
    served: Mapping[str, list[Case]],
    credentials: Mapping[str, list[Case]],
    used: Mapping[str, list[Case]],
    started: Mapping[str, float],
    rendered: list[Time],
    rounds: int,
    load: float,
) -> str:
    """Return the text of the page."""
    machine = {
        "cores": os.cpu_count(),
        "system": f"{platform.system()} on {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": ", ".join(f"{name} {version(name)}" for name in PACKAGES),
    }
    return "".join(
        [
            METHOD.format(
                connections=CONNECTIONS,
                features=", ".join(f"`{name}`" for name in FEATURES),
                rounds=rounds,
                starts=STARTS,
            ),
            *(_serving_table(framework, cases) for framework, cases in served.items()),
            LAYERS,
            AUTHENTICATING,
            "\n" + _credentials_table(credentials),
            USING,
            "\n" + _features_table(used),
            STARTING,
            "\n" + _table(("service", "CPU seconds"), [(name, f"{seconds:.2f}") for name, seconds in started.items()]),
            RENDERING.format(files=rendered[0].files),
            _render_table(rendered),
            MACHINE.format(**machine, load=load),
        ]
    )


def _serving_table(framework: str, cases: list[Case]) -> str:
    columns = REFERENCES[framework]
    rows = [
        (
            _label(framework, case),
            *(f"{case.ratio_to(references(cases, case.path, name)):.2f}" for name in columns),
            f"{case.median_us:.0f}",
        )
        for case in cases
    ]
    return f"\n### {SERVERS[framework]}\n\n" + _table(("request", *columns.values(), "CPU microseconds"), rows)


def _credentials_table(credentials: Mapping[str, list[Case]]) -> str:
    rows = [
        (
            f"{SERVERS[framework]}, {LABELS[case.variant]}",
            f"{case.ratio_to([other for other in cases if other.variant in (FIRST, LAST)]):.2f}",
            f"{case.median_us:.0f}",
        )
        for framework, cases in credentials.items()
        for case in cases
    ]
    return _table(("request", "of the same without credentials", "CPU microseconds"), rows)


def _features_table(used: Mapping[str, list[Case]]) -> str:
    rows = []
    for framework, cases in used.items():
        for case in cases:
            first = next(other for other in cases if other.request == case.request)
            label = f"{SERVERS[framework]}, {case.request} {featured.LABELS[case.variant]}"
            ratio = case.ratio_to(references(cases, first.path, first.variant))
            rows.append((label, f"{ratio:.2f}", f"{case.median_us:.0f}"))
    return _table(("request", "of the first of its kind", "CPU microseconds"), rows)


def _label(framework: str, case: Case) -> str:
    if case.variant == "rendered":
        return f"**{case.request}, rendered service**"
    if case.variant in MONITORED:
        return f"**{case.request}, {MONITORED[case.variant]}**"
    bridge = "bare on uvicorn behind the chassis's bridge"
    names = {"bare": "bare", "bare again": "bare, second process", "bridge": bridge}
    return f"{case.request}, {(names | EXTRAS[framework])[case.variant]}"


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
    return "\n" + _table(("way", "CPU, of plain Jinja", "CPU ms per file", "ms per file", "ms in all"), rows)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) + ("---:",) * (len(head) - 1), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
