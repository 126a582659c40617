"""Every pair of answers renders, and each render is formatted, clean, owned and accepted by its linters."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pytest
import render_rules
from environments import connect
from linters import LINTERS, Linter, parse, shell_steps
from pathspec import GitIgnoreSpec
from questions import ROOT, read_yaml
from releases import commit
from rendering import Render, Renderer, factors, matrix, offered

PARSED = (".yaml", ".yml", ".toml", ".json")
# Answers that are allowed and yet could break the syntax of a file they stand in.
AWKWARD = {
    "project_name": "'Tis: #1 & Söhne's {shop} %s -",
    "package_name": "a" * 32,
    "service_name": "a" * 32,
    "description": "- it's 100 % {ready}: yes, #1 [and] <more> & | > * ! ? @ ~ '".ljust(100, "x"),
    "owner": "Jörg O'Hara: #1, & Söhne",
}
SHORT = {"project_name": "A", "package_name": "a", "service_name": "a"}


@pytest.fixture(scope="session")
def distinct(renders: list[Render], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every different content of every path in the matrix: what there is to lint."""
    folder = tmp_path_factory.mktemp("distinct")
    contents: dict[str, list[bytes]] = {}
    for render in renders:
        for path, content in render.files().items():
            found = contents.setdefault(path, [])
            if content not in found:
                found.append(content)
                copy = folder / str(len(found)) / path
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(content)
    return folder


def test_every_pair_of_answers_is_in_the_matrix() -> None:
    """Each two values that may stand together do so in some row, and every row is offered. Counted independently."""
    rows, offers = matrix(), factors()
    everything = (dict(zip(offers, row, strict=True)) for row in product(*offers.values()))
    assert all(map(offered, rows))

    def pairs(table: Iterable[dict[str, Any]]) -> set[Any]:
        hashable = ([(name, str(value)) for name, value in row.items()] for row in table)
        return {pair for row in hashable for pair in combinations(row, 2)}

    assert pairs(rows) == pairs(filter(offered, everything))


def test_the_fast_way_renders_what_copier_renders(
    renderer: Renderer, repository: Path, tool: Callable[[str], str], tmp_path: Path
) -> None:
    """The shared environment of the matrix gives the bytes of the command line, but for where the template lay."""
    answers = {"framework": "flask", "license": "apache-2.0", "owner": "Acme"}
    quick = renderer(tmp_path / "quick", answers).files()
    given = [part for name, value in answers.items() for part in ("-d", f"{name}={value}")]
    command = [tool("copier"), "copy", "--quiet", "--defaults", *given, str(repository), str(tmp_path / "plain")]
    subprocess.run(command, check=True)
    plain = Render(tmp_path / "plain", {}).files()
    quick_answers, plain_answers = (parse(".yml", files.pop(".copier-answers.yml"))[0] for files in (quick, plain))
    assert quick == plain
    assert quick_answers == {name: value for name, value in plain_answers.items() if name != "_commit"} | {
        "_src_path": quick_answers["_src_path"]
    }


def test_two_renders_are_the_same(renderer: Renderer, tmp_path: Path) -> None:
    """Neither the moment nor the folder shows in a render."""
    first, second = renderer(tmp_path / "one"), renderer(tmp_path / "folder" / "two")
    assert first.files() == second.files()
    assert [path.stat().st_mode for path in sorted(first.path.rglob("*"))] == [
        path.stat().st_mode for path in sorted(second.path.rglob("*"))
    ]


def test_only_what_was_chosen_is_rendered(renders: list[Render]) -> None:
    """No file of what was not chosen is in a render, and no file of what was chosen is missing."""
    everything = {path.replace("/a/", "/my_service/") for render in renders for path in render.files()}
    for render in renders:
        files = set(render.files())
        chosen = {value.replace("-", "_") for value in render.answers["chosen"]}
        chosen |= {"sql"} & {render.answers["storage"]}
        chosen |= {"stored"} & {render.answers["key_store"] * ("api_keys" in chosen)}
        chosen |= {"outbox"} & {"outbox" * ({"sql", "notifications"} <= chosen)}
        for name, brought in FILES.items():
            mine = {path for path in everything if re.search(brought, path)}
            assert mine, f"{name} brings no file"
            # Files that two choices bring exist if both were chosen.
            others = [other for value, other in FILES.items() if value not in chosen]
            wanted = {path for path in mine if not any(re.search(other, path) for other in others)}
            assert files & mine == (wanted if name in chosen else set()), name


