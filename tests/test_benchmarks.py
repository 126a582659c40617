"""`make bench` can run: it is started by hand only, and would break unseen."""

import subprocess
import sys

import pytest
from questions import ROOT

pytestmark = pytest.mark.stacks


def test_the_benchmark_measures_both_frameworks() -> None:
    """A few requests to each variant are answered alike, and the page of figures is printed. No figure is judged."""
    command = [sys.executable, str(ROOT / "benchmarks" / "run.py"), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("**one row, rendered service**") == 2
