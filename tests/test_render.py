"""Every pair of answers renders; each render is formatted, clean, owned and what its linters expect."""

import hashlib
import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pytest
import render_rules
from linters import LINTERS, Linter, parse, shell_steps
from pathspec import GitIgnoreSpec
from questions import ROOT, read_yaml
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
def distinct(renders: list[Render]) -> dict[tuple[str, str], tuple[Render, str]]:
    """Every different content of every path in the matrix, with a render that holds it: what there is to lint."""
    found: dict[tuple[str, str], tuple[Render, str]] = {}
    for render in renders:
        for path, content in render.files().items():
            found.setdefault((path, hashlib.sha256(content).hexdigest()), (render, path))
    return found


def test_every_pair_of_answers_is_in_the_matrix() -> None:
    """Counted anew: each two values that may stand together do so in some row, and no row holds what is not offered."""
    rows, offers = matrix(), factors()
    everything = [dict(zip(offers, row, strict=True)) for row in product(*offers.values())]
    possible = [row for row in everything if offered(row)]
    assert all(row in possible for row in rows)

    def pairs(table: list[dict[str, Any]]) -> set[str]:
        return {repr(sorted(pair)) for row in table for pair in combinations(row.items(), 2)}

    assert pairs(rows) == pairs(possible)
    assert len(rows) < len(possible) / 4
    lacking = [row for row in rows if (row["framework"], row["database"]) != ("flask", "none")]
    assert pairs(lacking) != pairs(possible), "a missing pair would not be seen"


def test_the_fast_way_renders_what_copier_renders(
    renderer: Renderer, render: Callable[..., Path], tmp_path: Path
) -> None:
    """The shared environment of the matrix gives the bytes of a plain run, but for where the template lay."""
    answers = {"framework": "flask", "license": "apache-2.0", "owner": "Acme"}
    quick = renderer(tmp_path / "quick", answers).files()
    plain = Render(render(**answers), {}).files()
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
    """No file of what was not chosen is in a render, and none of what was chosen is missing."""
    everything = {path for render in renders for path in render.files()}
    for render in renders:
        chosen, files = render.answers, set(render.files())
        package = f"src/{chosen['package_name']}/chassis"
        for name in ("fastapi", "flask"):
            assert (f"{package}/web/{name}.py" in files) == (name == chosen["framework"])
        for name in ("asgi", "wsgi"):
            mine = {path for path in everything if path.startswith(package) and path.endswith(f"/{name}.py")}
            wanted = {path for path in mine if "/database/" not in path or chosen["storage"] == "sql"}
            assert files & mine == (wanted if name == chosen["interface"] else set())
        assert any(path.startswith(f"{package}/database/") for path in files) == (chosen["storage"] == "sql")
        assert any(path.startswith("migrations/") for path in files) == (chosen["storage"] == "sql")
        assert ("compose.yaml" in files) == ("compose" in chosen["deployment"])
        assert any(path.startswith(".github/") for path in files) == (chosen["ci"] == "github")


def test_a_package_called_like_a_file_of_an_option_keeps_its_source(renderer: Renderer, tmp_path: Path) -> None:
    """What is pruned is pruned in its place: a package called `asgi` loses nothing."""
    render = renderer(tmp_path, {"package_name": "asgi", "framework": "flask", "database": "none"})
    assert (render.path / "src/asgi/main.py").exists()
    assert (render.path / "src/asgi/chassis/service.py").exists()


def test_renders_have_no_scars(renders: list[Render]) -> None:
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


SCARS = {
    "a tag": {"a.md": b"# {{ service_name }}\n"},
    "a blank line at the start": {"a.md": b"\n# a\n"},
    "blank lines in a row": {"a.md": b"# a\n\n\nb\n"},
    "a space at the end of a line": {"a.md": b"# a \n"},
    "not one line feed at the end": {"a.md": b"# a\n\n"},
    "a carriage return": {"a.md": b"# a\r\n"},
}


@pytest.mark.parametrize("fault", SCARS)
def test_a_planted_scar_is_seen(fault: str) -> None:
    """Each kind of scar is named when it is planted."""
    assert render_rules.text_is_clean(SCARS[fault], ROOT) == [f"a.md: {fault}"]


def test_a_false_condition_round_a_whole_file_is_seen() -> None:
    """A file that is one line feed, as a false condition round its whole text leaves it, is a scar."""
    assert render_rules.text_is_clean({"a.md": b"\n"}, ROOT)
    assert not render_rules.text_is_clean({"__init__.py": b""}, ROOT)


