"""Applies mutations to a rendered service, one at a time, and runs the test that must detect each.

`mutations.toml` names the symbol and the code in it that a mutation changes. Both are compared as syntax trees, so that
formatting, comments and changes elsewhere do not matter.
"""

import ast
import os
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

from live import environment, start_group
from questions import ROOT

CHASSIS = ROOT / "template" / "src" / "{{package_name}}" / "chassis"
# How long tests may take on a busy machine. A mutation may be that something never ends.
TIMEOUT_SECONDS = 300

Function = ast.FunctionDef | ast.AsyncFunctionDef


class MutationError(Exception):
    """A mutation cannot be applied; the text says why, in one sentence."""


@dataclass(frozen=True)
class Mutation:
    """One promise, a change of the chassis that breaks it, and the test that detects the change.

    Attributes:
        section: The section of the contract.
        promise: The promise of the service, in one sentence.
        symbol: A file of the chassis and a function, class or variable in it: `web/policy.py::RequestPolicy._reject`.
        test: The test, below `tests/chassis/`, that fails.
        change: The kind of change: `return`, `remove` or `replace`.
        code: The value to return instead of the whole body, the code whose statement is removed, or the expression or
            argument to replace.
        replacement: The expression or argument that replaces it.
        framework: The framework of the service in which the test runs.
    """

    section: str
    promise: str
    symbol: str
    test: str
    change: str
    code: str
    replacement: str = ""
    framework: str = "fastapi"

    @property
    def file(self) -> str:
        return self.symbol.partition("::")[0]

    def apply(self, source: str) -> str:
        """Return the source of the file with the mutation.

        Raises:
            MutationError: The symbol or the code in it does not exist, or exists more than once.
        """
        tree = ast.parse(source)
        symbol = _find_symbol(tree, self.symbol)
        if self.change == "return":
            if not isinstance(symbol, Function):
                raise MutationError(f"{self.symbol} is not a function, so `return` cannot replace its body")
            symbol.body = ast.parse(f"def f():\n    return {self.code}").body[0].body  # type: ignore[attr-defined]
            return ast.unparse(tree)
        code = ast.dump(_parse(self.code))
        places = [place for place in _places(symbol) if ast.dump(place.node) == code]
        if len(places) != 1:
            raise MutationError(f"{self.symbol} has `{self.code}` {len(places)} times; a mutation changes one place")
        if self.change == "remove":
            places[0].remove_statement()
        else:
            places[0].replace(_parse(self.replacement))
        return ast.unparse(ast.fix_missing_locations(tree))


@cache
def mutations() -> Sequence[Mutation]:
    """Read all mutations, in their order."""
    sections = tomllib.loads((ROOT / "tests" / "mutations.toml").read_text(encoding="utf-8"))
    return [_mutation(section, row) for section, rows in sections.items() for row in rows]


def _mutation(section: str, row: dict[str, str]) -> Mutation:
    (change,) = row.keys() & {"return", "remove", "replace"}
    assert ("by" in row) == (change == "replace"), f"{row['symbol']}: `by` belongs to `replace`"
    known = {"promise", "symbol", "test", "framework", "by", change}
    assert row.keys() <= known, f"{row['symbol']}: unknown keys {row.keys() - known}"
    return Mutation(
        section, row["promise"], row["symbol"], row["test"], change, row[change], row.get("by", ""),
        row.get("framework", "fastapi"),
    )  # fmt: skip


# -- syntax trees ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """A node, and where it is in the nodes above it, the outermost first: parent, field and index in a list."""

    node: ast.AST
    path: tuple[tuple[ast.AST, str, int | None], ...]

    def replace(self, new: ast.AST) -> None:
        parent, name, index = self.path[-1]
        if index is None:
            setattr(parent, name, new)
        else:
            getattr(parent, name)[index] = new

    def remove_statement(self) -> None:
        """Replace the innermost statement around the node, or the node's own, by `pass`."""
        nodes = [*(parent for parent, _, _ in self.path), self.node]
        depth = max(number for number, node in enumerate(nodes) if isinstance(node, ast.stmt))
        _Place(nodes[depth], self.path[:depth]).replace(ast.Pass())


def _places(node: ast.AST, path: tuple[tuple[ast.AST, str, int | None], ...] = ()) -> Iterator[_Place]:
    yield _Place(node, path)
    for name, value in ast.iter_fields(node):
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(child, ast.AST):
                yield from _places(child, (*path, (node, name, index)))


def _parse(code: str) -> ast.AST:
    """Parse an expression, a statement, or an argument of a call such as `access_log=False`."""
    parsed = ast.parse(code).body[0]
    if isinstance(parsed, ast.Expr):
        return parsed.value
    if isinstance(parsed, ast.Assign) and isinstance(parsed.targets[0], ast.Name):
        return ast.keyword(parsed.targets[0].id, parsed.value)
    return parsed


def _find_symbol(tree: ast.Module, symbol: str) -> ast.AST:
    found: ast.AST = tree
    for name in symbol.partition("::")[2].split("."):
        named = [child for child in ast.walk(found) if _has_name(child, name) and child is not found]
        if not named:
            raise MutationError(f"{symbol} does not exist: `{name}` was renamed or moved")
        found = named[0]  # the outermost one comes first
    return found


def _has_name(node: ast.AST, name: str) -> bool:
    if isinstance(node, Function | ast.ClassDef):
        return node.name == name
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return any(isinstance(target, ast.Name) and target.id == name for target in targets)


# -- runs --------------------------------------------------------------------------------------------------------------


def mutated(service: Path, mutation: Mutation, destination: Path) -> Path:
    """Copy a rendered service with its bytecode, and apply a mutation to the copy."""
    copy = shutil.copytree(service, destination, symlinks=True)
    path = next((copy / "src").glob("*/chassis")) / mutation.file
    path.write_text(mutation.apply(path.read_text(encoding="utf-8")), encoding="utf-8")
    for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
        compiled.unlink()
    return copy


def declare_version(service: Path) -> None:
    """Write the metadata that an installation writes, because the service reads its version from it."""
    project = tomllib.loads((service / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    metadata = service / "src" / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    text = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    metadata.write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class Outcome:
    """How tests ended: `passed`, `failed` in a test, `broken` outside of one, or `hung`."""

    verdict: str
    output: str


def run_tests(service: Path, tests: Sequence[str]) -> Outcome:
    """Run tests of a service with this Python and its libraries, in a process group that ends with them."""
    report = service / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"--junitxml={report}"]
    variables = environment(PYTHONPATH="src", PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", TMPDIR=str(service / "scratch"))
    (service / "scratch").mkdir(exist_ok=True)
    process = start_group(*command, *(f"tests/chassis/{test}" for test in tests), cwd=service, variables=variables)
    try:
        output, _ = process.communicate(timeout=TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return Outcome("hung", process.communicate()[0])
    return Outcome(_verdict(process.returncode, report), output)


def _verdict(code: int, report: Path) -> str:
    if code not in (0, 1):
        return "broken"
    (suite,) = ElementTree.parse(report).getroot()  # noqa: S314 - pytest has written it
    if int(suite.attrib["failures"]):
        return "failed"
    ran = int(suite.attrib["tests"]) - int(suite.attrib["skipped"]) - int(suite.attrib["errors"])
    return "passed" if code == 0 and ran and not int(suite.attrib["skipped"]) else "broken"
