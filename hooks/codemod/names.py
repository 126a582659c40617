"""Dotted names of modules, and the expressions of them."""

from __future__ import annotations

from pathlib import PurePath

import libcst as cst


def module_of(path: str) -> tuple[str, str]:
    """Return the dotted names of a file's module and of the package that it is in."""
    parts = list(PurePath(path).with_suffix("").parts)
    parts = parts[1:] if parts[0] == "src" else parts
    package = ".".join(parts[:-1])
    return (package, package) if parts[-1] == "__init__" else (".".join(parts), package)


def absolute(package: str, level: int, module: str) -> str:
    """Return the full name of a module that an import in `package` names with `level` leading dots."""
    if not level:
        return module
    parts = package.split(".") if package else []
    return ".".join([*parts[: len(parts) - level + 1], *([module] if module else [])])


def relative(package: str, target: str) -> tuple[int, str]:
    """Return the number of leading dots and the rest of a relative import of `target` in `package`."""
    here, there = package.split("."), target.split(".")
    common = 0
    while common < min(len(here), len(there)) and here[common] == there[common]:
        common += 1
    return len(here) - common + 1, ".".join(there[common:])


def dotted(name: str) -> cst.Attribute | cst.Name:
    """Return the expression of a dotted name."""
    first, *rest = name.split(".")
    expression: cst.Attribute | cst.Name = cst.Name(first)
    for part in rest:
        expression = cst.Attribute(expression, cst.Name(part))
    return expression


def name_of(expression: cst.CSTNode | None) -> str:
    """Return the dotted name that an expression is, or nothing."""
    if isinstance(expression, cst.Name):
        return expression.value
    if isinstance(expression, cst.Attribute):
        base = name_of(expression.value)
        return f"{base}.{expression.attr.value}" if base else ""
    return ""


def text_of(node: cst.CSTNode | None) -> str | None:
    """Return the text of a plain string literal."""
    value = node.evaluated_value if isinstance(node, cst.SimpleString) else None
    return value if isinstance(value, str) else None


def with_text(node: cst.SimpleString, text: str) -> cst.SimpleString:
    """Return the literal with another text, and its own prefix and quotes."""
    return node.with_changes(value=f"{node.prefix}{node.quote}{text}{node.quote}")
