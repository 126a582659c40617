"""The rule that nothing in a rendered service waits without a timeout, as far as its source shows.

It sees calls by their names. It does not see what a library does inside of a call, what `with lock:` waits for (a lock
is held for bookkeeping only, never for a call out), nor a plain `await`, which the deadline of its request ends.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

from layout_rules import PACKAGE, Faults, template_files

# Functions that wait, and where their timeout stands when it has no name; None: only by name. All take `timeout=`.
FUNCTIONS: dict[str, int | None] = {
    **dict.fromkeys(f"httpx.{name}" for name in ("Client", "AsyncClient", "delete", "get", "head", "options")),
    **dict.fromkeys(f"httpx.{name}" for name in ("patch", "post", "put", "request", "stream")),
    **dict.fromkeys(f"requests.{name}" for name in ("delete", "get", "head", "options", "patch", "post", "put")),
    **dict.fromkeys(f"subprocess.{name}" for name in ("call", "check_call", "check_output", "run")),
    "asyncio.wait": None,
    "asyncio.wait_for": 1,
    "concurrent.futures.as_completed": 1,
    "concurrent.futures.wait": 1,
    "multiprocessing.connection.wait": 1,
    "select.select": 3,
    "smtplib.SMTP": 3,
    "smtplib.SMTP_SSL": 3,
    "socket.create_connection": 1,
    "urllib.request.urlopen": 2,
}
# Functions that wait and take no timeout.
ENDLESS = {"os.read", "os.wait", "os.waitpid", "signal.pause", "signal.sigwait", "input"}
# Methods that wait, of whatever object: those of threads, processes, queues, locks, events and futures. `join()` of a
# string and `get()` of a mapping have arguments where these have none.
METHODS = {"acquire": 1, "communicate": 1, "exception": 0, "get": 0, "join": 0, "result": 0, "wait": 0, "wait_for": 1}
# Context managers that end everything awaited inside them.
LIMITS = {"asyncio.timeout", "asyncio.timeout_at", "asyncio.wait_for", "anyio.fail_after", "anyio.move_on_after"}

# Calls that may wait without a limit, or only seem to wait, and why.
REASONED = {
    ("chassis/cli.py", "subprocess.Popen"): "`serve --reload`: a person sits in front of it and can press Ctrl-C",
    ("chassis/database/duckdb_connection.py", "future.exception()"): "called when the future is done",
    ("chassis/http_client/client.py", "httpx.AsyncClient()"): "the defaults contain a timeout",
    (
        "chassis/http_client/sync.py",
        "asyncio.run_coroutine_threadsafe(coroutine, loop).result()",
    ): "the client limits each attempt and all of them",
    ("chassis/server/uvicorn.py", "self._is_over.wait()"): "this is how long the service runs",
    ("chassis/web/threads.py", "self._queue.get()"): "a thread that has nothing to do but wait for a request",
    (
        "chassis/web/threads.py",
        "self._credit.acquire()",
    ): "the end of the response releases it; RESPONSE_IDLE_TIMEOUT_SECONDS",
    ("chassis/websocket/broadcaster.py", "self._queue.get()"): "the end of the block of `join` cancels the task",
    ("chassis/web/threads.py", "parts.get()"): "the disconnection of the client ends it",
}


def nothing_waits_forever(root: Path) -> Faults:
    """5. Every call that waits has a timeout, or a reason in the table. Every reason has a call."""
    found = {
        (path.partition("/src/{{package_name}}/")[2], call): f"{path}:{line}: {call} has no timeout"
        for path in template_files(root)
        if f"/{PACKAGE.partition('/')[2]}/" in path and path.endswith(".py")
        for line, call in _endless((root / path).read_text(encoding="utf-8"))
    }
    faults = [fault for place, fault in found.items() if place not in REASONED]
    return faults + [f"{path}: {call} is reasoned about and not there" for path, call in REASONED.keys() - found.keys()]


def _endless(source: str) -> Iterator[tuple[int, str]]:
    """Every call that can wait forever: its line, and how it is written, without its arguments."""
    tree = ast.parse(source)
    names = _imported(tree)
    limited = {id(inner) for outer in ast.walk(tree) if _limits(outer, names) for inner in ast.walk(outer)}
    for node in ast.walk(tree):
        if isinstance(node, ast.With) and any(_called(item.context_expr, names) == POPEN for item in node.items):
            yield node.lineno, POPEN  # the end of the block waits for the process
        elif isinstance(node, ast.Call) and id(node) not in limited and _is_endless(node, names):
            yield node.lineno, f"{ast.unparse(node.func)}()"


POPEN = "subprocess.Popen"


def _imported(tree: ast.AST) -> dict[str, str]:
    """Return the meaning of each imported name: `connection` for `multiprocessing.connection`."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.asname: alias.name for alias in node.names if alias.asname}
    return names


def _called(node: ast.AST, names: dict[str, str]) -> str:
    """The whole name of what is called, or nothing."""
    if not isinstance(node, ast.Call):
        return ""
    first, dot, rest = ast.unparse(node.func).partition(".")
    return names.get(first, first) + dot + rest


def _limits(node: ast.AST, names: dict[str, str]) -> bool:
    """Whether what is inside of this ends with it."""
    if isinstance(node, ast.AsyncWith):
        return any(_called(item.context_expr, names) in LIMITS for item in node.items)
    return _called(node, names) == "asyncio.wait_for" and not _is_endless(node, names)


def _is_endless(node: ast.AST, names: dict[str, str]) -> bool:
    if not isinstance(node, ast.Call):
        return False
    name = _called(node, names)
    if name in ENDLESS:
        return True
    if name == "fcntl.flock":
        return "LOCK_NB" not in ast.unparse(node)
    method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    if name not in FUNCTIONS and method not in METHODS:
        return False
    if any(keyword.arg == "timeout" for keyword in node.keywords):
        return False
    position = FUNCTIONS[name] if name in FUNCTIONS else METHODS[method]
    without_waiting = method == "acquire" and "False" in ast.unparse(node)
    return not without_waiting and (position is None or len(node.args) <= position)
