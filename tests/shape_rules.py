"""The rules of what the template's code looks like: short functions, and middleware that costs no more than it must."""

import ast
from collections.abc import Iterator
from pathlib import Path

from layout_rules import Faults, template_files

MOST_LINES = 30


def _sources(root: Path) -> Iterator[tuple[str, ast.Module]]:
    """Every plain module of a service, tests apart: the chassis and the example, in whichever overlay."""
    for path in template_files(root):
        if "/src/{{package_name}}/" in path and path.endswith(".py"):
            yield path, ast.parse((root / path).read_text(encoding="utf-8"))


def middleware_is_pure(root: Path) -> Faults:
    """5. Middleware is pure ASGI or WSGI: neither `BaseHTTPMiddleware` nor `@app.middleware`, which makes one."""
    return [
        f"{path}:{line}: {name} is not pure ASGI middleware"
        for path, tree in _sources(root)
        for line, name in _conveniences(tree)
    ]


def _conveniences(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The lines that name the framework's convenience, which puts a task and two streams around every request."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in {"BaseHTTPMiddleware", "middleware"}:
            yield node.lineno, node.attr
        elif isinstance(node, ast.alias) and node.name == "BaseHTTPMiddleware":
            yield node.lineno, node.name


def functions_are_short(root: Path) -> Faults:
    """5. A function has at most 30 lines, its docstring included."""
    return [
        f"{path}:{node.lineno}: {node.name} has {lines} lines"
        for path, tree in _sources(root)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or node.lineno) + 1 - node.lineno) > MOST_LINES
    ]
