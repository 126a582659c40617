"""Runs the contract on every version that is offered, and writes docs/versions.md: `make versions`.

The results of each suite are stored beside its folder. The documents are written as soon as every suite has results, so
that the suites can be run one by one: `make versions SUITES=sid`.
"""

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from environments import requirements
from measured import replaced
from questions import ROOT
from rendering import Renderer, export
from suites import answers, dependencies

from versions.machine import Machine, Suite, machine

DOCUMENT = ROOT / "docs" / "versions.md"
CHANGELOG = ROOT / "CHANGELOG.md"
SUITES = {
    suite.name: suite
    for suite in (
        Suite("bookworm", ("3.11",), ("postgresql-15", "pgbouncer", "mariadb-server", "redis-server")),
        Suite("trixie", ("3.13",), ("postgresql-17", "pgbouncer", "mariadb-server", "valkey-server")),
        Suite("sid", ("3.14", "3.15"), ("postgresql-18", "pgbouncer", "mysql-server", "redis-server")),
    )
}
# The whole contract suite, without a server, on the oldest and newest offered Python. CI covers the default one.
CONTRACT = "fastapi-sqlite"
ENDS = {"3.11", "3.14", "3.15"}
# The tests that depend on the database or the store, on the first Python of a suite.
WITH_SERVERS = ("fastapi-postgresql-redis", "flask-postgresql", "fastapi-mysql", "flask-mysql-redis")
# Servers by the name of the option, and the words before their version.
SERVERS = {
    "postgresql": (("PostgreSQL", r"\(PostgreSQL\) ([\d.]+)", "/usr/lib/postgresql/*/bin/postgres"),),
    "mysql": (
        ("MariaDB", r"Ver ([\d.]+)-MariaDB", "/usr/sbin/mariadbd"),
        ("MySQL", r"Ver ([\d.]+)", "/usr/sbin/mysqld"),
    ),
    "redis": (("Redis", r"v=([\d.]+)", "/usr/bin/redis-server"), ("Valkey", r"v=([\d.]+)", "/usr/bin/valkey-server")),
}
HEAD = "| date | Python | stack | servers | tests | result |\n|---|---|---|---|---:|---|\n"


@dataclass(frozen=True)
class Run:
    """The tests of one stack on one machine, and the versions of what it used."""

    date: str
    python: str
    stack: str
    servers: list[str]
    libraries: dict[str, str]
    tests: int
    failed: list[str]

    def line(self) -> str:
        servers = ", ".join(self.servers) or "none"
        result = f"{len(self.failed)} failed" if self.failed else "passed"
        return f"| {self.date} | {self.python} | `{self.stack}` | {servers} | {self.tests} | {result} |\n"


def runs(here: Machine, suite: Suite, renderer: Renderer) -> Iterator[Run]:
    """Yield the results of a suite."""
    for stack in WITH_SERVERS:
        folder = here.install(stack, answers(stack), renderer, suite.pythons[0])
        yield tested(here, folder, stack, with_servers(here.path(folder)))
    for python in (python for python in suite.pythons if python in ENDS):
        yield tested(here, here.install(CONTRACT, answers(CONTRACT), renderer, python), CONTRACT, ["tests"])


def with_servers(service: Path) -> list[str]:
    """Return the test files whose results depend on the database or the store."""
    paths = sorted((service / "tests/chassis").glob("test_*.py"))
    depends = {path: set(dependencies(path.stem.removeprefix("test_")) or ()) for path in paths}
    return [f"tests/chassis/{path.name}" for path, on in depends.items() if on & {"database", "cache"}]


def tested(here: Machine, folder: str, stack: str, tests: list[str]) -> Run:
    """Run tests of an installed stack."""
    python = here.must(folder, ".venv/bin/python", "--version").split()[1]
    chosen = {str(answers(stack).get(name)) for name in ("database", "cache")}
    servers = [version(here, option) for option in SERVERS if option in chosen]
    said = here.run(folder, ".venv/bin/python", "-m", "pytest", "-q", "-rfE", *tests).stdout
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|error)", said)}
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", said, re.MULTILINE)
    if failed or not counts.get("passed"):
        print(said, file=sys.stderr)
        failed = failed or ["all tests"]
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    return Run(today, python, stack, servers, libraries(here, folder), sum(counts.values()), failed)


def version(here: Machine, option: str) -> str:
    """Return the name and version of the server that the tests of an option start."""
    for name, form, place in SERVERS[option]:
        found = next(here.root.glob(place.lstrip("/")), None)
        if found and (known := re.search(form, here.must("/", f"/{found.relative_to(here.root)}", "--version"))):
            return f"{name} {known[1]}"
    raise SystemExit(f"{here.root.name} has no server for {option}")


def libraries(here: Machine, folder: str) -> dict[str, str]:
    """Return the versions of the libraries that a stack names in its pyproject.toml."""
    listed = here.must(folder, "uv", "pip", "freeze", "--quiet")
    installed = dict(re.findall(r"^([\w.-]+)==(\S+)$", listed, re.MULTILINE))
    named = {re.split(r"[\[<>=]", requirement)[0] for requirement in requirements(here.path(folder))}
    return {name: installed[name] for name in sorted(named & installed.keys())}


def write(found: Iterable[Run]) -> None:
    """Write the table, and name the libraries in the newest release of the changelog."""
    found = list(found)
    table = HEAD + "".join(run.line() for run in found)
    DOCUMENT.write_text(replaced(DOCUMENT.read_text(encoding="utf-8"), "versions", table), encoding="utf-8")
    tested_with = {name: version for run in found for name, version in run.libraries.items()}
    text = "; ".join(f"{name} {version}" for name, version in sorted(tested_with.items()))
    page = CHANGELOG.read_text(encoding="utf-8")
    CHANGELOG.write_text(replaced(page, "libraries", f"{text}."), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suites", nargs="*", default=list(SUITES))
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp/seaworthy-versions"))  # noqa: S108 - it is large
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    print(HEAD, end="", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        renderer = Renderer(export(Path(scratch)))
        for name in options.suites:
            found = []
            for run in runs(machine(SUITES[name], options.folder), SUITES[name], renderer):
                print(run.line(), end="", flush=True)
                found.append(asdict(run))
                (options.folder / f"{name}.json").write_text(json.dumps(found), encoding="utf-8")
    stored = [path for path in (options.folder / f"{name}.json" for name in SUITES) if path.exists()]
    every = [Run(**run) for path in stored for run in json.loads(path.read_text(encoding="utf-8"))]
    if len(stored) == len(SUITES):
        write(every)
    raise SystemExit("\n".join(f"{run.stack}: {test}" for run in every for test in run.failed) or 0)


if __name__ == "__main__":
    main()
