"""What a service's settings documents start out with is what its settings classes say."""

import shutil
import subprocess
import sys
from pathlib import Path

from questions import ROOT

SCRIPT = "scripts/settings_docs.py"


def check(root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SCRIPT, "--check"]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


def test_the_fragments_say_what_the_classes_say() -> None:
    """No fragment in options/ has drifted; the script that writes them is named where one has."""
    result = check(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


def test_drift_is_seen(planted: Path) -> None:
    """An edited, a missing and an orphaned fragment are each named, with what to run."""
    (planted / "scripts").mkdir()
    shutil.copy2(ROOT / SCRIPT, planted / SCRIPT)
    fragments = planted / "options/settings"
    (fragments / "logs.env").write_text("# edited\n", encoding="utf-8")
    (fragments / "hosts.md").unlink()
    (fragments / "broker.md").write_text("orphaned\n", encoding="utf-8")
    result = check(planted)
    named = [line.split(" has drifted")[0] for line in result.stdout.splitlines()]
    assert result.returncode == 1
    assert sorted(named) == [f"options/settings/{name}" for name in ("broker.md", "hosts.md", "logs.env")]
    assert result.stdout.count(f"python {SCRIPT}") == len(named)
