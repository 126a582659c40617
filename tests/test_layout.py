"""The template follows every rule of its layout, and each rule reports a planted fault."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import layout_rules
import pytest
import python_rules
import release_rules
import render_rules
import shape_rules
import waiting_rules
from layout_rules import PACKAGE
from planting import Plant, Rule, each, put, seen, swap
from questions import ROOT
from releases import git, recorded
from rendering import Renderer

RULES: list[Rule] = [
    layout_rules.values_are_file_names,
    layout_rules.options_keep_to_their_places,
    layout_rules.templates_name_properties,
    layout_rules.conditions_are_few_and_flat,
    layout_rules.paths_are_plain,
    layout_rules.settings_are_strict,
    python_rules.python_is_python,
    python_rules.chassis_imports_nothing_around_it,
    python_rules.frameworks_are_imported_by_their_adapter,
    python_rules.features_are_imported_by_nobody,
    python_rules.packages_do_not_import_each_other,
    python_rules.events_are_plain_names,
    python_rules.settings_are_typed,
    python_rules.private_names_have_an_upper_bound,
    shape_rules.middleware_is_pure,
    shape_rules.functions_are_short,
    waiting_rules.nothing_waits_forever,
    render_rules.overlays_never_collide,
    render_rules.rendering_is_deterministic,
]
# The releases before the files of the chassis were renamed; `make upgrade` brings their services along.
RENAMED = {"0.1.0", "0.2.0", "0.2.1", "0.2.2", "0.2.3"}
PLAIN = f"{PACKAGE}/chassis/x.py"
# One fault for each rule, and what the rule says of it.
PLANTS: dict[Rule, tuple[Plant, str]] = {
    layout_rules.values_are_file_names: (
        swap("options/framework.yml", "    flask:", "    Flask:"),
        "Flask: not lower case",
    ),
    layout_rules.options_keep_to_their_places: (
        put("template/docs/sqlite-locks.md"),
        "template/docs/sqlite-locks.md: not a place of the option sqlite",
    ),
    layout_rules.templates_name_properties: (
        put("template/a.jinja", "{{ cache == 'redis' }}"),
        "template/a.jinja:1: names redis",
    ),
    layout_rules.conditions_are_few_and_flat: (
        put("template/a.jinja", "{% if x %}{% if y %}{% endif %}{% endif %}"),
        "template/a.jinja:1: a condition in a condition",
    ),
    layout_rules.paths_are_plain: (put("template/what?.md"), "template/what?.md: Windows refuses what?.md"),
    layout_rules.settings_are_strict: (
        swap("copier.yml", "_subdirectory:", "_tasks: [make]\n_subdirectory:"),
        "copier.yml: _tasks needs --trust",
    ),
    python_rules.python_is_python: (put(f"{PACKAGE}/main.py.jinja"), f"{PACKAGE}/main.py.jinja: not on the list"),
    python_rules.chassis_imports_nothing_around_it: (put(PLAIN, "from ..notes import router\n"), f"{PLAIN}: ..notes"),
    python_rules.frameworks_are_imported_by_their_adapter: (
        put(PLAIN, "import starlette.types\n"),
        f"{PLAIN}: imports the framework starlette",
    ),
    python_rules.features_are_imported_by_nobody: (
        put(PLAIN, "from .rate_limit import limiter\n"),
        f"{PLAIN}: imports rate_limit, which may not be rendered",
    ),
    python_rules.packages_do_not_import_each_other: (
        each(put(PLAIN, "from . import y\n"), put(f"{PACKAGE}/chassis/y.py", "from .x import f\n")),
        f"{PACKAGE}/chassis/: a cycle of imports: ",
    ),
    python_rules.events_are_plain_names: (
        put(PLAIN, "log.info(f'note_{name}')\n"),
        f"{PLAIN}:1: log.info() has no plain name",
    ),
    python_rules.settings_are_typed: (put(PLAIN, "def f(settings: Any): pass\n"), f"{PLAIN}:1: settings is Any"),
    python_rules.private_names_have_an_upper_bound: (
        each(put(PLAIN, "connection._socket.close()\n"), swap("options/database.yml", ">=0.3,<0.4", ">=0.3")),
        f"{PLAIN}: _socket is a private name",
    ),
    shape_rules.middleware_is_pure: (
        put(PLAIN, "@app.middleware('http')\nasync def f(): pass\n"),
        f"{PLAIN}:1: middleware",
    ),
    shape_rules.functions_are_short: (
        put(PLAIN, "async def f():\n" + "    x()\n" * 30),
        f"{PLAIN}:1: f has 31 lines",
    ),
    waiting_rules.nothing_waits_forever: (put(PLAIN, "thread.join()\n"), f"{PLAIN}:1: thread.join() has no timeout"),
    render_rules.overlays_never_collide: (
        each(put("template/{{on_fastapi}}/a.md"), put("template/{{on_asyncio}}/a.md")),
        "a.md: rendered by 2 templates",
    ),
    render_rules.rendering_is_deterministic: (
        put("template/a.jinja", "{{ now() }}"),
        "template/a.jinja:1: now changes",
    ),
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_template_keeps_the_rule(rule: Rule, template: Path) -> None:
    """The template keeps every rule of its layout."""
    assert not rule(template)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_rule_reports_a_planted_fault(rule: Rule, planted: Path) -> None:
    """A rule names the fault that is planted for it."""
    plant, fault = PLANTS[rule]
    assert any(found.startswith(fault) for found in seen(rule, plant, planted))


def test_ruff_finds_nothing_in_the_unrendered_python(
    tool: Callable[[str], str], renderer: Renderer, planted: Path, tmp_path: Path
) -> None:
    """Every plain Python file is linted and formatted where it lies, by the rules it is held to once rendered."""
    rules = (renderer(tmp_path / "service").path / "pyproject.toml").read_text(encoding="utf-8")
    put("template/pyproject.toml", rules.replace("src/my_service/", "**/src/*/"))(planted)
    for command in (["check"], ["format", "--check"]):
        run = [tool("ruff"), *command, "--no-cache", "--output-format=concise", "."]
        result = subprocess.run(run, cwd=planted / "template", capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(params=recorded().items(), ids=lambda item: item[0])
def release(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """A release: its version, and the template as it was."""
    version, commit = request.param
    git(ROOT, "archive", "--output", str(tmp_path / "old.tar"), commit)
    shutil.unpack_archive(tmp_path / "old.tar", tmp_path / "old", filter="data")
    return version, tmp_path / "old"


def test_the_answers_of_a_release_are_still_valid(release: tuple[str, Path], template: Path) -> None:
    """No release lost a question or a choice. Since 0.3.0, none lost a rendered file."""
    version, old = release
    assert not release_rules.answers_are_kept(old, template)
    assert not release_rules.retired_names_are_kept(old, template)
    if version not in RENAMED:
        assert not release_rules.files_are_kept(old, template)


@pytest.mark.parametrize(
    ("rule", "plant", "fault"),
    [
        (
            release_rules.answers_are_kept,
            swap("options/license.yml", "    proprietary:", "    closed:"),
            "license: the choice proprietary is gone",
        ),
        (
            release_rules.answers_are_kept,
            swap("options/deployment.yml", "multiselect: true", "multiselect: false"),
            "deployment: its type changed",
        ),
        (
            release_rules.files_are_kept,
            lambda root: (root / "template/LICENSE.jinja").unlink(),
            "LICENSE: no longer rendered",
        ),
        (
            release_rules.retired_names_are_kept,
            swap("options/project.yml", "owner:\n", "keeper:\n"),
            "owner: neither recorded nor retired",
        ),
    ],
    ids=["choice", "type", "file", "question"],
)
def test_a_removal_is_reported(
    rule: Callable[[Path, Path], list[str]], plant: Plant, fault: str, template: Path, planted: Path
) -> None:
    """A choice, a type, a file or a question that is gone is named."""
    plant(planted)
    assert any(found.startswith(fault) for found in rule(template, planted))


def test_a_file_that_moves_into_an_overlay_is_kept(planted: Path) -> None:
    """A file that moves into an overlay, or becomes a template, still renders to the same path."""
    put("template/a.md")(planted)
    old = shutil.copytree(planted, planted.parent / "old")
    (planted / "template/a.md").unlink()
    put("template/{{on_sql}}/a.md.jinja")(planted)
    put("template/{{on_memory}}/a.md.jinja")(planted)
    assert not release_rules.files_are_kept(old, planted)
