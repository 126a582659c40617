"""A schema of copier.yml and options/. Copier silently ignores a misspelt key, so nothing else would report it."""

import re
from pathlib import Path
from typing import Any

from jinja2 import Environment
from jinja2.meta import find_undeclared_variables
from layout_rules import Faults
from questions import REGISTRIES, asked, included, metadata, questions, recorded, settings

# The settings this template uses, of those that Copier knows. A new one is added here on purpose.
SETTINGS = {
    "_envops",
    "_exclude",
    "_message_after_copy",
    "_message_after_update",
    "_min_copier_version",
    "_skip_if_exists",
    "_subdirectory",
    "_templates_suffix",
}
QUESTION_KEYS = {"ask", "choices", "default", "help", "multiselect", "secret", "type", "validator", "when"}
HIDDEN_KEYS = {"default", "type", "when"}
TYPES = {"bool", "int", "str", "yaml"}
# What a terminal of 80 columns shows of a prompt; the rest would be cut off.
MOST_COLUMNS = 74
GROUPS = ["[1/5 Project]", "[2/5 Stack]", "[3/5 Features]", "[4/5 Delivery]", "[5/5 License]"]

LABELS: dict[str, type] = {"label": str, "summary": str}
# The metadata of each registry, with their types. A row may omit what ends with `?`.
METADATA: dict[str, dict[str, type]] = {
    "framework": LABELS | {"handlers": str, "requirements": list, "docs": str, "paths?": list},
    "database": LABELS
    | {"storage": str, "file": bool, "replicas": str, "exclusive": bool, "requirements": dict, "url?": str}
    | {"services": dict, "packages": list, "clients": list, "docs?": str}
    | {"port?": int, "development?": list, "development_services?": dict, "client_source?": dict}
    | {"paths?": list, "secrets?": dict, "tested?": list, "aws?": dict},
    "python_version": LABELS,
    "features": LABELS
    | {"requirements": list, "test_requirements?": list, "adds": str, "paths": list, "page?": str, "disabled?": str}
    | {"port?": int, "ports?": list, "secrets?": dict},
    "cache": LABELS
    | {"requirements": list, "environment": dict, "services": dict, "packages": list, "docs?": str, "port?": int}
    | {"secrets?": dict, "tested?": list},
    "monitoring": LABELS
    | {"requirements": list, "paths": list, "docs": str, "page?": str, "port?": int, "secrets?": dict},
    "deployment": LABELS
    | {"paths": list, "docs": str, "variables?": list, "secrets?": list, "packages?": list}
    | {"disabled?": str},
    "ci": LABELS | {"host": str, "report": str, "paths?": list, "docs?": str, "disabled?": str},
    "license": LABELS | {"spdx": str},
}


def settings_are_known(root: Path) -> Faults:
    """Every setting is one that Copier knows and this template uses."""
    return [f"copier.yml: {name} is not a setting" for name in settings(root) if name not in SETTINGS]


def exclusions_are_in_every_release(root: Path) -> Faults:
    """An update renders `_exclude` with the answers of an old release too, so it names only what every release has."""
    lasting = {"pruned", "territories", "added", "_copier_operation"}
    trees = [Environment(autoescape=True).parse(pattern) for pattern in settings(root)["_exclude"]]
    used = {name for tree in trees for name in find_undeclared_variables(tree)}
    return [f"_exclude: {name} is not in every release" for name in sorted(used - lasting)]


def question_files_are_listed(root: Path) -> Faults:
    """Every question file is included once, by its name; a glob would load in file-system order."""
    listed = included(root)
    there = {path.relative_to(root).as_posix() for path in (root / "options").glob("*.yml")}
    faults = [f"{name}: not listed in copier.yml" for name in sorted(there - set(listed))]
    faults += [f"{name}: listed and not there" for name in listed if name not in there]
    return faults + [f"{name}: listed twice" for name in {name for name in listed if listed.count(name) > 1}]


def _question_faults(name: str, question: dict[str, Any]) -> Faults:
    keys = HIDDEN_KEYS if question.get("when") is False else QUESTION_KEYS
    faults = [f"{name}: {key} is not a key of a question" for key in question if key not in keys]
    if "default" not in question:
        faults.append(f"{name}: no default, so `--defaults` would fail")
    if question.get("type") not in TYPES:
        faults.append(f"{name}: {question.get('type')} is not a type")
    return faults


def questions_are_well_formed(root: Path) -> Faults:
    """Every question has known keys, a type and a default."""
    return [fault for name, question in questions(root).items() for fault in _question_faults(name, question)]


def questions_are_plain(root: Path) -> Faults:
    """Every asked question has one help sentence that starts with its group, and the groups come in order."""
    faults, order = [], []
    for name, question in asked(root).items():
        found = re.fullmatch(r"(\[\d/5 \w+\]) [A-Z].+\?( \(.+\))?", str(question.get("help", "")))
        if not found or found[1] not in GROUPS or len(found[0]) > MOST_COLUMNS:
            faults.append(f"{name}: its help is not a short question in a group")
        else:
            order.append(GROUPS.index(found[1]))
    return faults + ["the groups do not come in order"] * (order != sorted(order))


def metadata_is_complete(root: Path) -> Faults:
    """Every value has the metadata that templates loop over, of the right type, and nothing else."""
    faults = []
    for question, schema in METADATA.items():
        wanted = {key.rstrip("?"): kind for key, kind in schema.items()}
        for name, row in metadata(question, root).items():
            where = f"{REGISTRIES[question]}.{name}"
            if len(f"{row.get('label')} - {row.get('summary')}") > MOST_COLUMNS:
                faults.append(f"{where}: label and summary are too long")
            faults += [f"{where}: no {key}" for key in schema if not key.endswith("?") and key not in row]
            faults += [f"{where}: {key} is not metadata" for key in row if key not in wanted]
            faults += [
                f"{where}: {key} is not a {wanted[key].__name__}"
                for key, value in row.items()
                if key in wanted and not isinstance(value, wanted[key])
            ]
    return faults


def choices_come_from_metadata(root: Path) -> Faults:
    """A question with choices takes them from its registry, so a value is written once."""
    faults = []
    for name, question in asked(root).items():
        choices = str(question.get("choices", ""))
        if choices and f"choices({REGISTRIES.get(name)})" not in choices:
            faults.append(f"{name}: its choices do not come from a registry")
    return faults


def names_are_in_step(root: Path) -> Faults:
    """The names that `-d` accepts are the recorded questions, in their order."""
    listed, there = questions(root)["answer_names"]["default"], list(recorded(root))
    return [] if listed == there else [f"answer_names: {listed} are not the questions {there}"]


def requirement_imports(root: Path) -> set[str]:
    """The import names of everything that metadata requires: the names of the packages with underscores."""
    stack = ("framework", "database", "features", "cache")
    rows = [row["requirements"] for question in stack for row in metadata(question, root).values()]
    lists = [part for row in rows for part in (row.values() if isinstance(row, dict) else [row])]
    lists.append(re.findall(r'"([a-z][^"]*>=[^"]*)"', questions(root)["requirements"]["default"]))
    return {re.split(r"[\[<>=~! ]", name)[0].replace("-", "_") for names in lists for name in names}


def requirements_are_reserved(root: Path) -> Faults:
    """No service can have the name of a library that it needs."""
    reserved = questions(root)["reserved_names"]["default"]["library the service uses"]
    return [f"reserved_names: {name} is missing" for name in sorted(requirement_imports(root) - set(reserved))]
