"""The example services in `examples/`: their answers, the files of their owners, and the commands that build them."""

import re
from pathlib import Path
from typing import Any

from live import run
from questions import ROOT, read_yaml

FOLDER = ROOT / "examples"
EXAMPLES = sorted(path.name for path in FOLDER.iterdir() if path.is_dir())


def answers(name: str) -> dict[str, Any]:
    found: dict[str, Any] = read_yaml(FOLDER / name / "answers.yml")
    return found


def overlay(name: str) -> list[str]:
    """Return the paths of the files that the owner adds or replaces."""
    folder = FOLDER / name / "service"
    found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return sorted(path.relative_to(folder).as_posix() for path in found)


def documented(name: str) -> list[str]:
    """Return the commands in the README of an example."""
    text = (FOLDER / name / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return str(block).splitlines()


def build(name: str, service: Path) -> None:
    """Turn a fresh render into the example: the commands of the README after those that render."""
    commands = documented(name)
    rendering = [
        f'copier copy --defaults --data-file "$SEAWORTHY/examples/{name}/answers.yml" "$SEAWORTHY" {name}',
        f"cd {name}",
    ]
    assert commands[:2] == rendering
    run("sh", "-ec", "\n".join(commands[2:]), cwd=service, SEAWORTHY=str(ROOT))
