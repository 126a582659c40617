"""Renders a named stack, installs the newest release of every library, and runs `make check` in it.

Services are rendered without a lock file, so a breaking release of a library reaches every new service on the same day.
With `--unbounded` the upper bounds are ignored: the check passes as soon as a bound can be raised.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
BOUND = re.compile(r'^(    "[^"]+>=[^",]+),<[^"]+"', re.MULTILINE)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stack", help="the name of a file in tests/answers")
    parser.add_argument("--unbounded", action="store_true", help="ignore the upper bounds of the requirements")
    options = parser.parse_args()
    answers = ROOT / "tests" / "answers" / f"{options.stack}.yml"
    if not answers.is_file():
        known = ", ".join(sorted(path.stem for path in answers.parent.glob("*.yml")))
        parser.error(f"{options.stack!r} is not a named stack; use one of {known}")
    with tempfile.TemporaryDirectory() as folder:
        service = Path(folder, options.stack)
        copy = [sys.executable, "-m", "copier", "copy", "--quiet", "--defaults", "--vcs-ref", "HEAD"]
        subprocess.run([*copy, "--data-file", str(answers), str(ROOT), str(service)], check=True)
        if options.unbounded:
            project = service / "pyproject.toml"
            project.write_text(BOUND.sub(r'\1"', project.read_text(encoding="utf-8")), encoding="utf-8")
        subprocess.run(["make", "--silent", "setup"], cwd=service, check=True)
        subprocess.run(["uv", "pip", "list"], cwd=service, check=True)
        return subprocess.run(["make", "--silent", "check", "DOCKER=false"], cwd=service, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
