"""Decides what becomes of each node of a file."""

# ruff: noqa: N802 -- names of these methods are those of libcst

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath
from typing import Any

import libcst as cst
from libcst.metadata import Assignment, ExpressionContext, ImportAssignment

from .facts import Facts
from .names import name_of, text_of
from .source import Note
from .table import Place
from .words import Bound, Words


@dataclass
class Imported:
    """One name that a statement imports: what it is called here, where it is now, and what it will be called here."""

    alias: cst.ImportAlias
    old: str
    new: str
    place: Place | None


class Plan(cst.CSTVisitor):
    """Decides what becomes of each node of a file, and notes what its owner has to see to."""

    def __init__(self, facts: Facts) -> None:
        self.facts, self.table, self.source = facts, facts.table, facts.source
        self.imports: dict[cst.CSTNode, list[Imported]] = {}
        self.needed: dict[cst.CSTNode, set[str]] = {}  # modules that a dotted `import` has to name
        self.added: dict[str, str] = {}  # a name to import, and the full name of its module
        self.names: dict[cst.CSTNode, str] = {}  # new names of attributes, keywords, definitions and uses of imports
        self.dotted: dict[cst.CSTNode, str] = {}  # expressions that become another dotted name
        self.texts: dict[cst.CSTNode, str] = {}  # string literals with another text
        self.loaded: dict[cst.CSTNode, tuple[cst.BaseExpression, str]] = {}  # uses of a module that is loaded here
        self.views: dict[cst.CSTNode, tuple[str, str]] = {}
        self.notes: list[Note] = []
        self._words = Words(facts)
        facts.module.visit(self._words)
        self.fields = {old.lower(): new.lower() for old, new in self.table.variables.items()}
        code = f"src/{self.source.package}/"
        self._is_chassis = self.source.path.startswith((f"{code}chassis/", "tests/chassis/", "tests/servers/"))
        self._is_typed = self.source.path.startswith(code) and not self._is_chassis

    # -- names and places --------------------------------------------------------------------------------------------

    def full(self, name: str) -> str:
        """Return a name of the table with the service's package."""
        if name.split(".")[0] == "tests":
            return name
        return f"{self.source.package}.{name}" if name else self.source.package

    def note(self, node: cst.CSTNode, text: str, *, is_certain: bool = True) -> None:
        found = Note(self.source.path, self.facts.line(node), text, is_certain)
        if found not in self.notes:
            self.notes.append(found)

    def place(self, name: str, node: cst.CSTNode) -> Place | None:
        """Return the new place of a name if it has one; what is gone, or not in this service, is noted."""
        remedy = self.table.remedy(name)
        if remedy is not None:
            self.note(node, f"`{name}` is gone or has another use: {remedy}")
            return None
        self._caution(name, node)
        place = self.table.place(name)
        if place is None or self.source.exists(place):
            return place
        where = ".".join(part for part in (place.module, place.name) if part)
        self.note(node, f"`{name}` would be `{where}`, which this service does not have")
        return None

    def _caution(self, name: str, node: cst.CSTNode) -> None:
        if name in self.table.cautions and not self._is_chassis:
            self.note(node, f"`{name}`: {self.table.cautions[name]}", is_certain=False)

    # -- imports -----------------------------------------------------------------------------------------------------

    def visit_ImportFrom(self, node: cst.ImportFrom) -> bool:
        module = self.facts.imported_module(node)
        if isinstance(node.names, cst.ImportStar):
            if self.table.place(self.facts.canonical(module)) is not None:
                self.note(node, "`import *` hides which names are used here: name them, and run this again")
            return False
        self.imports[node] = [self._imported(alias, f"{module}.{alias.evaluated_name}") for alias in node.names]
        return False

    def visit_Import(self, node: cst.Import) -> bool:
        self.imports[node] = [self._imported(alias, alias.evaluated_name, dotted=True) for alias in node.names]
        return False

    def _imported(self, alias: cst.ImportAlias, name: str, dotted: bool = False) -> Imported:
        old = name_of(alias.asname.name) if alias.asname else alias.evaluated_name
        place = self.place(self.facts.canonical(name), alias)
        if place is None or alias.asname is not None or dotted or place.last == old:
            return Imported(alias, old, old, place)
        is_taken = place.last in self._words.used or place.last in self._bound
        new = old if is_taken or self._is_passed_on(old) else place.last
        return Imported(alias, old, new, place)

    def _is_passed_on(self, name: str) -> bool:
        """Whether others may import a name from this file, which then has to have it."""
        is_package = PurePath(self.source.path).name == "__init__.py"
        is_unused = is_package and name not in self._words.used
        return is_unused or name in self._words.listed or name in self.source.exported

    @cached_property
    def _bound(self) -> set[str]:
        """The names that imports bind and keep."""
        collector = Bound(self.facts)
        self.facts.module.visit(collector)
        return collector.found

    def _entries(self, node: cst.Name) -> list[tuple[cst.CSTNode, Imported]]:
        """Return the imports that a name may come from; none where it may come from elsewhere too."""
        found = []
        for assignment in self.facts.assignments(node):
            if not isinstance(assignment, ImportAssignment):
                return []
            entries = self.imports.get(assignment.node, [])
            found += [(assignment.node, entry) for entry in entries if entry.old.split(".")[0] == node.value]
        return found

    # -- uses --------------------------------------------------------------------------------------------------------

    def visit_Name(self, node: cst.Name) -> None:
        if self.facts.contexts.get(node) is None:
            return
        found = {entry.new for _, entry in self._entries(node) if "." not in entry.old}
        if len(found) == 1 and node.value not in found:
            self.names[node] = found.pop()
        elif len(found) > 1:
            self.note(node, f"`{node.value}` comes from imports that have different new names: rename it by hand")

    def visit_Attribute(self, node: cst.Attribute) -> bool:
        around = self.facts.meaning(node.value)
        if around is None:
            return self._unknown(node)
        if around.is_instance:
            self._of_instance(node, around.name)
            return True
        meaning = self.facts.meaning(node)
        place = None if meaning is None else self.place(meaning.name, node)
        return True if place is None else self._of_thing(node, place)

    def _unknown(self, node: cst.Attribute) -> bool:
        name = node.attr.value
        if name in self.fields:
            self.names[node.attr] = self.fields[name]
        elif name in self.table.suspicious() and name_of(node.value) != "self" and not self._is_chassis:
            news = " or ".join(f"`{new}` of a {cls}" for cls, new in self._news(name))
            self.note(node.attr, f"`.{name}`: if this is the chassis's, it is now {news}", is_certain=False)
        return True

    def _news(self, name: str) -> list[tuple[str, str]]:
        found = []
        for owners in (self.table.attributes, self.table.keywords):
            for owner, renamed in owners.items():
                if name in renamed:
                    place = self.table.place(owner)
                    found.append(((place and place.name) or owner.rpartition(".")[2], renamed[name]))
        return list(dict.fromkeys(found))

    def _of_instance(self, node: cst.Attribute, cls: str) -> None:
        name = node.attr.value
        view = self.table.views.get(f"{cls}.{name}")
        if view is not None and self._is_typed:
            self._view(node, view)
        elif (new := self.table.attribute(cls, name)) is not None:
            self.names[node.attr] = new
            self._caution(f"{cls}.{name}", node.attr)
        elif (remedy := self.table.removed.get(f"{cls}.{name}")) is not None:
            self.note(node.attr, f"`.{name}` is gone: {remedy}")
        elif name in self.fields:
            self.names[node.attr] = self.fields[name]

    def _view(self, node: cst.Attribute, view: Mapping[str, Any]) -> None:
        """Replace an attribute by a call with a class of the owner: `service.settings_as(Settings)`."""
        outer = self.facts.parents[node]
        if isinstance(outer, cst.Attribute) and outer.attr.value in view["keeps"]:
            return
        if self.facts.contexts.get(node) is not ExpressionContext.LOAD:
            return
        module, _, cls = str(view["class"]).rpartition(".")
        local = self._import(self.full(module), cls)
        if local is None:
            self.note(node, f"`{cls}` is another name here: import that of `{module}` and call `{view['method']}`")
        else:
            self.views[node] = (str(view["method"]), local)

    def _import(self, module: str, name: str) -> str | None:
        """Return what a name of a module is called in this file, after importing it if need be."""
        for node, entries in self.imports.items():
            if isinstance(node, cst.ImportFrom) and self.facts.imported_module(node) == module:
                for entry in entries:
                    if entry.alias.evaluated_name == name:
                        return entry.old
        if self.added.get(name) == module:
            return name
        if name in self._words.used or name in self._bound or name in self.added:
            return None
        self.added[name] = module
        return name

    def _of_thing(self, node: cst.Attribute, place: Place) -> bool:
        """Rename a use of a module, of a name in it, or of an attribute of that."""
        if place.attributes:
            if len(place.attributes) == 1 and place.attributes[0] != node.attr.value:
                self.names[node.attr] = place.attributes[0]
            return True
        if isinstance(node.value, cst.Call):
            return self._of_loaded(node, node.value, place)
        if isinstance(node.value, cst.Name) and place.name is not None:
            return self._of_module(node, node.value, place, place.name)
        return self._of_path(node, place)

    def _of_loaded(self, node: cst.Attribute, call: cst.Call, place: Place) -> bool:
        """Rename `module("chassis.service").service_of`: the module and its name."""
        literal = call.args[0].value
        if isinstance(literal, cst.SimpleString) and place.name is not None:
            self._load(literal, place.module)
            self.names[node.attr] = place.name
        return True

    def _load(self, literal: cst.SimpleString, module: str) -> None:
        is_full = (text_of(literal) or "").startswith(f"{self.source.package}.")
        self.texts.setdefault(literal, self.full(module) if is_full else module)

    def _of_module(self, node: cst.Attribute, base: cst.Name, place: Place, name: str) -> bool:
        """Rename `problem.answer`, whose module is imported by itself."""
        meaning = self.facts.meaning(base)
        now = None if meaning is None else self.table.place(meaning.name)
        module = meaning.name if now is None and meaning is not None else now.module if now is not None else ""
        if module == place.module:
            self.names[node.attr] = name
            return True
        loader = self.facts.loader(base)
        if loader is not None:
            self.names[node.attr] = name
            self.loaded[node] = (loader, place.module)
            return False
        local = self._import(self.full(place.module), name)
        if local is None:
            self.note(node, f"import `{name}` from `{self.full(place.module)}` for this: the name is taken here")
            return True
        self.dotted[node] = local
        return False

    def _of_path(self, node: cst.Attribute, place: Place) -> bool:
        """Rename `orders.chassis.problem.answer`, which a plain `import` made known."""
        root: cst.BaseExpression = node
        while isinstance(root, cst.Attribute):
            root = root.value
        new = self.full(".".join(part for part in (place.module, place.name) if part))
        meaning = self.facts.meaning(root)
        known = "" if meaning is None else meaning.name
        known = known if known == self.source.package or known.split(".")[0] == "tests" else self.full(known)
        if not isinstance(root, cst.Name) or not new.startswith(f"{known}."):
            self.note(node, f"this is now `{new}`: rename it by hand")
            return True
        self.dotted[node] = root.value + new.removeprefix(known)
        for statement, entry in self._entries(root):
            if "." in entry.old:
                self.needed.setdefault(statement, set()).add(self.full(place.module))
        return False

    # -- calls and classes -------------------------------------------------------------------------------------------

    def visit_Call(self, node: cst.Call) -> None:
        called = self._called(node)
        if called in self.table.loaders and node.args and isinstance(node.args[0].value, cst.SimpleString):
            self._visit_loader(node, node.args[0].value)
        if name_of(node.func).rpartition(".")[2] in ("setattr", "getattr", "delattr", "hasattr", "object"):
            self._visit_named(node)
        for argument in node.args:
            if argument.keyword is not None:
                self._visit_keyword(argument.keyword, called)

    def _called(self, node: cst.Call) -> str | None:
        """Return the old name of the function, class or method that a call calls."""
        func = node.func
        if isinstance(func, cst.Attribute):
            around = self.facts.meaning(func.value)
            if around is not None and around.is_instance:
                return around.name if func.attr.value == "__init__" else f"{around.name}.{func.attr.value}"
        meaning = self.facts.meaning(func)
        if meaning is None or meaning.is_instance or self._has_init(func):
            return None
        return self.source.passed_on.get(meaning.name, meaning.name)

    def _has_init(self, func: cst.BaseExpression) -> bool:
        """Whether a name is a class of this file with its own `__init__`."""
        found = self.facts.assignments(func) if isinstance(func, cst.Name) else []
        classes = [item.node for item in found if isinstance(item, Assignment) and isinstance(item.node, cst.ClassDef)]
        return any(name_of(getattr(part, "name", None)) == "__init__" for cls in classes for part in cls.body.body)

    def _visit_loader(self, node: cst.Call, literal: cst.SimpleString) -> None:
        meaning = self.facts.meaning(node)
        place = None if meaning is None else self.place(meaning.name, node)
        if place is not None and place.name is None:
            self._load(literal, place.module)

    def _visit_named(self, node: cst.Call) -> None:
        """Rename `setattr(problem, "answer", ...)`."""
        if len(node.args) < 2 or not isinstance(literal := node.args[1].value, cst.SimpleString):
            return
        around, name = self.facts.meaning(node.args[0].value), text_of(literal)
        if around is None or name is None:
            return
        if around.is_instance:
            new = self.table.attribute(around.name, name)
        else:
            place = self.place(f"{around.name}.{name}", literal)
            new = None if place is None else (*filter(None, [place.name]), *place.attributes)[-1]
        if new is not None and new != name:
            self.texts[literal] = new

    def _visit_keyword(self, keyword: cst.Name, called: str | None) -> None:
        name = keyword.value
        new = None if called is None else self.table.keyword(called, name)
        if new is not None:
            self.names[keyword] = new
        elif name in self.fields:
            self.names[keyword] = self.fields[name]
        elif called is None and name in self.table.suspicious() and not self._is_chassis:
            news = " or ".join(f"`{new}=` of {owner}" for owner, new in self._news(name))
            self.note(keyword, f"`{name}=`: if this goes to the chassis, it is now {news}", is_certain=False)

    def visit_ClassDef(self, node: cst.ClassDef) -> None:
        base = self.facts.base(node)
        for part in node.body.body:
            if isinstance(part, cst.FunctionDef):
                self._visit_member(part.name, base)
                self._visit_definition(part.name)
            elif isinstance(part, cst.SimpleStatementLine):
                for statement in part.body:
                    if isinstance(statement, cst.AnnAssign) and isinstance(statement.target, cst.Name):
                        self._visit_member(statement.target, base)

    def _visit_definition(self, name: cst.Name) -> None:
        if name.value in self.table.definitions and not self._is_chassis:
            text = f"if the chassis calls `{name.value}`, it is now {self.table.definitions[name.value]}"
            self.note(name, text, is_certain=False)

    def _visit_member(self, name: cst.Name, base: str | None) -> None:
        new = None if base is None else self.table.attribute(base, name.value)
        new = new or self.fields.get(name.value)
        if new is not None:
            self.names[name] = new
