"""The settings documents of a fresh render equal what its settings classes say."""

import shutil
import subprocess
import sys
from pathlib import Path

from questions import ROOT

SCRIPT = "scripts/settings_docs.py"


def check(root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SCRIPT, "--check"]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


def test_settings_fragments_equal_the_settings_classes() -> None:
    """If a fragment in options/ differs, the output names the script that writes it."""
    result = check(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


def test_settings_script_with_changed_fragments_names_each(planted: Path) -> None:
    """An edited, a missing and a stale fragment are each named, with the remedy."""
    (planted / "scripts").mkdir()
    shutil.copy2(ROOT / SCRIPT, planted / SCRIPT)
    fragments = planted / "options/settings"
    (fragments / "logs.env").write_text("# edited\n", encoding="utf-8")
    (fragments / "hosts.md").unlink()
    (fragments / "broker.md").write_text("stale\n", encoding="utf-8")
    result = check(planted)
    named = [line.split(" differs")[0] for line in result.stdout.splitlines()]
    assert result.returncode == 1
    assert sorted(named) == [f"options/settings/{name}" for name in ("broker.md", "hosts.md", "logs.env")]
    assert result.stdout.count(f"python {SCRIPT}") == len(named)
