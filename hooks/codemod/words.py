"""The names that a file uses and binds, so that a new name never takes the place of another."""

# ruff: noqa: ARG002, N802 -- names and parameters of these methods are those of libcst

from __future__ import annotations

import libcst as cst

from .facts import Facts
from .names import name_of, text_of


class Words(cst.CSTVisitor):
    """Collects every name that is used in a file, so that a new one never takes the place of another."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.used: set[str] = set()
        self.listed: set[str] = set()

    def visit_Name(self, node: cst.Name) -> None:
        if self.facts.contexts.get(node) is not None:
            self.used.add(node.value)

    def visit_Param(self, node: cst.Param) -> None:
        self.used.add(node.name.value)

    def visit_Import(self, node: cst.Import) -> bool:
        return False

    def visit_ImportFrom(self, node: cst.ImportFrom) -> bool:
        return False

    def visit_Assign(self, node: cst.Assign) -> None:
        if any(name_of(target.target) == "__all__" for target in node.targets):
            literals = node.value.elements if isinstance(node.value, cst.List | cst.Tuple) else ()
            self.listed |= {text for item in literals if (text := text_of(item.value)) is not None}


class Bound(cst.CSTVisitor):
    """Collects what imports bind, but for names that a release renames."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.found: set[str] = set()

    def visit_ImportFrom(self, node: cst.ImportFrom) -> None:
        if isinstance(node.names, cst.ImportStar):
            return
        module = self.facts.imported_module(node)
        for alias in node.names:
            name = self.facts.canonical(f"{module}.{alias.evaluated_name}")
            if alias.asname is not None or self.facts.table.place(name) is None:
                self.found.add(name_of(alias.asname.name) if alias.asname else alias.evaluated_name)

    def visit_Import(self, node: cst.Import) -> None:
        for alias in node.names:
            self.found.add((name_of(alias.asname.name) if alias.asname else alias.evaluated_name).split(".")[0])
