"""The rules of the template's layout, each a function over a tree that returns the faults it finds.

The numbers are those of the rules in docs/architecture.md; tests/test_layout.py plants a fault for each.
"""

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from jinja2 import Environment, nodes
from questions import asked, metadata, questions, settings, values

Faults = list[str]

MOST_CONDITIONS = 8
PACKAGE = "template/src/{{package_name}}"
# Python that knows what was chosen. Everything else is plain and runs where it lies, unrendered.
TEMPLATED_PYTHON = {f"{PACKAGE}/{name}.py.jinja" for name in ("__init__", "__main__", "settings", "chassis/features")}
# Derived properties that a condition may ask about, in addition to the questions.
DERIVED = {"before_run", "containers", "handlers", "key_store", "migration", "replicas", "storage", "store"}
# A template may ask whether one of these was chosen, for a passage about that value alone.
NAMED_IN_TEMPLATES = {"deployment", "ci", "features", "monitoring"}
# No value of these has its own files, except the text of a license.
WITHOUT_FILES = {"python_version", "license"}


@cache
def template_files(root: Path) -> tuple[str, ...]:
    """Every file that can be rendered, by its path in the repository."""
    found = (path.relative_to(root).as_posix() for path in (root / "template").rglob("*") if path.is_file())
    return tuple(sorted(found))


def templates(root: Path) -> Iterator[tuple[str, nodes.Template]]:
    """Every Jinja template with its syntax tree, and every fragment in options/, which templates include."""
    environment = Environment(autoescape=False)  # noqa: S701 - nothing is rendered, let alone HTML
    paths = [path for path in template_files(root) if path.endswith(".jinja")]
    fragments = (path for path in sorted((root / "options").rglob("*")) if path.is_file() and path.suffix != ".yml")
    paths += [path.relative_to(root).as_posix() for path in fragments]
    for path in paths:
        yield path, environment.parse((root / path).read_text(encoding="utf-8"))


def values_are_file_names(root: Path) -> Faults:
    """1. An option's value is lower case, the product's own spelling, and unique. `none` stands for no option."""
    offered = [(question, value) for question, found in values(root).items() for value in found if value != "none"]
    faults = [f"{value}: not lower case" for _, value in offered if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", value)]
    times = Counter(value for _, value in offered)
    faults += [f"{value}: the value of two questions" for value, number in times.items() if number > 1]
    for question, value in offered:
        label = metadata(question, root)[value]["label"]
        if not all(word in label.lower() for word in value.split("-")):
            faults.append(f"{value}: not how {label} is spelt")
    return faults


def _words(path: str) -> set[str]:
    """The words of a path, whole names among them: `tests/answers/flask-none.yml` is about flask."""
    parts = [re.sub(r"^\{\{on_(\w+)\}\}$", r"\1", part).lstrip(".") for part in path.split("/")]
    return {word for part in parts for word in (*re.split(r"[-_.]", part), part)}


def _places(value: str, root: Path) -> str:
    """A pattern of the paths in which an option may live."""
    chosen, name, package = re.escape(value), value.replace("-", "_"), re.escape(PACKAGE)
    overlay = r"(\{\{on_\w+\}\}/)*"
    rows = [metadata(question, root).get(value, {}) for question in values(root)]
    own = "|".join(re.escape(path[1:]) + r"(\.jinja|/.*)?" for row in rows for path in row.get("paths", ()))
    return (
        rf"{package}/chassis/([a-z_]+/)*{name}(_\w+)?\.py|{package}/chassis/{name}/.*|template/docs/(options/)?{chosen}\.md(\.jinja)?"
        rf"|template/{overlay}tests/([a-z_]+/)*((test_)?{name}|test_{name}_\w+|test_\w+_{name})\.py|template/deploy/({chosen}/.*|aws/service/{chosen}\.[a-z]+)"
        rf"|template/{overlay}\{{\{{on_{name}\}}\}}/.*|options/{chosen}/.*|options/{name}\.yml|options/licenses/{chosen}|options/settings/[a-z-]*{chosen}[a-z-]*\.(env|md)"
        rf"|tests/answers/[a-z0-9-]+\.yml" + (f"|template/{overlay}({own})" if own else "")
    )


def options_keep_to_their_places(root: Path) -> Faults:
    """2. An option lives in its row of metadata, its chassis files, tests, documents, answers files and folders."""
    others = [path for top in ("options", "tests/answers") for path in (root / top).rglob("*") if path.is_file()]
    paths = [*template_files(root), *(path.relative_to(root).as_posix() for path in others)]
    offered = [value for question, found in values(root).items() if question not in WITHOUT_FILES for value in found]
    faults = []
    for value in offered:
        names = {value, value.replace("-", "_")}
        mine = [] if value == "none" else [path for path in paths if names & _words(path)]
        pattern = re.compile(_places(value, root))
        faults += [f"{path}: not a place of the option {value}" for path in mine if not pattern.fullmatch(path)]
    return faults


def templates_name_properties(root: Path) -> Faults:
    """2. A template asks about derived properties and metadata; a value named in it is one more place to change."""
    offered = values(root)
    named = {value for question in offered.keys() - NAMED_IN_TEMPLATES for value in offered[question]} - {"none"}
    return [
        f"{path}:{constant.lineno}: names {constant.value}"
        for path, tree in templates(root)
        for constant in tree.find_all(nodes.Const)
        if constant.value in named
    ]


def _conditions(node: nodes.Node, depth: int = 1) -> Iterator[tuple[nodes.Node, int]]:
    """Every tested expression below a node, and its depth."""
    if isinstance(node, nodes.If | nodes.CondExpr) or (isinstance(node, nodes.For) and node.test):
        yield node.test, depth  # type: ignore[misc]
    inside = depth + isinstance(node, nodes.If | nodes.CondExpr)
    for field, value in node.iter_fields():
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, nodes.Node):
                yield from _conditions(child, depth if field == "elif_" else inside)


