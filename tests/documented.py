"""The commands in the documents of a service, and a walk through them.

A test declares with `walks` the sections whose commands it runs. Afterwards the fixture `walk` asserts that every
command ran, in the order of the document. So the declarations are a list of the commands that are tested.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from live import run
from rendering import Render, Renderer

# A fenced block with its language, or a heading.
PART = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$|^#+ ([^\n]+)$", re.MULTILINE | re.DOTALL)
# One name for all containers, images and volumes of these services.
NAMES = {"service_name": "seaworthy-docs", "package_name": "seaworthy_docs"}
ENVIRONMENT = re.compile(r"export \w+=\S+")


@dataclass(frozen=True)
class Command:
    """A command of a document, and where it is: `docs/backup.md: The key`."""

    section: str
    text: str

    def of_any_service(self, answers: Mapping[str, Any]) -> "Command":
        """Return the command without the names of this service, so that commands of two services can be compared."""
        text = self.text
        for name in NAMES:
            text = re.sub(rf"(?<![\w-]){re.escape(answers[name])}\b", f"<{name}>", text)
        return Command(self.section, text)


@dataclass(frozen=True)
class Walks:
    """The sections whose commands a test runs, in a service with these answers."""

    answers: Mapping[str, Any]
    sections: tuple[str, ...]
    service: str

    def commands(self, files: Mapping[str, bytes]) -> list[Command]:
        """Return the commands of the sections; each section has some."""
        found = [command for command in commands(files) if command.section in self.sections]
        assert {command.section for command in found} == set(self.sections)
        return found


DECLARED: list[Walks] = []


def walks(*stacks: Mapping[str, str], sections: Sequence[str], service: str = "connected") -> pytest.MarkDecorator:
    """Declare that a test runs these sections on each stack. `service` names the fixture that makes one."""
    declared = [Walks({**NAMES, **answers}, tuple(sections), service) for answers in stacks]
    DECLARED.extend(declared)
    return pytest.mark.parametrize("walk", declared, ids=["-".join(row.values()) for row in stacks], indirect=True)


def blocks(files: Mapping[str, bytes]) -> Iterator[tuple[str, str, str]]:
    """Yield section, language and text of each fenced block of the documents."""
    for path in sorted(path for path in files if path.endswith(".md")):
        heading = ""
        for part in PART.finditer(files[path].decode()):
            if part[4]:
                heading = part[4]
            else:
                yield f"{path}: {heading}", part[2], part[3]


def commands(files: Mapping[str, bytes]) -> Iterator[Command]:
    """Yield each command of the documents. A command ends with a line that does not continue in the next one."""
    for section, language, text in blocks(files):
        if language == "sh":
            for command in re.findall(r"(?:.*\\\n)*.+", text):
                yield Command(section, command)


def forms(render: Render) -> set[Command]:
    """Return the commands of a render without the names of its service."""
    return {command.of_any_service(render.answers) for command in commands(render.files())}


def declared_forms(renderer: Renderer, folder: Path) -> set[Command]:
    """The commands that tests run, by their declarations."""
    renders: dict[str, Render] = {}
    found = set()
    for each in DECLARED:
        key = repr(each.answers)
        render = renders.setdefault(key, renders.get(key) or renderer(folder / str(len(renders)), each.answers))
        found |= {command.of_any_service(render.answers) for command in each.commands(render.files())}
    return found


class Walk:
    """Runs the commands of a service's documents, one section after the other."""

    def __init__(self, service: Path, left: list[Command]) -> None:
        self.service = service
        self.left = left
        self.exported: list[str] = []

    def take(self, section: str, count: int | None = None) -> list[str]:
        """Return the next commands of a section, by default all, which the caller runs."""
        taken = [command for command in self.left if command.section == section][:count]
        assert taken, f"{section} has no more commands"
        self.left = [command for command in self.left if command not in taken]
        return [command.text for command in taken]

    def shell(self, section: str, count: int | None = None, values: Mapping[str, str] | None = None) -> str:
        """Run the next commands of a section as a person would paste them, with values for their placeholders."""
        script = "\n".join(self.take(section, count))
        for placeholder, value in (values or {}).items():
            assert placeholder in script
            script = script.replace(placeholder, value)
        said = self.run(script)
        self.exported += ENVIRONMENT.findall(script)
        return said

    def run(self, script: str) -> str:
        """Run other commands in the same folder, with the variables that a section has exported."""
        return run("bash", "-ec", "\n".join([*self.exported, script]), cwd=self.service)
