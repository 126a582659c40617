"""copier.yml and options/ follow a schema, and their lists of foreign names are complete."""

import json
import keyword
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, combinations, product
from pathlib import Path
from typing import Any

import option_rules
import pytest
import yaml
from planting import Plant, Rule, put, seen, swap
from questions import ROOT, asked, included, metadata, questions, read_yaml, values
from rendering import STORE_USERS, Renderer, factors, offered
from suites import STACKS, answers, features

RULES: list[Rule] = [
    option_rules.settings_are_known,
    option_rules.exclusions_are_in_every_release,
    option_rules.question_files_are_listed,
    option_rules.questions_are_well_formed,
    option_rules.questions_are_plain,
    option_rules.metadata_is_complete,
    option_rules.choices_come_from_metadata,
    option_rules.names_are_in_step,
    option_rules.requirements_are_reserved,
]

# One fault for each rule, and what the rule says of it.
PLANTS: dict[Rule, tuple[Plant, str]] = {
    option_rules.settings_are_known: (
        swap("copier.yml", "_exclude:", "_exlcude:"),
        "copier.yml: _exlcude is not a setting",
    ),
    option_rules.exclusions_are_in_every_release: (
        swap("copier.yml", "{{ pruned }}", "{{ features }}"),
        "_exclude: features is not in every release",
    ),
    option_rules.question_files_are_listed: (put("options/broker.yml", "{}\n"), "options/broker.yml: not listed"),
    option_rules.questions_are_well_formed: (
        swap("options/ci.yml", "  choices:", "  chioces:"),
        "ci: chioces is not a key of a question",
    ),
    option_rules.questions_are_plain: (
        swap("options/ci.yml", "[4/5 Delivery]", "[1/5 Project]"),
        "the groups do not come in order",
    ),
    option_rules.metadata_is_complete: (
        swap("options/features.yml", "      adds:", "      adsd:"),
        "available_features.rate-limit: no adds",
    ),
    option_rules.choices_come_from_metadata: (
        swap("options/ci.yml", "choices(cis)", "choices(x)"),
        "ci: its choices do not come from a registry",
    ),
    option_rules.names_are_in_step: (swap("options/names.yml", "    - features\n", ""), "answer_names"),
    option_rules.requirements_are_reserved: (
        swap("options/names.yml", " pyrage,", ""),
        "reserved_names: pyrage is missing",
    ),
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_questions_keep_the_rule(rule: Rule, template: Path) -> None:
    """The questions and facts keep every rule of their schema."""
    assert not rule(template)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_rule_reports_a_planted_fault(rule: Rule, planted: Path) -> None:
    """A rule names the fault that is planted for it."""
    plant, fault = PLANTS[rule]
    assert any(found.startswith(fault) for found in seen(rule, plant, planted))


def test_a_repeated_key_is_an_error(tmp_path: Path) -> None:
    """A key that stands twice in a question file is an error; plain YAML keeps the last and says nothing."""
    put("a.yml", "a: 1\na: 2\n")(tmp_path)
    with pytest.raises(yaml.YAMLError, match="repeated key"):
        read_yaml(tmp_path / "a.yml")


def test_copier_reads_the_same_questions(renderer: Renderer) -> None:
    """These tests read the same questions from copier.yml as Copier does, in the same order."""
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
    for framework, database in product(metadata("framework"), metadata("database")):
        unavailable = {("backup", "none"), ("websocket", "flask")}
        everything = [name for name in metadata("features") if not {(name, database), (name, framework)} & unavailable]
        stack = {"framework": framework, "database": database, "features": everything, "cache": "redis"}
        render = renderer(tmp_path / framework / database, stack | {"monitoring": list(metadata("monitoring"))})
        project = tomllib.loads((render.path / "pyproject.toml").read_text(encoding="utf-8"))
        wanted |= {*project["project"]["dependencies"], *chain(*project["dependency-groups"].values())}
    target = tmp_path / "all"
    subprocess.run([tool("uv"), "pip", "install", "--quiet", "--target", str(target), *sorted(wanted)], check=True)
    modules = {path.name.split(".")[0] for path in target.iterdir() if path.suffix not in (".dist-info", ".pth")}
    reserved = {name for names in questions()["reserved_names"]["default"].values() for name in names}
    found = {name for name in modules if name.isidentifier() and not name.startswith("_")}
    assert found - reserved <= {"bin", "include", "share"}


def test_store_is_varied_for_every_feature_that_asks_for_it() -> None:
    asking = {name for name in metadata("features") if repr(name) in questions()["cache"]["when"]}
    assert asking == STORE_USERS


def test_the_named_stacks_hold_every_pair_of_stack_and_features() -> None:
    """Each two values of framework, database, store and features, chosen or not, are together in a named stack."""
    assert all(answers(stack).keys() <= asked().keys() for stack in STACKS)
    assert all(stack.startswith(f"{answers(stack)['framework']}-{answers(stack)['database']}") for stack in STACKS)
    axes = {name: factors()[name] for name in ("framework", "database", "cache", "features")}
    every = (dict(zip(axes, row, strict=True)) for row in product(*axes.values()))
    rows = [row for row in every if offered(row | {"ci": "none", "repository": "", "deployment": []})]
    # Any monitoring goes with any stack.
    watched = product(rows, factors()["monitoring"])
    wanted = _pairs(row | {"chosen": {*row["features"], *monitoring}} for row, monitoring in watched)
    stacks = ({"cache": "memory", **answers(stack), "chosen": features(stack)} for stack in STACKS)
    named = _pairs(stacks)
    assert wanted - named == set()


def _pairs(rows: Iterable[Mapping[str, Any]]) -> set[Any]:
    """Each two choices of a row. A store is one only where a feature uses it."""
    found = set()
    for row in rows:
        optional = values()["features"] + values()["monitoring"]
        choices = {value: value in row["chosen"] for value in optional}
        choices |= {name: row[name] for name in ("framework", "database")}
        if any(choices[name] for name in STORE_USERS):
            choices["cache used"] = row["cache"]
        found |= set(combinations(sorted(choices.items()), 2))
    return found


def test_tested_servers_are_those_that_the_document_records() -> None:
    """`make versions` writes docs/versions.md. A server without a row there was not tested."""
    page = (ROOT / "docs/versions.md").read_text(encoding="utf-8")
    rows = re.findall(r"\| ([^|]+) \| \d+ \| passed \|", page)
    recorded = {server for row in rows for server in row.split(", ")} - {"none"}
    rows_of_metadata = (row for question in ("database", "cache") for row in metadata(question).values())
    tested = {server for row in rows_of_metadata for server in row.get("tested", ())}
    assert {server for server in tested if not any(f"{found}.".startswith(f"{server}.") for found in recorded)} == set()
    assert {found for found in recorded if not any(f"{found}.".startswith(f"{server}.") for server in tested)} == set()
