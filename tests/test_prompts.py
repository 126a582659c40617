"""The prompts as people meet them: in a pseudo-terminal with arrow keys, and through questionary's own pipe input."""

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pexpect
import pyte
import pytest
from copier import run_copy
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput
from questions import asked, metadata, read_yaml

UP, DOWN, ENTER, CLEAR = "\x1b[A", "\x1b[B", "\r", "\x15"
COLUMNS, LINES = 80, 60
# On a busy machine; a program that has ended is not waited for.
PATIENCE_SECONDS = 180.0
# By which a program asks where the cursor is.
WHERE = "\x1b[6n"


class Terminal:
    """A program in a pseudo-terminal, and what its screen shows."""

    def __init__(self, command: list[str]) -> None:
        self.child = pexpect.spawn(command[0], command[1:], dimensions=(LINES, COLUMNS), encoding="utf-8")
        self.screen = pyte.Screen(COLUMNS, LINES)
        self.stream = pyte.Stream(self.screen)
        self.unanswered, self.ended = "", False

    def read(self) -> str:
        """The screen, once what the program has written by now is on it."""
        try:
            text = self.child.read_nonblocking(65536, timeout=0.05)
        except (pexpect.TIMEOUT, pexpect.EOF) as nothing:
            self.ended, text = isinstance(nothing, pexpect.EOF), ""
        self.stream.feed(text)
        # A terminal answers every question, one that comes in two pieces too.
        *questions, self.unanswered = (self.unanswered + text).split(WHERE)
        for _ in questions:
            self.child.send(f"\x1b[{self.screen.cursor.y + 1};{self.screen.cursor.x + 1}R")
        self.unanswered = self.unanswered[1 - len(WHERE) :]
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    def wait(self, *words: str) -> str:
        """The screen as soon as it shows all of these."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not all(word in (shown := self.read()) for word in words):
            assert time.monotonic() < end, f"waited for {words} and saw:\n{shown}"
            assert not self.ended, f"it ended without {words}, and showed:\n{shown}"
        return shown

    def press(self, *keys: str) -> None:
        """Type keys."""
        for key in keys:
            self.child.send(key)

    def finish(self) -> int:
        """The exit code, once the program has ended."""
        end = time.monotonic() + PATIENCE_SECONDS
        while self.child.isalive():
            assert time.monotonic() < end, f"it does not end:\n{self.read()}"
            self.read()
        self.read()
        self.child.close()
        return int(self.child.exitstatus or 0)


@pytest.fixture
def prompts(tool: Callable[[str], str], template: Path, tmp_path: Path) -> Iterator[Terminal]:
    """`copier copy`, as a person types it."""
    terminal = Terminal([tool("copier"), "copy", str(template), str(tmp_path / "service")])
    yield terminal
    terminal.child.close(force=True)


def ask(name: str) -> str:
    """The words that show a question is asked."""
    return str(asked()[name]["help"])


def test_a_person_answers_with_the_arrow_keys(prompts: Terminal, tmp_path: Path) -> None:
    """Labels are shown, values recorded, and each default is one key away."""
    prompts.wait(ask("project_name"), "My Service")
    prompts.press(CLEAR, "Order Book", ENTER)
    prompts.wait(ask("service_name"), "order-book")
    prompts.press(ENTER)
    prompts.wait(ask("package_name"), "order_book")
    prompts.press(ENTER)
    prompts.wait(ask("description"), "Order Book keeps notes")
    prompts.press(ENTER)
    prompts.wait(ask("owner"), "Your Team")
    prompts.press(CLEAR, "Acme", ENTER)
    prompts.wait(ask("repository"), "acme/order-book")
    prompts.press(ENTER)
    for name, keys in {
        "framework": [DOWN, ENTER],
        "database": [UP, ENTER],
        "python_version": [UP, ENTER],
        "features": [" ", DOWN, DOWN, " ", ENTER],
        "monitoring": [" ", DOWN, " ", ENTER],
        "deployment": [" ", ENTER],
        "ci": [ENTER],
        "license": [DOWN, DOWN, ENTER],
    }.items():
        prompts.wait(ask(name), *(f"{row['label']} - {row['summary']}" for row in metadata(name).values()))
        prompts.press(*keys)
    chosen = prompts.wait("make setup")
    assert "Order Book: Flask, No database, Deploy check, Sentry, Python 3.12" in chosen
    assert "the image alone, GitHub Actions, BSD 3-Clause License" in chosen
    assert prompts.finish() == 0
    recorded = read_yaml(tmp_path / "service/.copier-answers.yml")
    assert "cache" not in recorded
    assert (
        recorded.items()
        >= {
            "framework": "flask",
            "database": "none",
            "features": ["deploy-check"],
            "monitoring": ["sentry"],
            "python_version": "3.12",
            "deployment": [],
            "ci": "github",
            "license": "bsd-3-clause",
        }.items()
    )


def test_a_disabled_entry_shows_its_reason(prompts: Terminal, tmp_path: Path) -> None:
    """Without a repository GitHub's CI is shown with the reason why not, and the arrow keys pass it by."""
    for name in ("project_name", "service_name", "package_name", "description", "owner"):
        prompts.wait(ask(name))
        prompts.press(ENTER)
    prompts.wait(ask("repository"), "your-team/my-service")
    prompts.press(CLEAR, ENTER)
    for name in ("framework", "database", "python_version", "features", "cache", "monitoring", "deployment"):
        prompts.wait(ask(name))
        prompts.press(ENTER)
    prompts.wait(ask("ci"), "GitHub Actions - checks every push (github needs repository as owner/name)")
    prompts.press(UP, UP, ENTER)  # to GitLab, and past GitHub back to the last entry
    prompts.wait(ask("license"))
    prompts.press(ENTER)
    assert prompts.finish() == 0
    assert read_yaml(tmp_path / "service/.copier-answers.yml")["ci"] == "none"


