"""Does what a plan says."""

# ruff: noqa: ARG002, N802 -- names and parameters of these methods are those of libcst

from __future__ import annotations

from collections.abc import Sequence

import libcst as cst

from .names import dotted, module_of, name_of, relative, with_text
from .plan import Imported, Plan


class Rewriter(cst.CSTTransformer):
    """Does what a plan says."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.source = plan, plan.source
        self.old_package = module_of(self.source.path)[1]
        self.package = module_of(self.source.moved_to or self.source.path)[1]

    def leave_Name(self, original_node: cst.Name, updated_node: cst.Name) -> cst.Name:
        new = self.plan.names.get(original_node)
        return updated_node if new is None else updated_node.with_changes(value=new)

    def leave_Attribute(self, original_node: cst.Attribute, updated_node: cst.Attribute) -> cst.BaseExpression:
        if original_node in self.plan.dotted:
            return dotted(self.plan.dotted[original_node])
        if original_node in self.plan.loaded:
            loader, module = self.plan.loaded[original_node]
            return updated_node.with_changes(value=cst.Call(loader, [cst.Arg(cst.SimpleString(f'"{module}"'))]))
        if original_node in self.plan.views:
            method, cls = self.plan.views[original_node]
            return cst.Call(updated_node.with_changes(attr=cst.Name(method)), [cst.Arg(cst.Name(cls))])
        return updated_node

    def leave_SimpleString(self, original_node: cst.SimpleString, updated_node: cst.SimpleString) -> cst.SimpleString:
        new = self.plan.texts.get(original_node)
        return updated_node if new is None else with_text(updated_node, new)

    def leave_FormattedStringText(
        self, original_node: cst.FormattedStringText, updated_node: cst.FormattedStringText
    ) -> cst.FormattedStringText:
        new = self.plan.texts.get(original_node)
        return updated_node if new is None else updated_node.with_changes(value=new)

    def leave_SimpleStatementSuite(
        self, original_node: cst.SimpleStatementSuite, updated_node: cst.SimpleStatementSuite
    ) -> cst.SimpleStatementSuite:
        return updated_node.with_changes(body=self._statements(original_node.body, updated_node.body))

    def leave_SimpleStatementLine(
        self, original_node: cst.SimpleStatementLine, updated_node: cst.SimpleStatementLine
    ) -> cst.SimpleStatementLine | cst.FlattenSentinel[cst.SimpleStatementLine]:
        body = self._statements(original_node.body, updated_node.body)
        if len(original_node.body) > 1 or len(body) < 2:
            return updated_node.with_changes(body=body)
        first, *rest = body
        lines = [cst.SimpleStatementLine([statement]) for statement in rest]
        return cst.FlattenSentinel([updated_node.with_changes(body=[first]), *lines])

    def leave_Module(self, original_node: cst.Module, updated_node: cst.Module) -> cst.Module:
        if not self.plan.added:
            return updated_node
        lines = [
            cst.SimpleStatementLine([self._from(module, [cst.ImportAlias(cst.Name(name))], is_relative=True)])
            for name, module in sorted(self.plan.added.items())
        ]
        body = list(updated_node.body)
        last = max((index for index, line in enumerate(body) if _is_import(line)), default=-1)
        return updated_node.with_changes(body=[*body[: last + 1], *lines, *body[last + 1 :]])

    def _statements(
        self, original: Sequence[cst.BaseSmallStatement], updated: Sequence[cst.BaseSmallStatement]
    ) -> list[cst.BaseSmallStatement]:
        found: list[cst.BaseSmallStatement] = []
        for old, new in zip(original, updated, strict=True):
            if isinstance(old, cst.ImportFrom) and old in self.plan.imports:
                found += self._import_from(old)
            elif isinstance(old, cst.Import) and old in self.plan.imports:
                found += self._import(old)
            else:
                found.append(new)
        return found

    def _import_from(self, node: cst.ImportFrom) -> list[cst.BaseSmallStatement]:
        old = self.plan.facts.imported_module(node)
        groups: dict[str, list[cst.ImportAlias]] = {}
        for entry in self.plan.imports[node]:
            module = old if entry.place is None else self.plan.full(entry.place.parent)
            groups.setdefault(module, []).append(self._alias(entry))
        is_moved = bool(node.relative) and self.package != self.old_package
        is_same = all(entry.place is None for entry in self.plan.imports[node])
        if is_same and not is_moved:
            return [node]
        is_relative = bool(node.relative)
        if len(groups) == 1:
            ((module, aliases),) = groups.items()
            return [self._from(module, aliases, is_relative, node)]
        return [self._from(module, _rejoined(aliases, node), is_relative, node) for module, aliases in groups.items()]

    def _alias(self, entry: Imported) -> cst.ImportAlias:
        if entry.place is None:
            return entry.alias
        alias = entry.alias.with_changes(name=cst.Name(entry.place.last))
        if entry.old == entry.place.last and entry.old != entry.alias.evaluated_name:
            return alias.with_changes(asname=None)
        if alias.asname is None and entry.new != entry.place.last:
            return alias.with_changes(asname=cst.AsName(cst.Name(entry.new)))
        return alias

    def _from(
        self, module: str, aliases: Sequence[cst.ImportAlias], is_relative: bool, node: cst.ImportFrom | None = None
    ) -> cst.ImportFrom:
        is_near = self.package.split(".")[0] == module.split(".")[0]
        level, rest = relative(self.package, module) if is_relative and is_near else (0, module)
        new = node or cst.ImportFrom(dotted("x"), [cst.ImportAlias(cst.Name("x"))])
        return new.with_changes(
            module=dotted(rest) if rest else None,
            names=list(aliases),
            relative=[cst.Dot() for _ in range(level)],
            whitespace_before_import=cst.SimpleWhitespace(" "),
        )

    def _import(self, node: cst.Import) -> list[cst.BaseSmallStatement]:
        aliases: list[cst.ImportAlias] = []
        needed = sorted(self.plan.needed.get(node, ()))
        for entry in self.plan.imports[node]:
            if entry.place is None:
                aliases.append(entry.alias)
            elif entry.alias.asname is not None or not needed:
                aliases.append(entry.alias.with_changes(name=dotted(self.plan.full(entry.place.module))))
            else:
                aliases += [cst.ImportAlias(dotted(module)) for module in needed]
        unique = {name_of(alias.name) + name_of(alias.asname and alias.asname.name): alias for alias in aliases}
        found: list[cst.BaseSmallStatement] = []
        if len(node.names) == 1:
            found += [node.with_changes(names=[_last(alias)]) for alias in unique.values()]
        else:
            *most, final = unique.values()
            found.append(node.with_changes(names=[*most, _last(final)]))
        return found


def _last(alias: cst.ImportAlias) -> cst.ImportAlias:
    return alias.with_changes(comma=cst.MaybeSentinel.DEFAULT)


def _rejoined(aliases: Sequence[cst.ImportAlias], node: cst.ImportFrom) -> list[cst.ImportAlias]:
    """Return some names of a statement for a separate statement."""
    *most, last = aliases
    return [*most, last if node.lpar is not None else _last(last)]


def _is_import(line: cst.BaseStatement) -> bool:
    if not isinstance(line, cst.SimpleStatementLine):
        return False
    return any(isinstance(part, cst.Import | cst.ImportFrom) for part in line.body)
