"""The meaning of a file's expressions, as far as it is certain."""

# ruff: noqa: N802 -- names of these methods are those of libcst

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import libcst as cst
from libcst.metadata import (
    Assignment,
    BaseAssignment,
    ExpressionContextProvider,
    MetadataWrapper,
    ParentNodeProvider,
    PositionProvider,
    Scope,
    ScopeProvider,
)

from .names import absolute, module_of, name_of, text_of
from .source import Source
from .table import Table


class Meaning(NamedTuple):
    """The meaning of an expression: the object of that old name, or an instance of the class of that name."""

    name: str
    is_instance: bool = False


class Facts:
    """The meaning of a file's expressions, as far as it is certain."""

    # ruff: noqa: N802 -- names of these methods are those of libcst

    def __init__(self, source: Source, table: Table, wrapper: MetadataWrapper) -> None:
        self.source, self.table, self.module = source, table, wrapper.module
        self.scopes = wrapper.resolve(ScopeProvider)
        self.contexts = wrapper.resolve(ExpressionContextProvider)
        self.parents = wrapper.resolve(ParentNodeProvider)
        self.positions = wrapper.resolve(PositionProvider)
        self.package = module_of(source.path)[1]
        self._known: dict[cst.CSTNode, Meaning | None] = {}

    def line(self, node: cst.CSTNode) -> int:
        return int(self.positions[node].start.line)

    def canonical(self, name: str) -> str:
        """Return a full name without the service's package: what the table calls it."""
        return name.removeprefix(f"{self.source.package}.")

    def imported_module(self, node: cst.ImportFrom) -> str:
        """Return the full name of the module that a `from` import names."""
        return absolute(self.package, len(node.relative), name_of(node.module))

    def assignments(self, node: cst.Name) -> list[BaseAssignment]:
        scope = self.scopes.get(node)
        return list(scope[node.value]) if isinstance(scope, Scope) and node.value in scope else []

    def meaning(self, node: cst.CSTNode | None) -> Meaning | None:
        """Return what an expression stands for, or None when that is not certain."""
        if node is None:
            return None
        if node not in self._known:
            self._known[node] = None  # an expression that leads to itself stands for nothing
            self._known[node] = self._find(node)
        return self._known[node]

    def base(self, node: cst.ClassDef) -> str | None:
        """Return the old class that a class of the owner extends, directly or through others in the file."""
        for argument in node.bases:
            meaning = self.meaning(argument.value)
            if meaning is None or meaning.is_instance:
                continue
            name = self.source.passed_on.get(meaning.name, meaning.name)
            if name.startswith(("chassis.", "tests.")):
                return name
        return None

    def _find(self, node: cst.CSTNode) -> Meaning | None:
        if isinstance(node, cst.Name):
            return self._same(self._assigned(found, node.value) for found in self.assignments(node))
        if isinstance(node, cst.Attribute):
            return self._attribute(node)
        if isinstance(node, cst.Call):
            return self._call(node)
        if isinstance(node, cst.Await):
            return self.meaning(node.expression)
        if isinstance(node, cst.NamedExpr):
            return self.meaning(node.value)
        return None

    def _same(self, meanings: Iterable[Meaning | None]) -> Meaning | None:
        found = set(meanings)
        return found.pop() if len(found) == 1 else None

    def _assigned(self, assignment: BaseAssignment, name: str) -> Meaning | None:
        """Return what a name stands for after one of its assignments."""
        node = assignment.node if isinstance(assignment, Assignment) else None
        if isinstance(node, cst.Import | cst.ImportFrom):
            return self._imported(node, name)
        if node is None or isinstance(node, cst.FunctionDef):
            return None
        if isinstance(node, cst.ClassDef):
            base = self.base(node)
            return None if base is None else Meaning(base)
        if isinstance(node, cst.Param):
            return self._parameter(node)
        return self._target(node)

    def _imported(self, node: cst.Import | cst.ImportFrom, name: str) -> Meaning | None:
        if isinstance(node.names, cst.ImportStar):
            return None
        for alias in node.names:
            bound = name_of(alias.asname.name) if alias.asname else alias.evaluated_name
            if isinstance(node, cst.ImportFrom) and bound == name:
                return Meaning(self.canonical(f"{self.imported_module(node)}.{alias.evaluated_name}"))
            if isinstance(node, cst.Import) and alias.asname is not None and bound == name:
                return Meaning(self.canonical(alias.evaluated_name))
            if isinstance(node, cst.Import) and alias.asname is None and bound.partition(".")[0] == name:
                return Meaning(name)
        return None

    def _parameter(self, node: cst.Param) -> Meaning | None:
        if node.annotation is not None:
            return self.annotated(node.annotation.annotation)
        method = self.parents[self.parents[node]]
        owner = self._class_around(method) if isinstance(method, cst.FunctionDef) else None
        if owner is None or method.params.params[:1] != (node,):  # type: ignore[attr-defined]
            return None
        base = self.base(owner)
        return None if base is None else Meaning(base, is_instance=True)

    def _class_around(self, method: cst.FunctionDef) -> cst.ClassDef | None:
        """Return the class whose method a function is."""
        around = self.parents.get(self.parents.get(method, method))
        return around if isinstance(around, cst.ClassDef) else None

    def loader(self, node: cst.Name) -> cst.BaseExpression | None:
        """Return the function that loaded the module which a name stands for, or None when it was imported."""
        for assignment in self.assignments(node):
            around = self.parents.get(assignment.node) if isinstance(assignment, Assignment) else None
            assign = self.parents.get(around) if isinstance(around, cst.AssignTarget) else None
            if isinstance(assign, cst.Assign) and isinstance(assign.value, cst.Call):
                return assign.value.func
        return None

    def annotated(self, annotation: cst.BaseExpression) -> Meaning | None:
        """Return the instance that an annotation promises: of a class, `Annotated[class, ...]`, or `class | None`."""
        if isinstance(annotation, cst.SimpleString):
            return self._quoted(annotation)
        if isinstance(annotation, cst.BinaryOperation) and isinstance(annotation.operator, cst.BitOr):
            sides = [side for side in (annotation.left, annotation.right) if name_of(side) != "None"]
            return self.annotated(sides[0]) if len(sides) == 1 else None
        if isinstance(annotation, cst.Subscript) and name_of(annotation.value).endswith(("Annotated", "Optional")):
            first = annotation.slice[0].slice
            return self.annotated(first.value) if isinstance(first, cst.Index) else None
        meaning = self.meaning(annotation)
        if meaning is None:
            return self._alias(annotation)
        return None if meaning.is_instance else self._instance(meaning.name)

    def _alias(self, annotation: cst.BaseExpression) -> Meaning | None:
        """Return the instance that a name for an annotation promises: `Chosen = Annotated[class, ...]`."""
        found = self.assignments(annotation) if isinstance(annotation, cst.Name) else []
        targets = [self.parents.get(item.node) for item in found if isinstance(item, Assignment)]
        if len(targets) != 1 or not isinstance(targets[0], cst.AssignTarget):
            return None
        assign = self.parents[targets[0]]
        is_annotation = isinstance(assign, cst.Assign) and isinstance(assign.value, cst.Subscript | cst.BinaryOperation)
        return self.annotated(assign.value) if is_annotation else None  # type: ignore[attr-defined]

    def _instance(self, cls: str) -> Meaning:
        """Return an instance of a class, which a module of the owner may pass on."""
        return Meaning(self.source.passed_on.get(cls, cls), is_instance=True)

    def _quoted(self, annotation: cst.SimpleString) -> Meaning | None:
        first = (text_of(annotation) or "").partition("|")[0].strip()
        scope = self.scopes.get(annotation)
        if not isinstance(scope, Scope) or not first.isidentifier() or first not in scope:
            return None
        meaning = self._same(self._assigned(found, first) for found in scope[first])
        return None if meaning is None else self._instance(meaning.name)

    def _target(self, node: cst.CSTNode) -> Meaning | None:
        """Return what is assigned to a name by `=`, `:`, `for` or `with`."""
        around = self.parents.get(node)
        if isinstance(around, cst.AnnAssign):
            return self.annotated(around.annotation.annotation)
        if isinstance(around, cst.NamedExpr):
            return self.meaning(around.value)
        if isinstance(around, cst.AssignTarget):
            assign = self.parents[around]
            return self.meaning(assign.value) if isinstance(assign, cst.Assign) else None
        if isinstance(around, cst.Element):
            return self._unpacked(around)
        if isinstance(around, cst.For | cst.CompFor):
            return self._element(around.iter)
        if isinstance(around, cst.AsName) and isinstance(item := self.parents[around], cst.WithItem):
            return self.meaning(item.item)
        return None

    def _unpacked(self, node: cst.Element) -> Meaning | None:
        """Return what `(name,) = collection` assigns."""
        target = self.parents.get(self.parents[node])
        assign = self.parents.get(target) if isinstance(target, cst.AssignTarget) else None
        return self._element(assign.value) if isinstance(assign, cst.Assign) else None

    def _element(self, collection: cst.BaseExpression) -> Meaning | None:
        if isinstance(collection, cst.GeneratorExp | cst.ListComp):
            return self.meaning(collection.elt)
        meaning = self.meaning(collection)
        if meaning is None or not meaning.name.endswith("[]"):
            return None
        return Meaning(meaning.name.removesuffix("[]"), is_instance=True)

    def _attribute(self, node: cst.Attribute) -> Meaning | None:
        meaning = self.meaning(node.value)
        if meaning is not None and not meaning.is_instance:
            return Meaning(self.canonical(f"{meaning.name}.{node.attr.value}"))
        held = None if meaning is None else self._typed(meaning.name, node.attr.value)
        return self._of_self(node) if held is None else Meaning(held, is_instance=True)

    def _typed(self, cls: str | None, attribute: str) -> str | None:
        while cls is not None:
            if f"{cls}.{attribute}" in self.table.types:
                return self.table.types[f"{cls}.{attribute}"]
            cls = self.table.bases.get(cls)
        return None

    def _of_self(self, node: cst.Attribute) -> Meaning | None:
        """Return what `self.name` stands for, when every method of the class agrees on it."""
        if not isinstance(node.value, cst.Name):
            return None
        parameters = [found.node for found in self.assignments(node.value) if isinstance(found, Assignment)]
        if len(parameters) != 1 or not isinstance(parameters[0], cst.Param):
            return None
        method = self.parents[self.parents[parameters[0]]]
        owner = self._class_around(method) if isinstance(method, cst.FunctionDef) else None
        if owner is None or method.params.params[:1] != (parameters[0],):  # type: ignore[attr-defined]
            return None
        collector = _Attributes(node.attr.value)
        owner.body.visit(collector)
        return self._same(self._target(target) for target in collector.targets)

    def _call(self, node: cst.Call) -> Meaning | None:
        if name_of(node.func) == "super":
            return self._super(node)
        if name_of(node.func) == "next" and node.args:
            return self._element(node.args[0].value)
        meaning = self.meaning(node.func)
        if meaning is None:
            return self._own_function(node)
        if meaning.name in self.table.loaders and node.args:
            loaded = text_of(node.args[0].value)
            return None if loaded is None else Meaning(self.canonical(loaded))
        if meaning.is_instance and isinstance(node.func, cst.Attribute):
            return self._argument(node) if meaning.name == "<argument>" else meaning
        name = self.source.passed_on.get(meaning.name, meaning.name)
        if name in self.table.types:
            return Meaning(self.table.types[name], is_instance=True)
        return Meaning(name, is_instance=True) if self.table.is_class(name) else None

    def _super(self, node: cst.CSTNode) -> Meaning | None:
        while not isinstance(node, cst.ClassDef | cst.Module):
            node = self.parents[node]
        base = self.base(node) if isinstance(node, cst.ClassDef) else None
        return None if base is None else Meaning(base, is_instance=True)

    def _argument(self, node: cst.Call) -> Meaning | None:
        first = self.meaning(node.args[0].value) if node.args else None
        return None if first is None else self._instance(first.name)

    def _own_function(self, node: cst.Call) -> Meaning | None:
        """Return what a function of this file says that it returns."""
        found = self.assignments(node.func) if isinstance(node.func, cst.Name) else []
        functions = [item.node for item in found if isinstance(item, Assignment)]
        if len(functions) != 1 or not isinstance(functions[0], cst.FunctionDef) or functions[0].returns is None:
            return None
        return self.annotated(functions[0].returns.annotation)


class _Attributes(cst.CSTVisitor):
    """Collects the places where a class or its methods assign an attribute."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.targets: list[cst.CSTNode] = []

    def visit_AssignTarget(self, node: cst.AssignTarget) -> None:
        self._add(node.target)

    def visit_AnnAssign(self, node: cst.AnnAssign) -> None:
        self._add(node.target)

    def _add(self, target: cst.BaseExpression) -> None:
        if isinstance(target, cst.Attribute) and not isinstance(target.value, cst.Name):
            return
        if name_of(target).rpartition(".")[2] == self.name:
            self.targets.append(target)
