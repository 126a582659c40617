"""Runs the pipelines of a rendered service without their providers: every `run:` step, with stand-ins for tools.

The stand-ins record how they are called. Everything else is real: the scripts of the service, the files in which steps
pass values to each other, and for GitLab `gitlab-ci-local`, which evaluates the file as GitLab does.
"""

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

DIGEST = "sha256:" + "0" * 64
# What a stand-in prints, by the beginning of its arguments.
ANSWERS = {
    "docker version": "amd64",
    "docker buildx imagetools inspect": f"Digest:    {DIGEST}",
}
# A command that a stand-in refuses once `refused` holds the beginning of its arguments.
STAND_IN = """#!/bin/sh
call="{name} $*"
printf '%s\\n' "$call" >>"{folder}/called"
case $call in *-stdin*) cat >/dev/null ;; esac
while read -r refused; do case $call in "$refused"*) exit 1 ;; esac; done <"{folder}/refused"
case $call in
{answers}
esac
"""


@dataclass
class Tools:
    """A folder for PATH with stand-ins."""

    folder: Path
    names: tuple[str, ...] = ("cosign", "docker", "gh", "make", "ssh")
    answers: Mapping[str, str] = field(default_factory=lambda: ANSWERS)

    def __post_init__(self) -> None:
        self.folder.mkdir()
        (self.folder / "called").touch()
        (self.folder / "refused").touch()
        cases = "\n".join(f"{start!r}*) echo {answer!r} ;;".replace("'", '"') for start, answer in self.answers.items())
        for name in self.names:
            script = STAND_IN.format(name=name, folder=self.folder, answers=cases)
            (self.folder / name).write_text(script, encoding="utf-8")
            (self.folder / name).chmod(0o755)

    def refuse(self, *calls: str) -> None:
        """Let these calls fail from now on."""
        (self.folder / "refused").write_text("".join(f"{call}\n" for call in calls), encoding="utf-8")

    def called(self) -> list[str]:
        """Return the calls so far, and forget them."""
        calls = (self.folder / "called").read_text(encoding="utf-8").splitlines()
        (self.folder / "called").write_text("", encoding="utf-8")
        return calls

    def environment(self, **variables: str) -> dict[str, str]:
        """Return the environment of a command that finds the stand-ins first."""
        path = os.pathsep.join([str(self.folder), os.environ["PATH"]])
        return {**os.environ, "PATH": path, "HOME": str(self.folder), **variables}


class GitHub:
    """Runs the workflows of a service."""

    def __init__(self, service: Path, tools: Tools, tag: str, **contexts: Mapping[str, str]) -> None:
        self.service = service
        self.tools = tools
        self.contexts: dict[str, Mapping[str, str]] = {
            "github": {
                "actor": "jo",
                "ref": f"refs/tags/{tag}",
                "ref_name": tag,
                "repository": "Acme/Orders",
                "server_url": "https://github.com",
                "token": "the-token",
            },
            **contexts,
        }

    def workflow(self, name: str) -> Any:
        """Return the content of a workflow. YAML 1.1 reads its key `on` as true."""
        return yaml.safe_load((self.service / f".github/workflows/{name}.yml").read_text(encoding="utf-8"))

    def run(self, name: str, **given: str) -> dict[str, str]:
        """Run the steps of a workflow, job after job. Return the outputs of its jobs."""
        workflow = self.workflow(name)
        defaults = ((workflow[True].get("workflow_call") or {}).get("inputs") or {}) if True in workflow else {}
        inputs = {key: str(row.get("default", "")) for key, row in defaults.items()} | given
        outputs: dict[str, str] = {}
        for key, job in workflow["jobs"].items():
            contexts = {**self.contexts, "inputs": inputs, "env": workflow.get("env", {})}
            steps = self._job(job, contexts)
            outputs |= {f"{key}.{output}": self.value(text, steps) for output, text in job.get("outputs", {}).items()}
        return outputs

    def _job(self, job: Any, contexts: Mapping[str, Mapping[str, str]]) -> dict[str, Mapping[str, str]]:
        """Run the steps of a job. Return its contexts with the outputs of the steps."""
        found = dict(contexts)
        exported = {key: self.value(text, found) for key, text in found["env"].items()}
        for number, step in enumerate(step for step in job.get("steps", []) if "run" in step):
            files = {name: self.tools.folder / f"{name}-{number}" for name in ("GITHUB_ENV", "GITHUB_OUTPUT")}
            for path in files.values():
                path.write_text("", encoding="utf-8")
            variables = {key: self.value(text, found) for key, text in step.get("env", {}).items()}
            environment = self.tools.environment(
                **exported,
                GITHUB_ACTOR="jo",
                GITHUB_REF_NAME=self.contexts["github"]["ref_name"],
                **{name: str(path) for name, path in files.items()},
                **variables,
            )
            shell(step["run"], self.service, environment)
            exported |= passed(files["GITHUB_ENV"])
            outputs = {f"{step.get('id')}.outputs.{key}": text for key, text in passed(files["GITHUB_OUTPUT"]).items()}
            found["steps"] = {**found.get("steps", {}), **outputs}
        return found

    def value(self, text: Any, contexts: Mapping[str, Mapping[str, str]]) -> str:
        """Return a text with the values of its expressions: a name, or a choice between two words."""

        def evaluate(match: re.Match[str]) -> str:
            name, _, choice = match[1].partition(" && ")
            context, _, key = name.partition(".")
            value = contexts.get(context, {}).get(key, "")
            if not choice:
                return value
            chosen = re.fullmatch(r"'(.*)' \|\| '(.*)'", choice)
            assert chosen, match[0]
            return chosen[1 if value not in ("", "False") else 2]

        return re.sub(r"\$\{\{ (.*?) \}\}", evaluate, str(text))


def passed(file: Path) -> dict[str, str]:
    """Return the values that a step has written for later steps: `name=value`, or several lines with a delimiter."""
    found: dict[str, str] = {}
    lines = iter(file.read_text(encoding="utf-8").splitlines())
    for line in lines:
        name, delimiter, rest = re.split(r"(<<|=)", line, maxsplit=1)
        if delimiter == "<<":
            value: list[str] = []
            while (line := next(lines)) != rest:
                value.append(line)
            rest = "\n".join(value)
        found[name] = rest
    return found


def shell(script: str, cwd: Path, environment: Mapping[str, str]) -> str:
    """Run a step as GitHub does."""
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    return done.stdout


def commit(service: Path, tag: str) -> None:
    """Put a service into a repository, at a tag."""
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com"]
    for arguments in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-qm", "The service"], ["tag", tag]):
        subprocess.run([*git, *arguments], cwd=service, check=True)
    subprocess.run(["git", "remote", "add", "origin", "git@gitlab.com:acme/orders.git"], cwd=service, check=True)
