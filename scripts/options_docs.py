"""Writes what the documents say of the options: all of docs/options.md, and the marked parts of the others.

A marked part stands between `<!-- generated: name -->` and `<!-- end -->`. With `--check` nothing is written, and a
document that has drifted is named.
"""

import argparse
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "scripts")]

import option_costs as costs  # noqa: E402
from jinja2 import Template  # noqa: E402
from questions import asked, facts, values  # noqa: E402
from rendering import Renderer  # noqa: E402

COMMAND = "make docs"
INTRO = f"""\
# Options

Every question that `copier copy` asks, in its order, and what is known of every value. `-d name=value` answers one
without being asked; `--defaults` takes the default of every other. `{COMMAND}` writes this page from `copier.yml` and
`options/`.

"""


def defaults() -> Mapping[str, Any]:
    """The answers of `--defaults`, worked out by Copier from the questions alone."""
    with TemporaryDirectory() as folder:
        template = Path(folder, "questions")
        shutil.copytree(ROOT / "options", template / "options")
        shutil.copy(ROOT / "copier.yml", template)
        (template / "template").mkdir()
        return Renderer(template)(Path(folder, "service")).answers


def cell(fact: Any) -> str:
    """Write a fact as it reads best in a table."""
    if isinstance(fact, bool):
        return "yes" if fact else "no"
    if isinstance(fact, list):
        return ", ".join(f"`{item}`" for item in fact)
    if isinstance(fact, dict):
        return "; ".join(f"{key}: {cell(item) or 'none'}" for key, item in fact.items())
    text = str(fact)
    return f"<{text}>" if text.startswith("https://") else f"`{text}`"


def values_table(question: str) -> str:
    """Every value of a question with its facts, a column for each. A reason to refuse it stands below the table."""
    rows = facts(question)
    columns = dict.fromkeys(key for row in rows.values() for key in row if key not in ("label", "summary", "disabled"))
    lines = ["| value | label | what it is |" + "".join(f" {name} |" for name in columns)]
    lines.append("|---" * (3 + len(columns)) + "|")
    for value, row in rows.items():
        known = [cell(row[name]) if name in row else "" for name in columns]
        lines.append(f"| `{value}` | {row['label']} | {row['summary']} |" + "".join(f" {fact} |" for fact in known))
    # Rendered without any answer, which is when nothing speaks for the value.
    reasons = {value: Template(row.get("disabled", "")).render().strip() for value, row in rows.items()}
    lines += [f"\n`{value}` is shown and cannot be chosen unless: {why}." for value, why in reasons.items() if why]
    return "\n".join(lines)


def origin(question: Mapping[str, Any]) -> str:
    """Name the questions that a default follows from."""
    names = [name for name in asked() if re.search(rf"\b{name}\b", str(question["default"]))]
    computed = "{{" in str(question["default"])
    return f", which follows from {' and '.join(f'`{name}`' for name in names)}" if computed and names else ""


def default_of(name: str, answers: Mapping[str, Any]) -> str:
    return cell(answers[name]) if isinstance(answers[name], list) else f"`{answers[name]}`"


def options_page(answers: Mapping[str, Any]) -> str:
    """The text of docs/options.md."""
    parts = []
    for name, question in asked().items():
        default = f"Default: {default_of(name, answers)}{origin(question)}."
        parts.append(f"## {name}\n\n{question['help']}\n\n{default}\n")
        if name in values():
            parts.append(f"{values_table(name)}\n")
    return INTRO + "\n".join(parts)


def options_table(answers: Mapping[str, Any]) -> str:
    """A line for each question: what README.md shows of docs/options.md."""
    lines = ["| question | what it asks | values, or what is rendered when nothing is answered |", "|---|---|---|"]
    for name, question in asked().items():
        chosen = answers[name] if isinstance(answers[name], list) else [answers[name]]
        offered = ", ".join(f"`{value}`" + " (default)" * (value in chosen) for value in values().get(name, ()))
        shown = offered or default_of(name, answers)
        lines.append(f"| [`{name}`](docs/options.md#{name}) | {question['help']} | {shown} |")
    return "\n".join(lines)


def sums(name: str, others: tuple[str, ...] = ()) -> str:
    return costs.table(ROOT, costs.own(ROOT, name, others))


def awaits() -> str:
    """How much the two overlays of an interface differ."""
    lines = []
    for path in costs.own(ROOT, "asgi"):
        other = path.replace("{{on_asgi}}", "{{on_wsgi}}")
        if "/notes/" in path and (ROOT / other).is_file():
            changed, total = costs.changed_lines(ROOT, path, other)
            lines.append(f"| `{costs.shown(path)}` | {changed} of {total} |")
    return "\n".join(["| file | lines that differ on `on_wsgi` |", "|---|---|", *lines])


def decisions() -> str:
    """A line for each page of docs/decisions/."""
    lines = []
    for page in sorted((ROOT / "docs/decisions").glob("[0-9]*.md")):
        number, _, title = page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ").partition(". ")
        lines.append(f"{number}. [{title}]({page.name})")
    return "\n".join(lines)


def marked_parts(answers: Mapping[str, Any]) -> Mapping[str, Callable[[], str]]:
    """What stands between the marks, by their name."""
    mains = [f"template/{{{{on_{name}}}}}/{costs.PACKAGE}/main.py" for name in ("fastapi", "flask")]
    return {
        "options": lambda: options_table(answers),
        "flask row": lambda: f"{costs.row(ROOT, 'framework', 'flask')}\n\n{costs.overlay_line(ROOT, 'flask')}",
        "flask files": lambda: sums("flask"),
        "flask main": lambda: costs.difference(ROOT, *mains),
        "wsgi files": lambda: sums("wsgi"),
        "await": awaits,
        "storage conditions": lambda: costs.conditions(ROOT, "storage"),
        "decisions": decisions,
        "sqlite row": lambda: costs.row(ROOT, "database", "sqlite"),
        "sqlite files": lambda: sums("sqlite"),
        "sql files": lambda: sums("sql", ("sqlite",)),
    }


def documents() -> dict[str, str]:
    """The text of every document that has something written by this script, by its path."""
    answers = defaults()
    parts = marked_parts(answers)

    def fill(match: re.Match[str]) -> str:
        if match[2] not in parts:
            raise SystemExit(f"{match[2]} is no part that this script writes: use one of {', '.join(parts)}")
        return f"{match[1]}\n\n{parts[match[2]]()}\n\n{match[3]}"

    mark = re.compile(r"(<!-- generated: ([\w ]+) -->)\n.*?(<!-- end -->)", re.DOTALL)
    found = {"docs/options.md": options_page(answers)}
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = path.read_text(encoding="utf-8")
        if mark.search(text):
            found[path.relative_to(ROOT).as_posix()] = mark.sub(fill, text)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, name what has drifted")
    check = parser.parse_args().check
    wanted = documents()
    drifted = [path for path, text in wanted.items() if not (ROOT / path).exists() or (ROOT / path).read_text() != text]
    for path in drifted:
        if check:
            print(f"{path} has drifted from the options: run {COMMAND}")
        else:
            (ROOT / path).write_text(wanted[path], encoding="utf-8")
    return 1 if check and drifted else 0


if __name__ == "__main__":
    raise SystemExit(main())
