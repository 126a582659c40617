"""A bad answer stops before anything is written, with one sentence that names the answer and the remedy."""

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from questions import asked
from releases import commit
from rendering import Renderer

# The answer, and what the one sentence must hold: the answer's name, its value and what to do.
BAD: list[tuple[dict[str, Any], list[str]]] = [
    ({"project_name": ""}, ["project_name", "give it a few words"]),
    ({"project_name": "   "}, ["project_name", "give it a few words"]),
    ({"project_name": "My\nService"}, ["project_name", r"My\nService", "leave out"]),
    ({"project_name": 'The "Best"'}, ["project_name", "quotes", "leave out"]),
    ({"project_name": "x" * 61}, ["project_name", "it has 61", "shorten it to 60"]),
    ({"description": "costs $5"}, ["description", "$", "leave out"]),
    ({"description": "a\x00b"}, ["description", "control character", "leave out"]),
    ({"description": "Orders. "}, ["description", "Orders. ", "take the spaces off"]),
    ({"owner": ""}, ["owner", "give it a few words"]),
    ({"service_name": ""}, ["service_name", "32 at most"]),
    ({"service_name": "My Service"}, ["service_name", "My Service", "32 at most"]),
    ({"service_name": "-orders"}, ["service_name", "-orders", "32 at most"]),
    ({"service_name": "orders\n"}, ["service_name", r"orders\n", "32 at most"]),
    ({"service_name": "x" * 33}, ["service_name", "32 at most"]),
    ({"service_name": "on"}, ["service_name", '"on"', "on-service"]),
    ({"package_name": ""}, ["package_name", "32 at most"]),
    ({"package_name": "my-service"}, ["package_name", "my-service", "32 at most"]),
    ({"package_name": "1orders"}, ["package_name", "1orders", "32 at most"]),
    ({"package_name": "größe"}, ["package_name", "größe", "32 at most"]),
    ({"package_name": "../orders"}, ["package_name", "../orders", "32 at most"]),
    ({"package_name": "/tmp/orders"}, ["package_name", "/tmp/orders", "32 at most"]),  # noqa: S108 - never made
    ({"package_name": "orders\n"}, ["package_name", r"orders\n", "32 at most"]),
    ({"package_name": "json"}, ["package_name", "json", "module of the standard library", "json_service"]),
    ({"package_name": "test"}, ["package_name", "test", "module of the standard library", "test_service"]),
    ({"package_name": "annotationlib"}, ["package_name", "module of the standard library", "annotationlib_service"]),
    ({"package_name": "sqlalchemy"}, ["package_name", "library the service uses", "sqlalchemy_service"]),
    ({"package_name": "pydantic_settings"}, ["package_name", "library the service uses", "pydantic_settings_service"]),
    ({"package_name": "class"}, ["package_name", "keyword", "class_service"]),
    ({"package_name": "tests"}, ["package_name", "folder of the service", "tests_service"]),
    ({"repository": "orders"}, ["repository", "orders", "owner/name"]),
    ({"repository": "acme/.."}, ["repository", "acme/..", "owner/name"]),
    ({"repository": "https://github.com/acme/orders"}, ["repository", "https://", "owner/name"]),
    ({"framework": "django"}, ["framework", "django", "fastapi"]),
    ({"framework": "FastAPI"}, ["framework", "FastAPI", "fastapi"]),
    ({"database": "oracle"}, ["database", "oracle", "sqlite"]),
    ({"database": "none", "domain_storage": "sql"}, ["'database'", "keep a database", "domain_storage=memory"]),
    ({"domain_storage": "disk"}, ["domain_storage", "disk", "sql"]),
    ({"features": ["backup"], "database": "none"}, ["'features'", "backup needs a database"]),
    ({"features": ["cache", "billing"]}, ["features", "billing", "data-files"]),
    ({"monitoring": ["prometheus", "statsd"]}, ["monitoring", "statsd", "sentry"]),
    ({"cache": "memcached"}, ["cache", "memcached", "memory"]),
    ({"python_version": "3.10"}, ["python_version", "3.10", "3.11"]),
    ({"deployment": ["compose", "ecs"]}, ["deployment", "ecs", "compose"]),
    ({"license": "gpl"}, ["license", "gpl", "mit"]),
    ({"ci": "github", "repository": ""}, ["'ci'", "github needs repository as owner/name"]),
    ({"freamwork": "flask"}, ["freamwork", "not a question", "framework"]),
    ({"handlers": "sync"}, ["handlers", "not a question", "framework"]),
]


def name(answers: Mapping[str, Any]) -> str:
    """The answers as the name of a test."""
    return ",".join(f"{question}={value!r}"[:40] for question, value in answers.items())


