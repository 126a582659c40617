"""Measures rendered services and renders, prints the figures and writes docs/performance.md: `make bench`.

Needs the libraries of both frameworks beside Copier. `--quick` only shows that everything works; it writes nothing.
"""

import argparse
import os
import tempfile
from pathlib import Path

import renders
import report
import serving

FRAMEWORKS = ("fastapi", "flask")
RENDERS = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=45, help="rounds of requests (default 45)")
    parser.add_argument("--quick", action="store_true", help="few rounds, few requests, no file")
    options = parser.parse_args()
    rounds, scale = (1, 0.05) if options.quick else (options.rounds, 1.0)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        template = renders.export(Path(folder) / "source")
        served = {name: _serve(name, template, Path(folder) / name, rounds, scale) for name in FRAMEWORKS}
    page = report.markdown(served, renders.measure(1 if options.quick else RENDERS), rounds, load)
    print(page)
    if not options.quick:
        report.DOCUMENT.write_text(page)


def _serve(framework: str, template: Path, destination: Path, rounds: int, scale: float) -> list[serving.Case]:
    service = renders.render(template, destination, {"framework": framework})
    serving.prepare_database(service)
    return serving.measure(framework, service, rounds, scale)


if __name__ == "__main__":
    main()
