"""String literals: settings, quoted annotations, dotted names, and keys of a health report."""

# ruff: noqa: N802 -- names of these methods are those of libcst

from __future__ import annotations

import re
from collections.abc import Iterable

import libcst as cst

from .names import text_of
from .plan import Plan


class Literals(cst.CSTVisitor):
    """Adds to a plan what becomes of string literals. Those that load a module are planned before."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._variables = _alternatives(plan.table.variables)

    def visit_Annotation(self, node: cst.Annotation) -> None:
        if isinstance(node.annotation, cst.SimpleString):
            renamed = {
                item.old: item.new for items in self.plan.imports.values() for item in items if item.old != item.new
            }
            text = text_of(node.annotation) or ""
            new = _alternatives(renamed).sub(lambda match: renamed[match[0]], text) if renamed else text
            if new != text:
                self.plan.texts[node.annotation] = new

    def visit_Subscript(self, node: cst.Subscript) -> None:
        """Rename a key of `["details"]` or `.details`."""
        of = node.value.attr.value if isinstance(node.value, cst.Attribute) else self._key(node.value)
        key = self._literal(node)
        if of == "details" and key is not None and (text_of(key) or "") in self.plan.table.details:
            self.plan.texts[key] = self.plan.table.details[text_of(key) or ""]

    def _literal(self, node: cst.BaseExpression) -> cst.SimpleString | None:
        """Return the string that a subscript has as its only key."""
        if not isinstance(node, cst.Subscript) or len(node.slice) != 1:
            return None
        index = node.slice[0].slice
        return index.value if isinstance(index, cst.Index) and isinstance(index.value, cst.SimpleString) else None

    def _key(self, node: cst.BaseExpression) -> str | None:
        return text_of(self._literal(node))

    def visit_SimpleString(self, node: cst.SimpleString) -> None:
        text = text_of(node)
        if text is None or node in self.plan.texts:
            return
        raw = node.raw_value
        new = (
            self._variables.sub(lambda match: self.plan.table.variables[match[0]], raw)
            if self.plan.table.variables
            else raw
        )
        new = self.plan.table.strings.get(new, self.plan.fields.get(new, new))
        if re.fullmatch(rf"({re.escape(self.plan.source.package)}|tests)\.\w+(\.\w+)*", text):
            place = self.plan.table.place(self.plan.facts.canonical(text))
            if place is not None and self.plan.source.exists(place):
                new = self.plan.full(".".join([place.module, *([place.name] if place.name else []), *place.attributes]))
        if new != raw:
            self.plan.texts[node] = new
        for variable, remedy in self.plan.table.removed_variables.items():
            if text == variable:
                self.plan.note(node, f"`{variable}` is gone: {remedy}")

    def visit_FormattedStringText(self, node: cst.FormattedStringText) -> None:
        if self.plan.table.variables:
            new = self._variables.sub(lambda match: self.plan.table.variables[match[0]], node.value)
            if new != node.value:
                self.plan.texts[node] = new


def _alternatives(words: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern that matches any of these words as a whole."""
    return re.compile(rf"(?<![\w])(?:{'|'.join(map(re.escape, words))})(?![\w])")
