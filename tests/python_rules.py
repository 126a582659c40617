"""The rules of the template's Python: it runs where it is, and the chassis depends on nothing around it."""

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from layout_rules import PACKAGE, TEMPLATED_PYTHON, Faults, template_files
from questions import values

# The library of a framework, and what comes with it.
COMPANIONS = {"fastapi": {"starlette"}, "flask": {"werkzeug"}}
CHASSIS = f"{PACKAGE}/chassis/"
# Imports of one feature by another that are allowed, because it needs that one: `options/` never renders it alone.
NEEDED = {"api_keys": {"database"}, "backup": {"database"}, "notifications": {"database"}}
# The methods by which a logger writes, its usual names, and what makes one.
LEVELS = {"critical", "debug", "error", "exception", "fatal", "info", "msg", "warn", "warning"}
LOGGERS = {"log", "logger", "logging"}
MAKERS = {"bind", "get_logger", "getLogger", "new", "unbind"}
# The private names of libraries that the chassis uses, and the library, whose requirement must have an upper bound:
# docs/decisions/0027-dependencies.md.
PRIVATE = {
    ("database/mysql.py", "_sock"): "pymysql",
    ("database/mysql.py", "_read_timeout"): "pymysql",
    ("database/mysql.py", "_writer"): "aiomysql",
}
# Public names of Python's library, despite the underscore.
DOCUMENTED = {"_asdict", "_current_frames", "_exit"}


def python_is_python(root: Path) -> Faults:
    """5. Python is `.py` and parses unrendered; the list of templated Python files is closed."""
    templated = {path for path in template_files(root) if path.endswith(".py.jinja")}
    faults = [f"{path}: not on the list of templated Python files" for path in sorted(templated - TEMPLATED_PYTHON)]
    faults += [f"{path}: on the list and not there" for path in sorted(TEMPLATED_PYTHON - templated)]
    for path in template_files(root):
        if path.endswith(".py"):
            text = (root / path).read_text(encoding="utf-8")
            try:
                ast.parse(text)
            except SyntaxError as error:
                faults.append(f"{path}: invalid Python: {error.msg}")
            if re.search(r"\{%|\{\{ *package_name", text):
                faults.append(f"{path}: a tag that nothing renders")
    return faults


def _imports(source: str) -> Iterator[tuple[int, str]]:
    """Every import as (level, module): `from ..web import x` is (2, "web")."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.level, ".".join(filter(None, (node.module, alias.name)))) for alias in node.names)


def _chassis(root: Path) -> Iterator[tuple[str, list[tuple[int, str]]]]:
    """Every plain module of the chassis by its path in it, with its imports."""
    for path in template_files(root):
        if path.startswith(CHASSIS) and path.endswith(".py"):
            yield path.removeprefix(CHASSIS), list(_imports((root / path).read_text(encoding="utf-8")))


def chassis_imports_nothing_around_it(root: Path) -> Faults:
    """5. The chassis imports libraries by name and itself by dots, and no dots lead out of it."""
    return [
        f"{CHASSIS}{path}: {'.' * level}{module} lies outside the chassis"
        for path, imports in _chassis(root)
        for level, module in imports
        if level > path.count("/") + 1
    ]


def _imported(path: str, imports: list[tuple[int, str]]) -> set[str]:
    """The modules and packages at the top of the chassis that a module imports, without its own."""
    return {_within(path, level, module)[0] for level, module in imports if level} - {_top(path)}


def _top(path: str) -> str:
    """The module or package at the top of the chassis that a file belongs to."""
    return path.split("/")[0].removesuffix(".py")


def frameworks_are_imported_by_their_adapter(root: Path) -> Faults:
    """2. Only web/<framework>.py and authentication/<framework>.py import a framework."""
    adapters = ("web", "authentication")
    owners = {module: name for name in values(root)["framework"] for module in {name, *COMPANIONS.get(name, ())}}
    return [
        f"{CHASSIS}{path}: imports the framework {module.split('.')[0]}"
        for path, imports in _chassis(root)
        for level, module in imports
        if level == 0 and module.split(".")[0] in owners
        if path not in [f"{folder}/{owners[module.split('.')[0]]}.py" for folder in adapters]
    ]


def features_are_imported_by_nobody(root: Path) -> Faults:
    """2. No module imports a feature or a database, which may not be rendered, or the adapter of a framework."""
    optional = {name.replace("-", "_") for name in values(root)["features"]} | {"database", "redis"}
    adapters = {f"web.{name}" for name in values(root)["framework"]}
    needed = NEEDED | {name: {"redis"} for name in ("cache", "idempotency", "rate_limit", "websocket")}
    faults = []
    for path, imports in _chassis(root):
        strange = (_imported(path, imports) & optional) - needed.get(_top(path), set())
        faults += [f"{CHASSIS}{path}: imports {name}, which may not be rendered" for name in sorted(strange)]
        modules = {".".join(_within(path, level, module)[:2]) for level, module in imports if level}
        faults += [f"{CHASSIS}{path}: imports the adapter {name}" for name in sorted(modules & adapters)]
    return faults


def packages_do_not_import_each_other(root: Path) -> Faults:
    """2. The imports of the chassis form no cycle, between its packages either."""
    graph: dict[str, set[str]] = {}
    for path, imports in _chassis(root):
        graph.setdefault(_top(path), set()).update(_imported(path, imports))
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [f"{CHASSIS}: a cycle of imports: {' -> '.join(error.args[1])}"]
    return []


def _within(path: str, level: int, module: str) -> list[str]:
    """Resolve an import with dots to its path in the chassis: `..web` in health/monitor.py is `web`."""
    folders = path.split("/")[:-1]
    return [*folders[: len(folders) + 1 - level], *module.split(".")]


def events_are_plain_names(root: Path) -> Faults:
    """5. A log event is a literal name in snake_case, not a sentence."""
    return [
        f"{path}:{line}: {call} has no plain name in snake_case"
        for path in template_files(root)
        if f"/{PACKAGE.partition('/')[2]}/" in path and path.endswith(".py")
        for line, call in _nameless((root / path).read_text(encoding="utf-8"))
    ]


def _nameless(source: str) -> Iterator[tuple[int, str]]:
    """Every call that logs something else: its line, and how it is written."""
    tree = ast.parse(source)
    loggers, writers = set(LOGGERS), set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            targets = {ast.unparse(target) for target in node.targets}
            loggers |= targets if _is_logger(node.value, loggers) else set()
            # `write = log.warning if late else log.info`
            named = not isinstance(node.value, ast.Call)
            writers |= targets if named and any(_writes(part, loggers) for part in ast.walk(node.value)) else set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or _is_plain_name(node.args):
            continue
        if _writes(node.func, loggers) or ast.unparse(node.func) in writers:
            yield node.lineno, f"{ast.unparse(node.func)}()"


def _is_logger(node: ast.AST, loggers: set[str]) -> bool:
    """Whether this is a logger, or makes one."""
    if isinstance(node, ast.Call):
        return ast.unparse(node.func).rpartition(".")[2] in MAKERS
    return ast.unparse(node) in loggers


def _writes(node: ast.AST, loggers: set[str]) -> bool:
    """Whether this is a logger's method that writes a line."""
    return isinstance(node, ast.Attribute) and node.attr in LEVELS and _is_logger(node.value, loggers)


