"""Measures every fault on every stack and writes the tables of docs/reliability.md: `make chaos`."""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from measured import replaced
from questions import ROOT, read_yaml
from rendering import Renderer, export

from chaos import leaks, trial, world
from chaos.faults import faults_of

DOCUMENT = ROOT / "docs" / "reliability.md"
STACKS = ["fastapi-postgresql-redis", "flask-postgresql", "fastapi-mysql", "flask-mysql-redis"]
MINUTES = 60
COLUMNS = "requests", "2xx", "503", "other", "median ms", "p99 ms", "longest s", "reported after s", "recovery s"
HEAD = f"| stack | fault | {' | '.join(COLUMNS)} |\n|---|---|{'---:|' * len(COLUMNS)}\n"
HELD = "connections", "in use", "files", "threads", "tasks"
LEAKS = f"| stack | faults | requests | {' | '.join(HELD)} |\n|---|---:|---:|{'---:|' * len(HELD)}\n"

Say = Callable[[str], None]


def line(stack: str, outcome: trial.Outcome) -> str:
    """Return a row of the table."""
    succeeded, unavailable, total = outcome.count(200, 201), outcome.count(503), len(outcome.requests)
    figures = [
        *(total, succeeded, unavailable, total - succeeded - unavailable),
        *(f"{outcome.percentile(share) * 1000:.0f}" for share in (0.5, 0.99)),
        f"{outcome.longest_seconds:.1f}",
        "-" if outcome.told_seconds is None else f"{outcome.told_seconds:.1f}",
        f"{outcome.recovery_seconds:.1f}",
    ]
    return "| " + " | ".join(map(str, (stack, outcome.fault.name, *figures))) + " |\n"


def measure(stack: str, renderer: Renderer, scratch: Path, say: Say) -> tuple[str, str, list[str]]:
    """Have one stack go through everything: its rows, its row of leaks, and the promises that were broken."""
    render = renderer(scratch / stack, read_yaml(ROOT / "tests" / "answers" / f"{stack}.yml"))
    rows, broken = "", []
    with world.running(render, scratch) as everything:
        for fault in faults_of(stack):
            outcome = trial.run(everything, fault, scratch)
            rows += line(stack, outcome)
            say(line(stack, outcome))
            broken += [f"{stack}, {fault.name}: {promise}" for promise in trial.broken(outcome)]
        before = leaks.count(everything)
        requests = leaks.compressed_hour(everything, MINUTES, scratch)
        broken += [f"{stack}, leaked: {leak}" for leak in leaks.leaked(everything, before)]
        broken += [f"{stack}: {promise}" for promise in trial.lost(requests, everything.notes())]
        after = asdict(leaks.count(everything))
    counts = " | ".join(f"{was} → {after[name]}" for name, was in asdict(before).items())
    leak = f"| {stack} | {MINUTES} | {len(requests)} | {counts} |\n"
    say(leak)
    return rows, leak, broken


def page(text: str, rows: str, leaked: str) -> str:
    """Return the document with new tables. Everything else in it is written by hand."""
    settings = "\n".join(f"{name}={value}" for name, value in world.SETTINGS.items())
    parts = {"faults": HEAD + rows, "leaks": LEAKS + leaked, "settings": f"```text\n{settings}\n```"}
    for name, part in parts.items():
        text = replaced(text, name, part)
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stacks", nargs="*", default=STACKS, help="which stacks; only all of them write the page")
    stacks = parser.parse_args().stacks
    rows, leaked = "", ""
    broken: list[str] = []
    print(HEAD, end="", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        renderer = Renderer(export(Path(folder) / "template"))
        for stack in stacks:
            found = measure(stack, renderer, Path(folder), lambda text: print(text, end="", flush=True))
            rows, leaked, broken = rows + found[0], leaked + found[1], broken + found[2]
    if stacks == STACKS:
        DOCUMENT.write_text(page(DOCUMENT.read_text(encoding="utf-8"), rows, leaked), encoding="utf-8")
    raise SystemExit("\n".join(broken) if broken else 0)


if __name__ == "__main__":
    main()
