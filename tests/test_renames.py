"""The table of renames of 0.3.0 knows every public name of the release before it, and no target that does not exist."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePath

import pytest
from codemod import read
from questions import ROOT
from releases import git, recorded

TABLE = read(ROOT / "hooks/releases/0.3.0.toml")
OLD = recorded()["0.2.3"]
CHASSIS = "src/{{package_name}}/chassis"
# Modules of commits between the two releases.
UNRELEASED = ("chassis.domains.", "tests.")
# Names of a module that mean nothing outside of it.
PRIVATE = {"F", "P", "T", "log"}


@dataclass
class Public:
    """A public name: parameters of a function or class, members and first base of a class, the module it comes from."""

    parameters: set[str] = field(default_factory=set)
    members: dict[str, set[str]] = field(default_factory=dict)
    source: str = ""
    base: str = ""


Modules = dict[str, dict[str, Public]]


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    found = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
    return {argument.arg for argument in found if not argument.arg.startswith("_")} - {"self", "cls"}


def public_class(node: ast.ClassDef) -> Public:
    found = Public(base=ast.unparse(node.bases[0]) if node.bases else "")
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store) and ast.unparse(part.value) == "self":
            found.members.setdefault(part.attr, set())
    for part in node.body:
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
            found.members[part.name] = parameters(part)
        elif isinstance(part, ast.AnnAssign):
            found.members[ast.unparse(part.target)] = set()
            found.parameters.add(ast.unparse(part.target))
    found.parameters = found.members.get("__init__", found.parameters)
    return found


def public(code: str) -> dict[str, Public]:
    """The names that a module binds at its top level."""
    found: dict[str, Public] = {}
    for node in ast.parse(code).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found[node.name] = Public(parameters(node))
        elif isinstance(node, ast.ClassDef):
            found[node.name] = public_class(node)
        elif isinstance(node, ast.ImportFrom):
            source = f".{node.module}"
            found |= {alias.name: Public(source=source) for alias in node.names if alias.asname == alias.name}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                found |= {name.id: Public() for name in ast.walk(target) if isinstance(name, ast.Name)}
    return {name: details for name, details in found.items() if not name.startswith("_") and name not in PRIVATE}


def modules(files: dict[str, str]) -> Modules:
    """The public names of each module of the chassis, by the name that the table has for the module."""
    found: Modules = {}
    for path, code in files.items():
        inside = PurePath(path.rpartition(CHASSIS)[2]).with_suffix("").parts[1:]
        name = ".".join(["chassis", *inside]).removesuffix(".__init__")
        found.setdefault(name, {}).update(public(code))
    return found


@cache
def before() -> Modules:
    listed = git(ROOT, "ls-tree", "-r", "--name-only", OLD, "template").splitlines()
    wanted = [path for path in listed if CHASSIS in path and path.endswith(".py")]
    return modules({path: git(ROOT, "show", f"{OLD}:{path}") for path in wanted})


@cache
def now() -> Modules:
    found = (path for path in (ROOT / "template").rglob("*.py") if CHASSIS in path.as_posix())
    return modules({path.as_posix(): path.read_text(encoding="utf-8") for path in found})


def lost(module: str, name: str, old: Public) -> list[str]:
    """Return what the table lacks about a public name."""
    full = f"{module}.{name}"
    if TABLE.remedy(full) is not None:
        return []
    place = TABLE.place(full)
    module, name = (place.module, place.name or "") if place is not None else (module, name)
    new = now().get(module, {}).get(name)
    if new is not None and new.source:
        new = now()[module + new.source][name]
    if new is None:
        return [f"{full}: not in {module}"]
    inherited = now()[module][new.base].members if new.base in now()[module] else {}
    members = inherited | new.members
    found = [f"{full}({parameter}=)" for parameter in _lost_parameters(full, old.parameters, new.parameters)]
    for member, arguments in old.members.items():
        renamed = TABLE.attribute(full, member) or member
        if member.startswith("_") or f"{full}.{member}" in TABLE.removed or _is_field(member, new):
            continue
        if renamed not in members:
            found.append(f"{full}.{member}")
        else:
            missing = _lost_parameters(f"{full}.{member}", arguments, members[renamed])
            found += [f"{full}.{member}({parameter}=)" for parameter in missing]
    return found


def _lost_parameters(function: str, old: set[str], new: set[str]) -> list[str]:
    missing = [name for name in sorted(old) if (TABLE.keyword(function, name) or name) not in new]
    variables = {variable.lower() for variable in TABLE.variables}
    return [name for name in missing if f"{function}.{name}" not in TABLE.removed and name not in variables]


def _is_field(member: str, new: Public) -> bool:
    """Whether a member is a setting with a new name."""
    return TABLE.variables.get(member.upper(), "").lower() in new.members


def test_table_every_public_name_has_a_place_or_a_remedy() -> None:
    """Functions, classes, their members and parameters exist where the table says, or have a remedy."""
    found = [
        fault for module, names in before().items() for name, old in names.items() for fault in lost(module, name, old)
    ]
    assert found == []


def test_table_has_no_entry_for_a_name_that_never_was() -> None:
    """A misspelt entry would rename nothing."""
    entries = [*TABLE.names, *TABLE.attributes, *TABLE.bases, *TABLE.views, *TABLE.cautions]
    entries += [name for name in (*TABLE.types, *TABLE.keywords) if name != "*"]
    known = {f"{module}.{name}": details for module, names in before().items() for name, details in names.items()}
    members = {f"{full}.{member}" for full, details in known.items() for member in details.members}
    inherited = {f"{name}.judge" for name in TABLE.bases}  # a method of the base class
    never = [name for name in entries if name not in known.keys() | members | inherited]
    assert [name for name in never if not name.startswith(UNRELEASED)] == []
    assert [module for module in TABLE.modules if module not in before()] == []


def rendered(paths: Iterable[str]) -> set[str]:
    """Template files as they render, without overlays; paths of the chassis begin below the service's package."""
    found = set()
    for path in paths:
        parts = [part for part in path.removesuffix(".jinja").split("/")[1:] if not part.startswith("{{on_")]
        found.add("/".join(parts).removeprefix("src/{{package_name}}/"))
    return found


def test_table_every_file_of_the_old_release_has_a_place() -> None:
    """An edit to a file that is gone can be carried over, or the owner is told where its content is."""
    old = rendered(git(ROOT, "ls-tree", "-r", "--name-only", OLD, "template").splitlines())
    template = ROOT / "template"
    new = rendered(path.relative_to(ROOT).as_posix() for path in template.rglob("*") if path.is_file())
    gone = old - new
    assert sorted(path for path in gone if path not in TABLE.files and TABLE.whereabouts(path) is None) == []
    assert sorted(TABLE.files.keys() - gone) == []
    assert sorted(set(TABLE.files.values()) - new) == []


@pytest.mark.parametrize("variable", TABLE.variables.values())
def test_table_a_renamed_variable_is_a_setting(variable: str) -> None:
    """Some settings class has the new name."""
    settings = [details for names in now().values() for name, details in names.items() if "Settings" in name]
    assert any(variable.lower() in details.members for details in settings)


def test_table_folder_has_one_file_for_each_release_that_renames() -> None:
    """Its name is a version, so that tables are applied in the order of releases."""
    names = [path.stem for path in Path(ROOT / "hooks/releases").glob("*.toml")]
    assert all(len(name.split(".")) == 3 and name.replace(".", "").isdigit() for name in names)