# The files of each choice, by a pattern.
FILES = {
    "outbox": r"/notifications/outbox/|/test_notifications_outbox\.py$",
    "stored": r"/chassis/api_keys/(asyncio|sync|stored)\.py$",
    **{name: rf"/chassis/web/{name}\.py$" for name in ("fastapi", "flask")},
    **{name: rf"/chassis/(\w+/)+{name}\.py$" for name in ("asyncio", "sync")},
    **{
        name: rf"/chassis/(\w+/)*(test_(\w+_)?)?{name}(_\w+)?\.py$"
        for name in ("sqlite", "postgresql", "mysql", "duckdb")
    },
    **{name: rf"/chassis/(\w+/)*(test_(\w+_)?)?{name}\.py$" for name in ("memory", "redis")},
    **{
        name: rf"/chassis/{name}/(?!tools|service_socket)|/test_{name}(_\w+)?\.py$"
        for name in (
            "rate_limit",
            "backup",
            "deploy_check",
            "http_client",
            "cache",
            "data_files",
            "idempotency",
            "validators",
            "websocket",
            "notifications",
        )
    },
    "sql": r"/chassis/database/(?!pool|disk_space|file)|^migrations/",
    "compose": r"^compose\.yaml$",
    "aws": r"^deploy/aws/service/service\.tf$",
    "github": r"^\.github/(?!workflows/(chassis-)?deploy)",
    "gitlab": r"^\.gitlab",
}


def test_a_package_with_the_name_of_an_option_is_rendered_whole(renderer: Renderer, tmp_path: Path) -> None:
    """Patterns of what is pruned are anchored: a package called `sync` loses nothing."""
    render = renderer(tmp_path, {"package_name": "sync", "framework": "fastapi", "database": "none"})
    assert (render.path / "src/sync/main.py").exists()
    assert (render.path / "src/sync/chassis/app.py").exists()


def test_every_pruned_path_is_in_the_template(template: Path) -> None:
    """A file that is renamed is still pruned. The patterns of all values, which come first, need not match."""
    conditions = read_yaml(ROOT / "options/derived.yml")["pruned"]["default"].partition("{% endfor %}")[2]
    patterns = [line.strip() for line in conditions.splitlines() if line.strip().startswith("/")]
    paths = [path.relative_to(template / "template").as_posix() for path in (template / "template").rglob("*")]
    files = {re.sub(r"^\{\{on_\w+\}\}/|\.jinja$", "", path) for path in paths}
    idle = [path for path in patterns if not any(GitIgnoreSpec.from_lines([_any(path)]).match_files(files))]
    assert idle == []


def _any(pattern: str) -> str:
    """A pattern in which expressions match anything."""
    return re.sub(r"\{\{.*?\}\}", "*", pattern)


def test_renders_have_no_leftovers(renders: list[Render]) -> None:
    """No tag, no stray blank line, no empty folder in any render of the matrix."""
    faults = {fault for render in renders for fault in render_rules.text_is_clean(render.files(), ROOT)}
    faults |= {fault for render in renders for fault in render_rules.folders_are_not_empty(render.path)}
    assert not faults


def test_every_file_has_one_owner(renders: list[Render]) -> None:
    """Every rendered file is yours, the chassis's or shared, and no two of these."""
    faults = set()
    for render in renders:
        faults |= set(render_rules.files_have_one_owner(render.files(), render.answers["territories"]))
    assert not faults


def test_every_territory_pattern_owns_something(renders: list[Render]) -> None:
    """The table of ownership names nothing that is never rendered."""
    tables = [render.answers["territories"].values() for render in renders]
    patterns = {pattern for table in tables for found in table for pattern in found if not pattern.startswith("!")}
    files = {path for render in renders for path in render.files()}
    idle = [pattern for pattern in patterns if not any(GitIgnoreSpec.from_lines([pattern]).match_files(files))]
    assert not idle


