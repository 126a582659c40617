"""The Python modules of a service: what they have, and what they import from each other."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from codemod import Place
from codemod.names import absolute, module_of


@dataclass
class Modules:
    """The owner's and the chassis's Python modules: what they have, and what the owner's import from each other."""

    folder: Path
    package: str
    exported: dict[str, set[str]] = field(default_factory=dict)
    passed_on: dict[str, str] = field(default_factory=dict)

    def add(self, path: str, code: str) -> None:
        """Read the imports of a file."""
        try:
            tree = ast.parse(code)
        except SyntaxError:
            return
        module, package = module_of(path)
        modules: dict[str, str] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                source = absolute(package, node.level, node.module or "")
                for alias in node.names:
                    name, full = alias.asname or alias.name, f"{source}.{alias.name}"
                    self.exported.setdefault(source, set()).add(alias.name)
                    self.passed_on[self.canonical(f"{module}.{name}")] = self.canonical(full)
                    modules[name] = full
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
                self.exported.setdefault(modules[node.value.id], set()).add(node.attr)

    def canonical(self, name: str) -> str:
        return name.removeprefix(f"{self.package}.")

    def exists(self, place: Place) -> bool:
        """Whether a module, or a name in it, is in the service."""
        root = self.folder if place.module.split(".")[0] == "tests" else self.folder / "src" / self.package
        path = root.joinpath(*place.module.split("."))
        file = path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"
        if place.name is None:
            return file.is_file() or path.is_dir()
        return file.is_file() and place.name in names_in(file)


@cache
def names_in(file: Path) -> frozenset[str]:
    """Return what a module binds at its top level."""
    return frozenset(_bound(ast.parse(file.read_text(encoding="utf-8")).body))


def _bound(body: Iterable[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((alias.asname or alias.name).split(".")[0] for alias in node.names)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))
        elif isinstance(node, ast.If | ast.Try):
            yield from _bound([*node.body, *node.orelse])
