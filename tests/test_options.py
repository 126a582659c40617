"""copier.yml and options/ keep a schema, and what they say of the world outside is true."""

import json
import keyword
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from itertools import chain, combinations, product
from pathlib import Path

import option_rules
import pytest
import yaml
from planting import Plant, Rule, put, seen, swap
from questions import ROOT, asked, facts, included, questions, read_yaml, values
from rendering import Renderer

RULES: list[Rule] = [
    option_rules.settings_are_known,
    option_rules.exclusions_last_for_ever,
    option_rules.question_files_are_listed,
    option_rules.questions_are_well_formed,
    option_rules.questions_are_plain,
    option_rules.facts_are_complete,
    option_rules.choices_come_from_facts,
    option_rules.names_are_in_step,
    option_rules.requirements_are_reserved,
]

PLANTS: list[tuple[Rule, Plant, str]] = [
    (option_rules.settings_are_known, swap("copier.yml", "_exclude:", "_exlcude:"), "_exlcude is no setting"),
    (option_rules.exclusions_last_for_ever, swap("copier.yml", "{{ pruned }}", "{{ retired }}"), "retired is not in"),
    (option_rules.question_files_are_listed, put("options/broker.yml", "{}\n"), "options/broker.yml: not listed"),
    (option_rules.question_files_are_listed, swap("copier.yml", "options/ci.yml", "options/c*.yml"), "listed and not"),
    (
        option_rules.question_files_are_listed,
        swap("copier.yml", "project.yml", "ci.yml"),
        "twice",
    ),
    (
        option_rules.questions_are_well_formed,
        swap("options/ci.yml", '  default: "', '  defualt: "'),
        "defualt is no key",
    ),
    (option_rules.questions_are_well_formed, swap("options/ci.yml", "  choices:", "  chioces:"), "chioces is no key"),
    (
        option_rules.questions_are_well_formed,
        swap("options/ci.yml", "  type: str", "  type: string"),
        "string is no type",
    ),
    (
        option_rules.questions_are_plain,
        swap("options/ci.yml", "[3/4 Delivery] What", "What"),
        "ci: its help is no short question",
    ),
    (
        option_rules.questions_are_plain,
        swap("options/ci.yml", "[3/4 Delivery]", "[1/4 Project]"),
        "do not come in order",
    ),
    (
        option_rules.facts_are_complete,
        swap("options/framework.yml", "server: granian", ""),
        "frameworks.flask: no server",
    ),
    (option_rules.facts_are_complete, swap("options/license.yml", "all rights", "all-" * 20), "too long"),
    (option_rules.facts_are_complete, swap("options/framework.yml", "docs:", "dosc:"), "dosc is no fact"),
    (option_rules.facts_are_complete, swap("options/database.yml", "file: true", "file: data"), "file is no bool"),
    (
        option_rules.choices_come_from_facts,
        swap("options/ci.yml", "choices(cis)", "choices(x)"),
        "ci: its choices do not",
    ),
    (option_rules.names_are_in_step, swap("options/names.yml", "    - owner\n", ""), "answer_names"),
    (option_rules.requirements_are_reserved, swap("options/names.yml", " flask,", ""), "flask is missing"),
    (option_rules.requirements_are_reserved, swap("options/derived.yml", '"orjson', '"ujson>=5", "orjson'), "ujson"),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_questions_keep_the_rule(rule: Rule, template: Path) -> None:
    """The questions and facts keep every rule of their schema."""
    assert not rule(template)


@pytest.mark.parametrize(("rule", "plant", "fault"), PLANTS, ids=lambda value: getattr(value, "__name__", None))
def test_the_rule_sees_a_planted_fault(rule: Rule, plant: Plant, fault: str, planted: Path) -> None:
    """A rule names the fault that is planted for it."""
    assert any(fault in found for found in seen(rule, plant, planted))


def test_every_rule_has_a_planted_fault() -> None:
    """No rule is taken on trust."""
    assert {rule for rule, _, _ in PLANTS} == set(RULES)


def test_a_repeated_key_is_refused(tmp_path: Path) -> None:
    """A key that stands twice in a question file is an error; plain YAML keeps the last and says nothing."""
    put("a.yml", "a: 1\na: 2\n")(tmp_path)
    with pytest.raises(yaml.YAMLError, match="repeated key"):
        read_yaml(tmp_path / "a.yml")


def test_copier_reads_the_same_questions(renderer: Renderer) -> None:
    """What these tests read of copier.yml is what Copier reads, in the same order."""
    assert list(renderer.template.questions_data) == list(questions())
    assert len(included()) == len(set(included()))


def _public_modules(command: str) -> set[str] | None:
    """The public standard library of another Python, or nothing where there is none."""
    code = "import json, sys; print(json.dumps([sys.version_info[:2], sorted(sys.stdlib_module_names)]))"
    try:
        run = subprocess.run([command, "-c", code], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    version, names = json.loads(run.stdout)
    public = {name for name in names if not name.startswith("_")} | {"test"}  # which Python's own list leaves out
    return public if command.endswith(f"{version[1]}") else None


def _interpreters(version: str, folder: Path) -> Iterator[str]:
    """Commands that may be this version of Python, the one that runs the tests first, by a link in a folder."""
    if version == "{}.{}".format(*sys.version_info):
        link = folder / f"python{version}"
        link.symlink_to(sys.executable)
        yield str(link)
    yield f"python{version}"
    yield from map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}"))


@pytest.mark.parametrize("version", values()["python_version"])
def test_the_standard_library_is_reserved(version: str, tmp_path: Path) -> None:
    """No package can be called like a module of a Python that the service runs on."""
    reserved = set(questions()["reserved_names"]["default"]["module of the standard library"])
    modules = next(filter(None, map(_public_modules, _interpreters(version, tmp_path))), None)
    if modules is None:
        pytest.skip(f"there is no Python {version} here to ask for its modules")
    assert modules - reserved == set()


def test_the_keywords_are_reserved() -> None:
    """No package can be called like a keyword."""
    reserved = questions()["reserved_names"]["default"]["keyword"]
    assert set(reserved) == {word for word in keyword.kwlist if word.islower()}


@pytest.mark.stacks
def test_every_installed_module_is_reserved(tool: Callable[[str], str], renderer: Renderer, tmp_path: Path) -> None:
    """No package can be called like anything that a service or its tools really install."""
    wanted = set()
    for framework, database in product(facts("framework"), facts("database")):
        answers = {"framework": framework, "database": database, "cache": "redis"}
        render = renderer(tmp_path / framework / database, answers)
        project = tomllib.loads((render.path / "pyproject.toml").read_text(encoding="utf-8"))
        wanted |= {*project["project"]["dependencies"], *chain(*project["dependency-groups"].values())}
    target = tmp_path / "all"
    subprocess.run([tool("uv"), "pip", "install", "--quiet", "--target", str(target), *sorted(wanted)], check=True)
    modules = {path.name.split(".")[0] for path in target.iterdir() if path.suffix not in (".dist-info", ".pth")}
    reserved = {name for names in questions()["reserved_names"]["default"].values() for name in names}
    found = {name for name in modules if name.isidentifier() and not name.startswith("_")}
    assert found - reserved <= {"bin", "include", "share"}


def test_every_option_is_in_a_named_stack() -> None:
    """The named stacks hold every pair of framework, database and cache, and name none but real questions."""
    stacks = {path.stem: read_yaml(path) for path in (ROOT / "tests/answers").glob("*.yml")}
    assert all(answers.keys() <= asked().keys() for answers in stacks.values())
    axes = ("framework", "database", "cache")
    named = {name: answers | {"cache": answers.get("cache", "memory")} for name, answers in stacks.items()}
    for one, other in combinations(axes, 2):
        pairs = {(answers[one], answers[other]) for answers in named.values()}
        assert pairs == set(product(values()[one], values()[other]))
    assert all(
        name == "-".join(answers[axis] for axis in axes).removesuffix("-memory") for name, answers in named.items()
    )
