"""Counts what one option costs: the files that are named after it, their lines, and its row of facts."""

import ast
import difflib
import re
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "src/{{package_name}}"
WHERE = ("template", "options", "tests/answers")
# Left behind by tools, and in no checkout.
IGNORED = {"__pycache__", ".ruff_cache", ".mypy_cache", ".pytest_cache"}
# Ideas that files are named after under more than one name.
ALSO = {"sql": ("database", "test_database", "alembic")}


def files(root: Path) -> Iterator[str]:
    """Yield every file of the template, the options and the named stacks by its path."""
    for top in WHERE:
        for path in sorted((root / top).rglob("*")):
            if path.is_file() and IGNORED.isdisjoint(path.parts):
                yield path.relative_to(root).as_posix()


def named_after(name: str, path: str) -> bool:
    """Tell whether a part of the path is this name: `web/flask.py`, `{{on_flask}}/`, `answers/flask-none.yml`."""
    words = path.replace("{{on_", "").replace("}}", "")
    return re.search(rf"(^|[/_-]){re.escape(name)}([/._-]|$)", words) is not None


def own(root: Path, name: str, others: tuple[str, ...] = ()) -> list[str]:
    """The files that an option or an idea brings, without those named after others."""
    names = (name, *ALSO.get(name, ()))
    found = [path for path in files(root) if any(named_after(word, path) for word in names)]
    return [path for path in found if not any(named_after(other, path) for other in others) and not _question(path)]


def _question(path: str) -> bool:
    """Tell whether this is a file of questions, which no single option owns."""
    return re.fullmatch(r"options/\w+\.yml", path) is not None


def lines(root: Path, path: str) -> int:
    return len((root / path).read_text(encoding="utf-8").splitlines())


def purpose(root: Path, path: str) -> str:
    """The first line of a module's docstring, or of what another file starts with."""
    text = (root / path).read_text(encoding="utf-8")
    if path.endswith(".py"):
        return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0].rstrip(".")
    if re.search(r"/settings[./]", path):
        return "Its settings, written by `scripts/settings_docs.py`"
    if re.match(r"options/\w+/\w+\.md", path):
        return "What a shared document says of it"
    found = re.match(r"\s*(?:#+ |\{# )(.+?)(?: #\})?$", text, re.MULTILINE)
    return found[1].rstrip(".") if found else ""


def shown(path: str) -> str:
    """Write a path without what every path starts with."""
    return path.replace(f"{PACKAGE}/", "<package>/")


def table(root: Path, paths: list[str]) -> str:
    """List files with their lines and what they are for, and the sum."""
    rows = [f"| `{shown(path)}` | {lines(root, path)} | {purpose(root, path)} |" for path in paths]
    total = sum(lines(root, path) for path in paths)
    return "\n".join(["| file | lines | what it is |", "|---|---|---|", *rows, f"| {len(paths)} files | {total} | |"])


def conditions(root: Path, idea: str) -> str:
    """List the shared files that ask about an idea, and how often."""
    asks = re.compile(rf"\{{%-? (?:el)?if [^%]*\b{idea}\b")
    found = {path: len(asks.findall((root / path).read_text(encoding="utf-8"))) for path in files(root)}
    rows = [f"| `{shown(path)}` | {times} |" for path, times in found.items() if times]
    return "\n".join([f"| file | conditions about `{idea}` |", "|---|---|", *rows])


def row(root: Path, question: str, value: str) -> str:
    """A value's row of facts as a diff: what was added to the question's file."""
    path = f"options/{question}.yml"
    text = (root / path).read_text(encoding="utf-8")
    found = re.search(rf"^    {re.escape(value)}:\n(?:      .*\n)+", text, re.MULTILINE)
    if found is None:
        raise SystemExit(f"{path} has no row for {value}")
    return diff(path, found[0].splitlines())


def overlay_line(root: Path, name: str) -> str:
    """The line that names an overlay, as a diff."""
    path = "options/derived.yml"
    text = (root / path).read_text(encoding="utf-8")
    return diff(path, [line for line in text.splitlines() if line.startswith(f"on_{name}:")])


def diff(path: str, added: list[str]) -> str:
    return "\n".join(["```diff", f"+++ {path}", *(f"+{line}" for line in added), "```"])


def difference(root: Path, old: str, new: str) -> str:
    """The diff from one overlay's file to another's."""
    before, after = ((root / path).read_text(encoding="utf-8").splitlines() for path in (old, new))
    return "\n".join(["```diff", *difflib.unified_diff(before, after, shown(old), shown(new), lineterm=""), "```"])


def changed_lines(root: Path, old: str, new: str) -> tuple[int, int]:
    """How many lines of the new file are not in the old one, and how many it has."""
    before, after = ((root / path).read_text(encoding="utf-8").splitlines() for path in (old, new))
    compared = difflib.unified_diff(before, after, n=0)
    return sum(line.startswith("+") and not line.startswith("+++") for line in compared), len(after)