def test_every_file_parses(renders: list[Render]) -> None:
    """Every YAML, TOML and JSON file of every render is well formed."""
    for render in renders:
        for path, content in render.files().items():
            if path.endswith(PARSED):
                assert parse(path, content) is not None


def test_json_is_formatted(renders: list[Render]) -> None:
    """JSON is indented by two spaces, as its owner's editor would leave it."""
    for render in renders:
        for path, content in render.files().items():
            if path.endswith(".json"):
                assert content.decode() == json.dumps(json.loads(content), indent=2, ensure_ascii=False) + "\n"


def _ruff(tool: Callable[[str], str], folder: Path) -> str:
    """Return the findings of ruff in a service, including unused imports and unused `noqa`."""
    said = ""
    for command in (["check", "--extend-select=F401,RUF100"], ["format", "--check", "--diff"]):
        run = [tool("ruff"), *command, "--no-cache", "--quiet", "."]
        result = subprocess.run(run, cwd=folder, capture_output=True, text=True, check=False)
        said += result.stdout + result.stderr if result.returncode else ""
    return said


def test_python_is_linted_and_formatted(tool: Callable[[str], str], renders: list[Render]) -> None:
    """Ruff finds nothing in any render: no unused import, no idle `noqa`, and nothing to format."""
    assert {_ruff(tool, render.path) for render in renders} == {""}


