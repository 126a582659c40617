"""Measures every fault on every stack and writes the tables of docs/reliability.md: `make chaos`."""

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

from measured import replaced
from questions import ROOT
from rendering import Renderer, export

from chaos import leaks, trial, world
from chaos.faults import faults_of

DOCUMENT = ROOT / "docs" / "reliability.md"
STACKS = ["fastapi-postgresql-redis", "flask-postgresql", "fastapi-mysql", "flask-mysql-redis"]
MINUTES = 60
# The faults of servers, and those of other services and WebSockets.
TABLES = ["faults", "services"]
COLUMNS = "requests", "2xx", "503", "other", "median ms", "p99 ms", "longest s", "reported after s", "recovery s"
MESSAGES = "messages", "missing", "repeated"
HELD = "connections", "in use", "files", "threads", "tasks"
LEAKS = f"| stack | faults | requests | {' | '.join(HELD)} |\n|---|---:|---:|{'---:|' * len(HELD)}\n"

Say = Callable[[str], None]


def head(table: str) -> str:
    """Return the head of a table of faults."""
    columns = (*COLUMNS, *(MESSAGES if table == "services" else ()))
    return f"| stack | fault | {' | '.join(columns)} |\n|---|---|{'---:|' * len(columns)}\n"


def line(stack: str, outcome: trial.Outcome, table: str) -> str:
    """Return a row of a table."""
    succeeded, unavailable, total = outcome.count(200, 201), outcome.count(503), len(outcome.requests)
    figures = [
        *(total, succeeded, unavailable, total - succeeded - unavailable),
        *(f"{outcome.percentile(share) * 1000:.0f}" for share in (0.5, 0.99)),
        f"{outcome.longest_seconds:.1f}",
        "-" if outcome.told_seconds is None else f"{outcome.told_seconds:.1f}",
        f"{outcome.recovery_seconds:.1f}",
    ]
    if table == "services":
        inboxes = len(outcome.inboxes)
        figures += [len(outcome.messages) * inboxes, outcome.missing(), outcome.repeated] if inboxes else ["-"] * 3
    return "| " + " | ".join(map(str, (stack, outcome.fault.name, *figures))) + " |\n"


def measure(
    stack: str, tables: list[str], renderer: Renderer, scratch: Path, say: Say
) -> tuple[dict[str, str], list[str]]:
    """Have one stack go through everything: its rows in each table, and the promises that were broken."""
    render = renderer(scratch / stack, world.answers_of(stack))
    rows, broken = dict.fromkeys(tables, ""), []
    with world.running(render, scratch) as everything:
        for table in tables:
            for fault in faults_of(stack, table):
                outcome = trial.run(everything, fault, scratch)
                rows[table] += line(stack, outcome, table)
                say(line(stack, outcome, table))
                broken += [f"{stack}, {fault.name}: {promise}" for promise in trial.broken(outcome)]
        if "faults" in tables:
            rows["leaks"], leaked = measure_leaks(stack, everything, scratch)
            say(rows["leaks"])
            broken += leaked
    return rows, broken


def measure_leaks(stack: str, everything: world.World, scratch: Path) -> tuple[str, list[str]]:
    """Return the row of the stack, and the promises that were broken."""
    before = leaks.count(everything)
    requests = leaks.compressed_hour(everything, MINUTES, scratch)
    broken = [f"{stack}, leaked: {leak}" for leak in leaks.leaked(everything, before)]
    broken += [f"{stack}: {promise}" for promise in trial.lost(requests, everything.notes())]
    after = asdict(leaks.count(everything))
    counts = " | ".join(f"{was} → {after[name]}" for name, was in asdict(before).items())
    return f"| {stack} | {MINUTES} | {len(requests)} | {counts} |\n", broken


def page(text: str, rows: dict[str, str]) -> str:
    """Return the document with new tables. Everything else in it is written by hand."""
    settings = "\n".join(f"{name}={value}" for name, value in world.SETTINGS.items())
    text = replaced(text, "settings", f"```text\n{settings}\n```")
    for table, part in rows.items():
        text = replaced(text, table, (LEAKS if table == "leaks" else head(table)) + part)
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stacks", nargs="*", default=STACKS, help="which stacks; only all of them write the page")
    parser.add_argument("--table", choices=TABLES, help="measure and write this table only")
    arguments = parser.parse_args()
    tables = [arguments.table] if arguments.table else TABLES
    rows: dict[str, str] = defaultdict(str)
    broken: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        renderer = Renderer(export(Path(folder) / "template"))
        for stack in arguments.stacks:
            if any(faults_of(stack, table) for table in tables):
                found, promises = measure(stack, tables, renderer, Path(folder), partial(print, end="", flush=True))
                for table, part in found.items():
                    rows[table] += part
                broken += promises
    if arguments.stacks == STACKS:
        DOCUMENT.write_text(page(DOCUMENT.read_text(encoding="utf-8"), rows), encoding="utf-8")
    raise SystemExit("\n".join(broken) if broken else 0)


if __name__ == "__main__":
    main()
