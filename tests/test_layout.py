"""Every rule of the layout holds, and each is seen to fail on a fault that is planted for it."""

import re
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
    layout_rules.templates_name_ideas_not_values,
    layout_rules.conditions_are_few_and_flat,
    layout_rules.paths_are_plain,
    layout_rules.settings_are_strict,
    python_rules.python_is_python,
    python_rules.chassis_imports_nothing_around_it,
    python_rules.features_and_adapters_are_strangers,
    python_rules.events_are_plain_names,
    shape_rules.middleware_is_pure,
    shape_rules.functions_are_short,
    waiting_rules.nothing_waits_forever,
    render_rules.overlays_never_collide,
    render_rules.rendering_is_deterministic,
]


# Two lines each, of which the second can wait forever.
WAITING = [
    "import httpx\nhttpx.get(url)",
    "import httpx\nhttpx.AsyncClient(**options)",
    "from httpx import Client as C\nC()",
    "from urllib.request import urlopen\nurlopen(url, data)",
    "import socket\nsocket.create_connection(address)",
    "import subprocess\nsubprocess.run(command, check=True)",
    "import subprocess\nwith subprocess.Popen(command) as process: pass",
    "from multiprocessing import connection\nconnection.wait([sentinel])",
    "import fcntl\nfcntl.flock(file, fcntl.LOCK_EX)",
    "import os\nos.read(pipe, 1)",
    "async def f():\n await asyncio.wait(tasks)",
    "async def f():\n async with stack: await event.wait()",
    "\nprocess.communicate(data)",
    "\nlock.acquire(True)",
    "\nqueue.get()",
    "\nfuture.result()",
    "\ncondition.wait_for(ready)",
]
# What looks like it and is none.
BOUNDED = """
import asyncio, fcntl, httpx, socket, subprocess
httpx.get(url, timeout=2)
socket.create_connection(address, 2)
subprocess.run(command, timeout=60)
subprocess.Popen(command)
fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
", ".join(words)
thread.join(5)
found.get("key")
log.exception("failed")
lock.acquire(timeout=1)
lock.acquire(blocking=False)
future.result(timeout=left)
async def f():
    await asyncio.wait_for(event.wait(), 2)
    async with asyncio.timeout(2):
        await event.wait()
"""


# Two lines each, of which the second logs what is no event.
NAMELESS = [
    "\nlog.info(f'note_{name}')",
    "\nlog.warning('note %s', name)",
    "\nlog.error('Note created')",
    "\nlog.exception('note-failed')",
    "\nlog.info('noteCreated')",
    "\nlog.info('note_' + name)",
    "\nlog.debug(event)",
    "\nlog.info(event='note_created')",
    "\nlog.bind(note_id=7).info('Created')",
    "speaker = structlog.get_logger(__name__)\nspeaker.info('Created')",
    "self.speaker = log.bind(note_id=7)\nself.speaker.info('Created')",
    "write = log.warning if late else log.info\nwrite(f'note_{name}')",
    "\nstructlog.get_logger(__name__).info('Created')",
    "\nlogging.getLogger(__name__).warning('it is low on %s', what)",
]
# What looks like it and is none.
NAMED = """
log.info("note_created", note_id=7)
log.bind(note_id=7).exception("note_2_failed")
write = log.warning if late else log.info
write("note_created")
structlog.get_logger(__name__).warning("low", on="paper")
pytest.warning(f"{name} is no logger")
parser.error("It is no logger either")
logging.getLogger(name).setLevel("WARNING")
"""