def _is_plain_name(arguments: list[ast.expr]) -> bool:
    first = arguments[0] if arguments else None
    return isinstance(first, ast.Constant) and bool(re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", str(first.value)))


def settings_are_typed(root: Path) -> Faults:
    """5. mypy sees a misspelt setting, because no parameter `settings` of the chassis is `Any`."""
    return [
        f"{path}:{node.lineno}: settings is Any"
        for path in template_files(root)
        if path.startswith(CHASSIS) and path.endswith(".py")
        for node in ast.walk(ast.parse((root / path).read_text(encoding="utf-8")))
        if isinstance(node, ast.arg) and node.arg == "settings"
        if isinstance(node.annotation, ast.Name) and node.annotation.id == "Any"
    ]


def private_names_have_an_upper_bound(root: Path) -> Faults:
    """The chassis uses private names of libraries in one listed file each, and the library has an upper bound."""
    found = {
        (path.removeprefix(CHASSIS), name)
        for path in template_files(root)
        if path.startswith(CHASSIS) and path.endswith(".py")
        for name in _foreign_private_names((root / path).read_text(encoding="utf-8"))
    }
    faults = [
        f"{CHASSIS}{path}: {name} is a private name of a library" for path, name in sorted(found - PRIVATE.keys())
    ]
    faults += [f"{path}: {name} is on the list and not used" for path, name in sorted(PRIVATE.keys() - found)]
    options = "".join(path.read_text(encoding="utf-8") for path in sorted((root / "options").glob("*.yml")))
    for library in sorted(set(PRIVATE.values())):
        bounds = re.findall(rf'"{library}(?:\[\w+\])?>=[^"]*"', options)
        faults += [f"options: {bound} has no upper bound" for bound in bounds if "<" not in bound]
    return faults


def _foreign_private_names(source: str) -> set[str]:
    """Private attributes of objects that the module does not define itself."""
    tree = ast.parse(source)
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__")
        if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
    }
    own = {node.attr for node in ast.walk(tree) if _is_own(node)}  # type: ignore[attr-defined]
    own |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    return used - own - DOCUMENTED


def _is_own(node: ast.AST) -> bool:
    """Return whether this stores an attribute of `self`."""
    stores = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    return stores and isinstance(node.value, ast.Name) and node.value.id == "self"  # type: ignore[attr-defined]
