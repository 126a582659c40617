"""`make bench` runs: people start it by hand only, so a fault would stay unnoticed."""

import subprocess
import sys

import pytest
from questions import ROOT

# A group, so that it starts early: it takes minutes.
pytestmark = [pytest.mark.stacks, pytest.mark.xdist_group("benchmark")]


def test_benchmark_quick_run_measures_both_frameworks() -> None:
    """All variants respond alike to a few requests, and the page is printed. No figure is asserted."""
    command = [sys.executable, str(ROOT / "benchmarks" / "run.py"), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("**one row, rendered service**") == 2
    assert done.stdout.count("with an API key") == 2
    assert done.stdout.count("with a notification") == 2
