"""Measures every trial in a cluster and writes the table of docs/reliability.md: `make cluster`."""

import argparse
import re
import shutil
import sys
import tempfile
from pathlib import Path

from measured import replaced
from questions import ROOT
from rendering import Renderer, export

from cluster import trials, world

DOCUMENT = ROOT / "docs" / "reliability.md"
ANSWERS = {
    "service_name": world.NAME,
    "package_name": "seaworthy_cluster",
    "framework": "fastapi",
    "database": "postgresql",
    "features": ["deploy-check"],
    "deployment": ["kubernetes"],
}
COLUMNS = "requests", "2xx", "503", "no response", "acknowledged writes missing", "longest s", "seconds"
HEAD = f"| event | {' | '.join(COLUMNS)} |\n|---|{'---:|' * len(COLUMNS)}\n"


def line(outcome: trials.Outcome) -> str:
    """Return a row of the table."""
    figures = [
        *(len(outcome.requests), outcome.count(200, 201), outcome.count(503), outcome.count(0), outcome.missing),
        *(f"{max(request.seconds for request in outcome.requests):.1f}", f"{outcome.seconds:.0f}"),
    ]
    return "| " + " | ".join(map(str, (outcome.trial.name, *figures))) + " |\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="a pattern for the names of the trials; nothing is written then")
    only = parser.parse_args().only
    kubectl = shutil.which("kubectl", path=f"{Path(sys.executable).parent}:{Path('/usr/bin')}")
    assert kubectl is not None, "kubectl is not installed"
    with tempfile.TemporaryDirectory(prefix="seaworthy-cluster-") as name:
        scratch = Path(name)
        render = Renderer(export(scratch / "template"))(scratch / "service", ANSWERS)
        rows, broken = "", []
        with world.running(render, kubectl, scratch / "node") as cluster:
            for trial in (trial for trial in trials.TRIALS if re.search(only, trial.name)):
                outcome = trials.attempt(cluster, trial, scratch)
                rows += line(outcome)
                broken += outcome.broken()
                print(line(outcome), end="", flush=True)
    if not only and not broken:
        page = DOCUMENT.read_text(encoding="utf-8")
        DOCUMENT.write_text(replaced(page, "cluster", HEAD + rows), encoding="utf-8")
    if broken:
        raise SystemExit("\n".join(["Promises that were broken:", *broken]))


if __name__ == "__main__":
    main()