@pytest.mark.parametrize(("answers", "words"), BAD, ids=[name(answers) for answers, _ in BAD])
def test_a_bad_answer_stops_before_anything_is_written(
    answers: dict[str, Any], words: list[str], renderer: Renderer, tmp_path: Path
) -> None:
    """One short sentence names the answer and the remedy, and there is no folder."""
    with pytest.raises(ValueError, match=r"\w") as refusal:
        renderer(tmp_path / "service", answers)
    sentence = str(refusal.value)
    assert all(word in sentence for word in words), sentence
    assert "\n" not in sentence
    assert len(sentence) < 320
    assert not (tmp_path / "service").exists()


def test_every_question_has_a_bad_answer_here() -> None:
    """No question takes whatever it is given."""
    assert {question for answers, _ in BAD for question in answers} >= set(asked())


@pytest.mark.parametrize(
    ("project_name", "service_name", "package_name"),
    [
        ("Orders", "orders", "orders"),
        ("Order Book 2", "order-book-2", "order_book_2"),
        ("Email", "email", "email_service"),
        ("Flask", "flask", "flask_service"),
        ("Class", "class", "class_service"),
        ("On", "on-service", "on_service"),
        ("2fast", "service-2fast", "service_2fast"),
        ("注文", "service", "service"),
        ("--", "service", "service"),
        ("x" * 60, "x" * 32, "x" * 32),
    ],
)
def test_names_that_follow_from_the_project_are_good(
    project_name: str, service_name: str, package_name: str, renderer: Renderer, tmp_path: Path
) -> None:
    """Whatever a service is called, the defaults that follow are accepted; a bad one would end the prompts."""
    render = renderer(tmp_path, {"project_name": project_name})
    assert render.answers["service_name"] == service_name
    assert render.answers["package_name"] == package_name


def test_an_owner_without_latin_letters_has_a_repository(renderer: Renderer, tmp_path: Path) -> None:
    """An owner's name that leaves no letter for a slug still gives a repository that is accepted."""
    assert renderer(tmp_path, {"owner": "注文"}).answers["repository"] == "owner/my-service"


Copier = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def copy(tool: Callable[[str], str], template: Path) -> Copier:
    """Run the real `copier copy` without a terminal."""

    def run(destination: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [tool("copier"), "copy", "--defaults", *arguments, str(template), str(destination)]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)

    return run


def test_the_command_line_ends_with_the_sentence(copy: Copier, tmp_path: Path) -> None:
    """`copier copy` fails, its last line is the sentence, and no folder is made."""
    run = copy(tmp_path / "service", "-d", "package_name=json")
    assert run.returncode == 1
    assert (
        run.stderr.rstrip()
        .split("\n")[-1]
        .endswith("'package_name': use json_service: \"json\" is taken by a module of the standard library.")
    )
    assert not (tmp_path / "service").exists()


@pytest.fixture
def unfinished(tmp_path: Path) -> Path:
    """A repository with work that is not committed: a changed README and a new file."""
    folder = tmp_path / "work"
    (folder / "src").mkdir(parents=True)
    (folder / "README.md").write_text("committed\n", encoding="utf-8")
    commit(folder, "What is finished")
    (folder / "README.md").write_text("not committed\n", encoding="utf-8")
    (folder / "src/notes.txt").write_text("new\n", encoding="utf-8")
    return folder


def test_a_bad_answer_leaves_unfinished_work_alone(copy: Copier, unfinished: Path) -> None:
    """A bad answer for a folder that is in use adds nothing to it."""
    before = sorted(path for path in unfinished.rglob("*") if ".git" not in path.parts)
    assert copy(unfinished, "-d", "framework=django").returncode == 1
    assert sorted(path for path in unfinished.rglob("*") if ".git" not in path.parts) == before


def test_rendering_into_unfinished_work_loses_nothing(copy: Copier, unfinished: Path) -> None:
    """A render into a folder with uncommitted work stops at a file that differs, and changes no file that was there."""
    run = copy(unfinished)
    assert run.returncode == 1
    assert "--overwrite" in run.stderr.rstrip().split("\n")[-1]
    assert (unfinished / "README.md").read_text(encoding="utf-8") == "not committed\n"
    assert (unfinished / "src/notes.txt").read_text(encoding="utf-8") == "new\n"


def test_an_update_of_unfinished_work_is_refused(tool: Callable[[str], str], render: Callable[..., Path]) -> None:
    """`copier update` in a folder with uncommitted work changes nothing and says what to do first."""
    service = render()
    commit(service, "The service")
    (service / "LICENSE").write_text("not committed\n", encoding="utf-8")
    command = [tool("copier"), "update", "--defaults"]
    run = subprocess.run(command, cwd=service, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "commit or stash" in run.stderr
    assert (service / "LICENSE").read_text(encoding="utf-8") == "not committed\n"