@pytest.mark.stacks
def test_types_of_every_render_are_right(
    renders: list[Render], installed: Path, libraries_in_mypy: Path, tmp_path: Path
) -> None:
    """mypy accepts every render of the matrix, whatever was chosen, with the libraries of every option installed."""
    for number, render in enumerate(renders):
        service = shutil.copytree(render.path, tmp_path / str(number))
        python = connect(service, installed)
        environment = {**os.environ, "MYPY_CACHE_DIR": str(libraries_in_mypy)}
        command = [str(python), "-m", "mypy"]
        done = subprocess.run(command, cwd=service, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (render.answers["framework"], render.answers["database"], done.stdout)


@pytest.mark.parametrize("name", LINTERS)
def test_the_linter_finds_nothing(name: str, tool: Callable[[str], str], distinct: Path) -> None:
    """Each file of the matrix is what its own linter expects, and each linter has a file to check."""
    files = _files_of(LINTERS[name], distinct)
    assert files
    assert not LINTERS[name].lint(tool, distinct, files)


def _files_of(linter: Linter, distinct: Path) -> list[str]:
    """The files that a linter checks. The first folder of a path is the number of its content."""
    found = []
    for folder in sorted(distinct.iterdir()):
        files = Render(folder, {}).files()
        found += [f"{folder.name}/{path}" for path in linter.files(files)]
    return found


FAULTS: Mapping[str, tuple[str, str]] = {
    "hadolint": ("Dockerfile", "FROM python\nRUN cd /tmp\n"),
    "compose": ("compose.yaml", "services: {app: {imagee: x}}\n"),
    "workflows": (".github/workflows/ci.yml", "on: push\njobs: {a: {runs_on: x}}\n"),
    "gitlab": (".gitlab-ci.yml", "code: {script: [make], imagee: x}\n"),
    "dependabot": (".github/dependabot.yml", "version: 3\n"),
    "renovate": ("renovate.json", '{"enabledManagers": "copier"}\n'),
    "zizmor": (
        ".github/workflows/ci.yml",
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n"
        "      - run: echo ${{ github.event.head_commit.message }}\n",
    ),
    "actionlint": (
        ".github/workflows/ci.yml",
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps: [{ruun: x}]\n",
    ),
    "shellcheck": ("a.sh", "#!/bin/sh\necho $1\n"),
    "terraform": ("a.tf", "locals {\n  a=1\n}\n"),
    "yamllint": ("a.yml", "a:   1\n"),
}


@pytest.mark.parametrize("name", LINTERS)
def test_the_linter_sees_a_planted_fault(name: str, tool: Callable[[str], str], tmp_path: Path) -> None:
    """Each linter is really run: it finds what is planted for it."""
    path, text = FAULTS[name]
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text(text, encoding="utf-8")
    linter = LINTERS[name]
    assert linter.files({path: text.encode()}) == [path]
    assert linter.lint(tool, tmp_path, [path])


def test_the_shell_of_workflows_is_clean(tool: Callable[[str], str], distinct: Path, tmp_path: Path) -> None:
    """Every `run:` step of every workflow passes shellcheck."""
    workflows = (distinct / path for path in _files_of(LINTERS["workflows"], distinct))
    for number, step in enumerate(step for path in workflows for step in shell_steps(path.read_bytes())):
        (tmp_path / f"{number}.sh").write_text(step, encoding="utf-8")
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files
    assert not LINTERS["shellcheck"].lint(tool, tmp_path, files)


@pytest.mark.parametrize(("answers", "said"), [
    ({"database": "sqlite"}, "make run"),
    ({"database": "postgresql", "deployment": ["compose"]},
     "make services, or the URL of your server in .env, then make run"),
    ({"database": "postgresql", "deployment": []}, "the URL of your server in .env, then make run"),
    ({"database": "sqlite", "cache": "redis", "deployment": []}, "the URL of your server in .env, then make run"),
], ids=["file", "containers", "server", "Redis"])  # fmt: skip
def test_make_setup_says_what_make_run_needs(
    answers: dict[str, Any], said: str, renderer: Renderer, tmp_path: Path
) -> None:
    makefile = renderer(tmp_path, answers).files()["Makefile"].decode()
    assert f'"Installed. Next: {said}"' in makefile


@pytest.mark.parametrize("answers", [AWKWARD, AWKWARD | SHORT | {"ci": "none"}], ids=["long", "short"])
def test_awkward_answers_break_nothing(
    answers: dict[str, str], renderer: Renderer, tool: Callable[[str], str], tmp_path: Path
) -> None:
    """Apostrophes, colons, hashes, braces, other alphabets, the longest and shortest names leave every file whole."""
    render = renderer(tmp_path / "service", answers)
    for path, content in render.files().items():
        if path.endswith(PARSED):
            parse(path, content)
    assert not _ruff(tool, render.path)
    for linter in LINTERS.values():
        if files := linter.files(render.files()):
            assert not linter.lint(tool, render.path, files)
    assert not render_rules.text_is_clean(render.files(), ROOT)
    project = parse("pyproject.toml", render.files()["pyproject.toml"])["project"]
    assert project["description"] == AWKWARD["description"]


@pytest.mark.parametrize("stack", ["fastapi-sqlite", "flask-none", "flask-sqlite-redis"])
def test_the_named_stack_renders_without_trust(
    stack: str, tool: Callable[[str], str], template: Path, tmp_path: Path
) -> None:
    """`copier copy --data-file` asks for no trust and prints what to type next."""
    data = ROOT / f"tests/answers/{stack}.yml"
    command = ["copy", "--defaults", "--data-file", str(data), str(template), str(tmp_path / "service")]
    run = subprocess.run([tool("copier"), *command], capture_output=True, text=True, check=True)
    recorded = read_yaml(tmp_path / "service/.copier-answers.yml")
    assert recorded.items() >= read_yaml(data).items()
    assert f"cd {tmp_path / 'service'}" in run.stderr
    assert "make setup" in run.stderr


def test_a_checkout_with_autocrlf_has_lf_line_endings(renderer: Renderer, tmp_path: Path) -> None:
    """A container runs no shell script that has CRLF, which git on Windows writes by default."""
    service = renderer(tmp_path / "service").path
    commit(service, "The service")
    command = ["git", "clone", "--quiet", "--config", "core.autocrlf=true", str(service), str(tmp_path / "clone")]
    subprocess.run(command, check=True)
    files = Render(tmp_path / "clone", {}).files().items()
    assert [path for path, content in files if b"\r\n" in content and not path.startswith(".git/")] == []
