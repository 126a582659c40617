"""Deploys services again and again under load, and writes the table of docs/reliability.md: `make deployments`."""

import argparse
import os
import re
import tempfile
from pathlib import Path
from statistics import median

from containers.engine import remove_leftovers
from measured import replaced
from questions import ROOT, read_yaml
from rendering import Renderer, export

from deployments.load import load
from deployments.machine import machine

DOCUMENT = ROOT / "docs" / "reliability.md"
STACKS = ["fastapi-postgresql-redis", "flask-mysql-redis", "fastapi-sqlite", "flask-duckdb-redis"]
COLUMNS = "deployments", "requests", "lost", "longest request s", "seconds each"
HEAD = f"| stack | {' | '.join(COLUMNS)} |\n|---|{'---:|' * len(COLUMNS)}\n"


def measure(stack: str, count: int, renderer: Renderer, scratch: Path) -> tuple[str, list[str]]:
    """Deploy a stack many times; return its row, and the requests that were lost."""
    answers = read_yaml(ROOT / "tests" / "answers" / f"{stack}.yml")
    named = {"service_name": f"shipped-{os.getpid()}", "package_name": "deployed"}
    # `make load` comes with Prometheus.
    needed = {"deployment": ["compose"], "monitoring": ["prometheus"]}
    service = renderer(scratch / stack, {**answers, **named, **needed}).path
    with machine(service) as production:
        production.must("deploy", "0")
        with load(service, production.local) as outcome:
            for number in range(1, count + 1):
                production.must("deploy", str(number))
        log = (service / "deploy/compose/deployments.log").read_text(encoding="utf-8")
    seconds = median(int(found) for found in re.findall(r"ok, (\d+) s", log)[1:])
    figures = (count, outcome.requests, len(outcome.lost), f"{outcome.longest_seconds:.1f}", f"{seconds:.0f}")
    return f"| {stack} | {' | '.join(map(str, figures))} |\n", outcome.lost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stacks", nargs="*", default=STACKS, help="the stacks; only all of them write the page")
    parser.add_argument("--count", type=int, default=20, help="how many deployments of each stack")
    options = parser.parse_args()
    rows, lost = "", []
    remove_leftovers()
    print(HEAD, end="", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        renderer = Renderer(export(Path(folder) / "template"))
        for stack in options.stacks:
            row, missing = measure(stack, options.count, renderer, Path(folder))
            print(row, end="", flush=True)
            rows += row
            lost += [f"{stack}: {request}" for request in missing]
    if options.stacks == STACKS:
        page = replaced(DOCUMENT.read_text(encoding="utf-8"), "deployments", HEAD + rows)
        DOCUMENT.write_text(page, encoding="utf-8")
    if lost:
        raise SystemExit("\n".join(lost))


if __name__ == "__main__":
    main()