def test_a_bad_answer_is_explained_and_can_be_corrected(prompts: Terminal, tmp_path: Path) -> None:
    """The validator's sentence stands there until the answer is good; stopping then leaves nothing behind."""
    for name in ("project_name", "service_name"):
        prompts.wait(ask(name))
        prompts.press(ENTER)
    prompts.wait(ask("package_name"), "my_service")
    prompts.press(CLEAR, "json", ENTER)
    prompts.wait("'package_name': use json_service: ")
    prompts.press("_orders", ENTER)
    prompts.wait(ask("description"))
    prompts.press("\x03")
    assert prompts.finish() == 1
    assert not (tmp_path / "service").exists()


@pytest.fixture
def keys() -> Iterator[PipeInput]:
    """A keyboard made of a pipe, for prompts of this process."""
    with create_pipe_input() as pipe, create_app_session(input=pipe, output=DummyOutput()):
        yield pipe


@pytest.fixture(scope="session")
def questionnaire(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template with its questions and the answers file alone, which renders in a moment."""
    folder = tmp_path_factory.mktemp("questionnaire")
    shutil.copytree(template / "options", folder / "options")
    shutil.copy(template / "copier.yml", folder)
    (folder / "template").mkdir()
    shutil.copy(template / "template/{{_copier_conf.answers_file}}.jinja", folder / "template")
    return folder


def answer(keys: PipeInput, typed: list[str], questionnaire: Path, destination: Path) -> dict[str, Any]:
    """Type ahead, one entry for each question, and return what was recorded."""
    keys.send_text("".join(typed))
    run_copy(str(questionnaire), destination, quiet=True)
    recorded: dict[str, Any] = read_yaml(destination / ".copier-answers.yml")
    return {name: value for name, value in recorded.items() if not name.startswith("_")}


def test_enter_alone_takes_every_default(keys: PipeInput, questionnaire: Path, tmp_path: Path) -> None:
    """One key for each question, and the answers are those of `--defaults`."""
    recorded = answer(keys, [ENTER] * len(asked()), questionnaire, tmp_path)
    run_copy(str(questionnaire), tmp_path / "defaults", defaults=True, quiet=True)
    defaults = read_yaml(tmp_path / "defaults/.copier-answers.yml")
    assert recorded == {name: value for name, value in defaults.items() if not name.startswith("_")}
    assert list(recorded) == sorted([*asked(), "domain_storage"])


@pytest.mark.parametrize("question", ["framework", "database", "cache", "python_version", "ci", "license"])
def test_every_choice_can_be_reached(question: str, keys: PipeInput, questionnaire: Path, tmp_path: Path) -> None:
    """Going down from the default and round, each value is chosen once and in order."""
    chosen = []
    values = list(metadata(question))
    for steps in range(len(values)):
        typed = [DOWN * steps + ENTER if name == question else ENTER for name in asked()]
        chosen.append(answer(keys, typed, questionnaire, tmp_path / str(steps))[question])
    first = values.index(chosen[0])
    assert chosen == values[first:] + values[:first]


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of prompt_toolkit are POSIX pipes")
def test_a_bad_answer_is_asked_again(keys: PipeInput, questionnaire: Path, tmp_path: Path) -> None:
    """Enter on an invalid answer does not continue; the next input corrects it."""
    typed = [ENTER] * len(asked())
    typed[2] = CLEAR + "class" + ENTER + "ic" + ENTER
    assert answer(keys, typed, questionnaire, tmp_path)["package_name"] == "classic"