def conditions_are_few_and_flat(root: Path) -> Faults:
    """3. A template holds at most 8 conditions, none inside another, each about one question."""
    subjects = {*asked(root), *DERIVED}
    faults = []
    for path, tree in templates(root):
        conditions = list(_conditions(tree))
        if len(conditions) > MOST_CONDITIONS:
            faults.append(f"{path}: {len(conditions)} conditions")
        faults += [f"{path}:{test.lineno}: a condition in a condition" for test, depth in conditions if depth > 1]
        for test, _ in conditions:
            names = {
                name.name for name in [test, *test.find_all(nodes.Name)] if isinstance(name, nodes.Name)
            } & subjects
            if len(names) > 1:
                faults.append(f"{path}:{test.lineno}: one condition about {', '.join(sorted(names))}")
    return faults


def paths_are_plain(root: Path) -> Faults:
    """4. No Jinja in paths but the package, overlays and the answers file; nothing that Windows refuses."""
    allowed = {"package_name", "_copier_conf.answers_file"} | {
        name for name in questions(root) if name.startswith("on_")
    }
    refused = re.compile(r'[<>:"|?*\\\x00-\x1f]|[. ]$|^(con|prn|aux|nul|com\d|lpt\d)(\.|$)', re.IGNORECASE)
    faults = []
    for path in template_files(root):
        for part in path.split("/"):
            rest = re.sub(r"\{\{([\w.]+)\}\}", lambda tag: "x" if tag[1] in allowed else tag[0], part)
            if "{" in rest or "}" in rest:
                faults.append(f"{path}: Jinja in {part}")
            if refused.search(rest):
                faults.append(f"{path}: Windows refuses {part}")
    spellings = Counter(path.lower() for path in template_files(root))
    return faults + [f"{path}: differs from another only in case" for path, times in spellings.items() if times > 1]


def settings_are_strict(root: Path) -> Faults:
    """6. Undefined names are errors, tags leave no lines, and nothing runs on the user's machine."""
    wanted = {"undefined": "jinja2.StrictUndefined", "trim_blocks": True, "lstrip_blocks": True}
    found = settings(root)
    envops = found.get("_envops", {})
    faults = [
        f"copier.yml: _envops.{name} is not {value}" for name, value in wanted.items() if envops.get(name) != value
    ]
    return faults + [f"copier.yml: {name} needs --trust" for name in ("_tasks", "_jinja_extensions") if name in found]