def test_a_planted_empty_folder_is_seen(tmp_path: Path) -> None:
    """A folder that pruning emptied is named."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert render_rules.folders_are_not_empty(tmp_path) == ["a/b: an empty folder"]


@pytest.mark.parametrize("path", ["stray.md", "src/orders/main.py"])
def test_a_file_without_one_owner_is_seen(path: str) -> None:
    """A file that nobody owns, or two do, is named."""
    table = {"yours": ["/src/orders/main.py"], "shared": ["/src/orders/*"]}
    assert len(render_rules.files_have_one_owner({path: b""}, table)) == 1


def test_every_file_parses(renders: list[Render]) -> None:
    """Every YAML, TOML and JSON file of every render is well formed."""
    for render in renders:
        for path, content in render.files().items():
            if path.endswith(PARSED):
                assert parse(path, content) is not None


@pytest.mark.parametrize(("path", "content"), [("a.yml", b"a: b: c\n"), ("a.toml", b"a = \n"), ("a.json", b"{a: 1}\n")])
def test_a_planted_syntax_error_is_seen(path: str, content: bytes) -> None:
    """A file that is not well formed is refused."""
    with pytest.raises(ValueError, match=r"."):
        parse(path, content)


def test_json_is_formatted(renders: list[Render]) -> None:
    """JSON is indented by two spaces, as its owner's editor would leave it."""
    for render in renders:
        for path, content in render.files().items():
            if path.endswith(".json"):
                assert content.decode() == json.dumps(json.loads(content), indent=2, ensure_ascii=False) + "\n"


def _ruff(tool: Callable[[str], str], folder: Path) -> str:
    """What ruff says against a service, unused imports and idle `noqa` included."""
    said = ""
    for command in (["check", "--extend-select=F401,RUF100"], ["format", "--check", "--diff"]):
        run = [tool("ruff"), *command, "--no-cache", "--quiet", "."]
        result = subprocess.run(run, cwd=folder, capture_output=True, text=True, check=False)
        said += result.stdout + result.stderr if result.returncode else ""
    return said


def test_python_is_linted_and_formatted(tool: Callable[[str], str], renders: list[Render]) -> None:
    """Ruff finds nothing in any render: no unused import, no idle `noqa`, and nothing to format."""
    assert {_ruff(tool, render.path) for render in renders} == {""}


@pytest.mark.parametrize("text", ["import os\n", "x = 1  # noqa: E501\n", "x=1\n"], ids=["import", "noqa", "format"])
def test_a_planted_python_scar_is_seen(text: str, tool: Callable[[str], str], tmp_path: Path) -> None:
    """An unused import, an idle `noqa` and unformatted code are each found."""
    (tmp_path / "a.py").write_text(text, encoding="utf-8")
    assert "a.py" in _ruff(tool, tmp_path)


@pytest.mark.parametrize("name", LINTERS)
def test_the_linter_finds_nothing(
    name: str, tool: Callable[[str], str], distinct: Mapping[Any, tuple[Render, str]]
) -> None:
    """Each file of the matrix is what its own linter expects, and each linter has a file to judge."""
    linter, judged = LINTERS[name], 0
    for render, path in distinct.values():
        if linter.files({path: (render.path / path).read_bytes()}):
            judged += 1
            assert not linter.lint(tool, render.path, [path])
    assert judged


FAULTS: Mapping[str, tuple[str, str]] = {
    "hadolint": ("Dockerfile", "FROM python\nRUN cd /tmp\n"),
    "compose": ("compose.yaml", "services: {app: {imagee: x}}\n"),
    "workflows": (".github/workflows/ci.yml", "on: push\njobs: {a: {runs_on: x}}\n"),
    "dependabot": (".github/dependabot.yml", "version: 3\n"),
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


def _steps(distinct: Mapping[Any, tuple[Render, str]]) -> Iterator[str]:
    workflows: Linter = LINTERS["workflows"]
    for render, path in distinct.values():
        content = (render.path / path).read_bytes()
        if workflows.files({path: content}):
            yield from shell_steps(content)


def test_the_shell_of_workflows_is_clean(
    tool: Callable[[str], str], distinct: Mapping[Any, tuple[Render, str]], tmp_path: Path
) -> None:
    """Every `run:` step of every workflow passes shellcheck."""
    for number, step in enumerate(_steps(distinct)):
        (tmp_path / f"{number}.sh").write_text(step, encoding="utf-8")
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files
    assert not LINTERS["shellcheck"].lint(tool, tmp_path, files)


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


@pytest.mark.parametrize("stack", sorted(path.stem for path in (ROOT / "tests/answers").glob("*.yml")))
def test_the_named_stack_renders_without_trust(
    stack: str, tool: Callable[[str], str], template: Path, tmp_path: Path
) -> None:
    """`copier copy --data-file` renders each named stack; nothing asks for trust, and it says what to type next."""
    data = ROOT / f"tests/answers/{stack}.yml"
    command = ["copy", "--defaults", "--data-file", str(data), str(template), str(tmp_path / "service")]
    run = subprocess.run([tool("copier"), *command], capture_output=True, text=True, check=True)
    recorded = read_yaml(tmp_path / "service/.copier-answers.yml")
    assert recorded.items() >= read_yaml(data).items()
    assert f"cd {tmp_path / 'service'}" in run.stderr
    assert "make setup" in run.stderr