PLANTS: list[tuple[Rule, Plant, str]] = [
    (
        layout_rules.values_are_file_names,
        swap("options/framework.yml", "    flask:", "    Flask:"),
        "Flask: not lower case",
    ),
    (
        layout_rules.values_are_file_names,
        swap("options/license.yml", "    mit:", "    flask:"),
        "flask: the value of two",
    ),
    (
        layout_rules.values_are_file_names,
        swap("options/database.yml", "    sqlite:", "    sqlite3:"),
        "sqlite3: not how",
    ),
    (layout_rules.options_keep_to_their_places, put("template/docs/flask.md"), "docs/flask.md: not a place"),
    (
        layout_rules.options_keep_to_their_places,
        put("template/tests/test_sqlite_locks.py"),
        "not a place of the option sqlite",
    ),
    (
        layout_rules.options_keep_to_their_places,
        each(put(f"{PACKAGE}/chassis/a/flask.py"), put(f"{PACKAGE}/chassis/b/flask.py")),
        "a second chassis file of flask",
    ),
    *(
        (layout_rules.templates_name_ideas_not_values, put(path, f"{{{{ {question} == '{value}' }}}}"), f"{path}:1")
        for path, question, value in (
            ("template/a.jinja", "framework", "flask"),
            ("template/a.jinja", "cache", "redis"),
            ("template/a.jinja", "python_version", "3.11"),
            ("options/sqlite/readme.md", "license", "mit"),
        )
    ),
    (layout_rules.conditions_are_few_and_flat, put("template/a.jinja", "{{ 1 if x else 2 }}\n" * 9), "9 conditions"),
    (
        layout_rules.conditions_are_few_and_flat,
        put("template/a.jinja", "{% if x %}{% if y %}{% endif %}{% endif %}"),
        "a condition in a condition",
    ),
    (
        layout_rules.conditions_are_few_and_flat,
        put("options/redis/readme.md", "{% if x %}{% if y %}{% endif %}{% endif %}"),
        "options/redis/readme.md:1: a condition in a condition",
    ),
    (
        layout_rules.conditions_are_few_and_flat,
        put("template/a.jinja", "{% if ci == 'github' and storage == 'sql' %}{% endif %}"),
        "one condition about ci, storage",
    ),
    (layout_rules.paths_are_plain, put("template/{% if x %}a{% endif %}"), "Jinja in"),
    (layout_rules.paths_are_plain, put("template/{{service_name}}.md"), "Jinja in"),
    (layout_rules.paths_are_plain, put("template/what?.md"), "Windows refuses what?.md"),
    (layout_rules.paths_are_plain, put("template/nul.txt"), "Windows refuses nul.txt"),
    (layout_rules.paths_are_plain, put("template/license.jinja"), "only in case"),
    (
        layout_rules.settings_are_strict,
        swap("copier.yml", "jinja2.StrictUndefined", "jinja2.Undefined"),
        "_envops.undefined",
    ),
    (
        layout_rules.settings_are_strict,
        swap("copier.yml", "lstrip_blocks: true", "lstrip_blocks: false"),
        "lstrip_blocks",
    ),
    (
        layout_rules.settings_are_strict,
        swap("copier.yml", "_subdirectory:", "_tasks: [make]\n_subdirectory:"),
        "--trust",
    ),
    (python_rules.python_is_python, put(f"{PACKAGE}/main.py.jinja"), "not on the list"),
    (python_rules.python_is_python, put(f"{PACKAGE}/x.py", "def f(:\n"), "no Python"),
    (python_rules.python_is_python, put(f"{PACKAGE}/x.py", "A = '{{ package_name }}'\n"), "a tag that nothing renders"),
    (
        python_rules.chassis_imports_nothing_around_it,
        put(f"{PACKAGE}/chassis/a/x.py", "from ...notes import router\n"),
        "...notes.router lies outside",
    ),
    (
        python_rules.features_and_adapters_are_strangers,
        put(f"{PACKAGE}/chassis/x.py", "import starlette.types\n"),
        "x.py: imports the framework starlette",
    ),
    (
        python_rules.features_and_adapters_are_strangers,
        put(f"{PACKAGE}/chassis/web/x.py", "from ..database import session\n"),
        "imports the feature database",
    ),
    *(
        (python_rules.events_are_plain_names, put(f"{PACKAGE}/chassis/x.py", f"{code}\n"), "x.py:2: ")
        for code in NAMELESS
    ),
    (
        python_rules.events_are_plain_names,
        put("template/{{on_wsgi}}/src/{{package_name}}/notes/x.py", "log.info('Note created')\n"),
        "notes/x.py:1: log.info() has no plain name",
    ),
    *(
        (python_rules.features_and_adapters_are_strangers, put(f"{PACKAGE}/chassis/{path}", f"{code}\n"), fault)
        for path, code, fault in (
            ("web/x.py", "from .. import cache", "web/x.py: an adapter imports the feature cache"),
            ("web/x.py", "from ..rate_limit import judge", "web/x.py: an adapter imports the feature rate_limit.judge"),
            ("web/a/x.py", "from ...monitoring import y", "web/a/x.py: an adapter imports the feature monitoring.y"),
            ("x.py", "from .web.fastapi import install", "x.py: imports the adapter web.fastapi.install"),
            ("cache/x.py", "from .. import web", "cache/x.py: imports the adapter web"),
            ("server/x.py", "from .. import web", "server/x.py: imports the adapter web"),
            ("server/x.py", "from ..web.fastapi import y", "server/x.py: imports the adapter web.fastapi.y"),
        )
    ),
    *(
        (shape_rules.middleware_is_pure, put(f"{PACKAGE}/{path}", f"{code}\n"), fault)
        for path, code, fault in (
            ("chassis/x.py", "from starlette.middleware.base import BaseHTTPMiddleware as B", "x.py:1: BaseHTTPM"),
            ("notes/x.py", "class C(base.BaseHTTPMiddleware): pass", "x.py:1: BaseHTTPM"),
            ("notes/x.py", "@app.middleware('http')\nasync def f(): pass", "x.py:1: middleware is no pure middleware"),
        )
    ),
    (
        shape_rules.functions_are_short,
        put(f"{PACKAGE}/chassis/x.py", "\n\nasync def f():\n" + "    x()\n" * 30),
        "x.py:3: f has 31 lines",
    ),
    *(
        (waiting_rules.nothing_waits_forever, put(f"{PACKAGE}/chassis/x.py", f"{code}\n"), "x.py:2: ")
        for code in WAITING
    ),
    (
        waiting_rules.nothing_waits_forever,
        put("template/{{on_wsgi}}/src/{{package_name}}/notes/x.py", "thread.join()\n"),
        "notes/x.py:1: thread.join() has no time-out",
    ),
    (
        waiting_rules.nothing_waits_forever,
        swap(f"{PACKAGE}/chassis/cli.py", "subprocess.Popen(", "print("),
        "cli.py: subprocess.Popen is reasoned about and not there",
    ),
    (
        render_rules.overlays_never_collide,
        each(put("template/{{on_fastapi}}/a.md"), put("template/{{on_asgi}}/a.md")),
        "a.md: rendered by 2 templates",
    ),
    (render_rules.rendering_is_deterministic, put("template/a.jinja", "{{ now() }}"), "now changes"),
    (render_rules.rendering_is_deterministic, put("template/a.jinja", "{{ [1] | random }}"), "random changes"),
    (render_rules.rendering_is_deterministic, put("template/a.jinja", "{{ _folder_name }}"), "_folder_name changes"),
    (render_rules.rendering_is_deterministic, put("template/uv.lock"), "a lock file"),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_template_keeps_the_rule(rule: Rule, template: Path) -> None:
    """The template keeps every rule of its layout."""
    assert not rule(template)


@pytest.mark.parametrize(("rule", "plant", "fault"), PLANTS, ids=lambda value: getattr(value, "__name__", None))
def test_the_rule_sees_a_planted_fault(rule: Rule, plant: Plant, fault: str, planted: Path) -> None:
    """A rule names the fault that is planted for it."""
    assert any(fault in found for found in seen(rule, plant, planted))


def test_what_has_a_time_out_is_no_fault(planted: Path) -> None:
    """Nor is what only has the name of something that waits."""
    assert not seen(waiting_rules.nothing_waits_forever, put(f"{PACKAGE}/chassis/x.py", BOUNDED), planted)


def test_what_names_its_event_is_no_fault(planted: Path) -> None:
    """Nor is what has no logger."""
    assert not seen(python_rules.events_are_plain_names, put(f"{PACKAGE}/chassis/x.py", NAMED), planted)


def test_every_rule_has_a_planted_fault() -> None:
    """No rule is taken on trust."""
    assert {rule for rule, _, _ in PLANTS} == set(RULES)


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
def release(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The template as it was released."""
    git(ROOT, "archive", "--output", str(tmp_path / "old.tar"), request.param[1])
    shutil.unpack_archive(tmp_path / "old.tar", tmp_path / "old", filter="data")
    return tmp_path / "old"


def test_nothing_released_is_removed(release: Path, template: Path) -> None:
    """No release of this major version removes a rendered file, a choice or a question."""
    assert not release_rules.nothing_is_removed(release, template)
    assert not release_rules.retired_names_are_kept(release, template)


@pytest.mark.parametrize(
    ("plant", "fault"),
    [
        (swap("options/license.yml", "    proprietary:", "    closed:"), "license: the choice proprietary is gone"),
        (swap("options/project.yml", "owner:\n", "keeper:\n"), "owner: the question is gone"),
        (swap("options/deployment.yml", "multiselect: true", "multiselect: false"), "deployment: its type changed"),
        (lambda root: (root / "template/LICENSE.jinja").unlink(), "LICENSE: no longer rendered"),
    ],
    ids=["choice", "question", "type", "file"],
)
def test_a_removal_is_seen(plant: Plant, fault: str, template: Path, planted: Path) -> None:
    """A choice, a question, its type or a file that is gone is named."""
    plant(planted)
    assert any(found.startswith(fault) for found in release_rules.nothing_is_removed(template, planted))


def test_a_dropped_question_must_be_retired(template: Path, planted: Path) -> None:
    """A question that is gone and not in `retired_names` is named: it would stop updates half-way."""
    swap("options/project.yml", "owner:\n", "keeper:\n")(planted)
    assert release_rules.retired_names_are_kept(template, planted) == ["owner: neither recorded nor retired"]


def test_an_overlay_folder_may_move(planted: Path) -> None:
    """A file that moves into an overlay, or becomes a template, still renders to the same path."""
    put("template/a.md")(planted)
    old = shutil.copytree(planted, planted.parent / "old")
    (planted / "template/a.md").unlink()
    put("template/{{on_sql}}/a.md.jinja")(planted)
    put("template/{{on_memory}}/a.md.jinja")(planted)
    assert not re.findall(r"a\.md", "".join(release_rules.nothing_is_removed(old, planted)))
