"""Measures rendered services and renders, prints the figures and writes docs/performance.md: `make bench`.

Needs the libraries of both frameworks beside Copier. `--quick` only shows that everything works; it writes nothing.
"""

import argparse
import os
import tempfile
from pathlib import Path

import authenticated
import featured
import renders
import report
import serving
import starts
from servers import migrate

FRAMEWORKS = ("fastapi", "flask")
# The variants of a rendered service with monitoring, and the values of `monitoring` of each.
MONITORED = {
    "prometheus": ["prometheus"],
    "sentry": ["sentry"],
    "opentelemetry": ["opentelemetry"],
    "monitored": ["prometheus", "sentry", "opentelemetry"],
}
MANY = "the features above"
SERVICES: dict[str, list[str]] = {MANY: serving.FEATURES, "no features": []}
FEATURED = {"features": featured.FEATURES, "no features": []}
# The features of the one service of each framework that a quick run renders.
EVERYTHING = [*serving.FEATURES, "api-keys", "jwt", *featured.FEATURES]
RENDERS = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=45, help="rounds of requests (default 45)")
    parser.add_argument("--quick", action="store_true", help="one service of each framework, few requests, no file")
    options = parser.parse_args()
    # Each start of the servers has as many rounds.
    rounds = -(-options.rounds // serving.STARTS) * serving.STARTS
    effort = serving.Effort(1 if options.quick else rounds, options.quick)
    few = 1 if options.quick else RENDERS
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        template = renders.export(folder / "source")

        def service(framework: str, label: str, features: list[str], monitoring: list[str]) -> Path:
            if options.quick:
                label, features, monitoring = "everything", EVERYTHING, MONITORED["monitored"]
            answers = {"framework": framework, "features": features, "monitoring": monitoring}
            path = folder / f"{framework}-{label}"
            if not path.exists():
                migrate(renders.render(template, path, answers))
            return path

        services = {
            f"{framework}, {label}": service(framework, label, features, [])
            for framework in FRAMEWORKS
            for label, features in list(SERVICES.items())[: 1 if options.quick else None]
        }
        served, credentials, used = {}, {}, {}
        for name in FRAMEWORKS:
            monitored = {
                variant: service(name, variant, serving.FEATURES, chosen)
                for variant, chosen in list(MONITORED.items())[-1 if options.quick else 0 :]
            }
            served[name] = serving.measure(name, services[f"{name}, {MANY}"], monitored, effort)
            private = service(name, "authenticated", authenticated.FEATURES, [])
            credentials[name] = authenticated.measure(name, private, effort)
            using, without = (service(name, label, chosen, []) for label, chosen in FEATURED.items())
            used[name] = featured.measure(name, using, without, effort)
        started = {
            label: starts.measure(path, few) for label, path in list(services.items())[: 1 if options.quick else None]
        }
    page = report.markdown(served, credentials, used, started, renders.measure(few), effort.rounds, load)
    print(page)
    if not options.quick:
        report.DOCUMENT.write_text(page)


if __name__ == "__main__":
    main()
