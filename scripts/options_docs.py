"""Generates the documents of the options: all of docs/options.md, and the marked parts of other documents.

A marked part stands between `<!-- generated: name -->` and `<!-- end -->`. With `--check` the script writes nothing and
prints each document that has drifted.
"""

import argparse
import ast
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from jinja2 import Template  # noqa: E402
from questions import asked, metadata, values  # noqa: E402
from rendering import Renderer  # noqa: E402

COMMAND = "make docs"
PACKAGE = "src/{{package_name}}"
# The metadata that gets a column after label and summary, and the heading of the column.
SHOWN = {
    "replicas": "replicas", "adds": "adds", "requirements": "Python packages", "packages": "system packages",
    "tested": "tested with", "docs": "documentation",
}  # fmt: skip
INTRO = f"""\
# Options

This page lists every question of `copier copy` in order, and describes each value. `-d name=value` answers a question
on the command line, and `--defaults` takes the default of all others. `{COMMAND}` generates this page from `copier.yml`
and `options/`.

"""


def defaults() -> Mapping[str, Any]:
    """Return the answers of `--defaults`, computed by Copier from the questions alone."""
    with TemporaryDirectory() as folder:
        template = Path(folder, "questions")
        shutil.copytree(ROOT / "options", template / "options")
        shutil.copy(ROOT / "copier.yml", template)
        (template / "template").mkdir()
        return Renderer(template)(Path(folder, "service")).answers


def cell(value: Any) -> str:
    """Return metadata in the form that reads best in a table."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(f"`{item}`" for item in value)
    if isinstance(value, dict):
        return "; ".join(f"{key}: {cell(item) or 'none'}" for key, item in value.items())
    text = str(value)
    if " " in text:
        return text
    return f"<{text}>" if text.startswith("https://") else f"`{text}`"


def values_table(question: str) -> str:
    """Return the values of a question as a table, and why a value is disabled."""
    rows = metadata(question)
    columns = [name for name in SHOWN if any(row.get(name) not in (None, [], {}) for row in rows.values())]
    lines = ["| value | label | summary |" + "".join(f" {SHOWN[name]} |" for name in columns)]
    lines.append("|---" * (3 + len(columns)) + "|")
    for value, row in rows.items():
        known = [cell(row[name]) if name in row else "" for name in columns]
        lines.append(f"| `{value}` | {row['label']} | {row['summary']} |" + "".join(f" {text} |" for text in known))
    # Rendered without the answers that would enable the value.
    nothing = {"databases": {"none": {"storage": "memory"}}, "database": "none", "frameworks": metadata("framework")}
    nothing["framework"] = "flask"
    reasons = {value: Template(row.get("disabled", "")).render(nothing).strip() for value, row in rows.items()}
    missing = "is shown but disabled if its requirement is missing"
    lines += [f"\n`{value}` {missing}: {reason}." for value, reason in reasons.items() if reason]
    return "\n".join(lines)


def origin(question: Mapping[str, Any]) -> str:
    """Name the questions that a default is computed from."""
    default = re.sub(r'"[^"]*"', "", str(question["default"]))
    names = [name for name, other in asked().items() if other is not question and re.search(rf"\b{name}\b", default)]
    computed = "{{" in default
    return f", computed from {' and '.join(f'`{name}`' for name in names)}" if computed and names else ""


def default_of(name: str, answers: Mapping[str, Any]) -> str:
    return cell(answers[name]) if isinstance(answers[name], list) else f"`{answers[name]}`"


def options_page(answers: Mapping[str, Any]) -> str:
    """Return the text of docs/options.md."""
    parts = []
    for name, question in asked().items():
        default = f"Default: {default_of(name, answers)}{origin(question)}."
        parts.append(f"## {name}\n\n{question['help']}\n\n{default}\n")
        if name in values():
            parts.append(f"{values_table(name)}\n")
    return INTRO + "\n".join(parts)


def options_table(answers: Mapping[str, Any]) -> str:
    """Return the table of README.md, with a line per question."""
    lines = ["| question | prompt | values, or the default |", "|---|---|---|"]
    for name, question in asked().items():
        chosen = answers[name] if isinstance(answers[name], list) else [answers[name]]
        offered = ", ".join(f"`{value}`" + " (default)" * (value in chosen) for value in values().get(name, ()))
        shown = offered or default_of(name, answers)
        lines.append(f"| [`{name}`](docs/options.md#{name}) | {question['help']} | {shown} |")
    return "\n".join(lines)


def metadata_row(question: str, value: str) -> str:
    """Return the row of metadata of a value as it stands in the question's file."""
    path = f"options/{question}.yml"
    text = (ROOT / path).read_text(encoding="utf-8")
    found = re.search(rf"^    {re.escape(value)}:\n(?:      .*\n)+", text, re.MULTILINE)
    if found is None:
        raise SystemExit(f"{path} has no row for {value}")
    return f"```yaml\n# {path}\n{found[0].rstrip()}\n```"


def files_table(value: str) -> str:
    """Return the files that are named after a value, with the first sentence of each."""
    named = re.compile(rf"(^|[/_-]){re.escape(value)}([/._-]|$)")
    lines = ["| file | contents |", "|---|---|"]
    for path in (path for top in ("template", "options", "tests/answers") for path in sorted((ROOT / top).rglob("*"))):
        name = path.relative_to(ROOT).as_posix().replace(f"{PACKAGE}/", "<package>/")
        if path.is_file() and path.suffix != ".pyc" and named.search(name.replace("{{on_", "").replace("}}", "")):
            lines.append(f"| `{name}` | {purpose(path)} |")
    return "\n".join(lines)


def purpose(path: Path) -> str:
    """Return the first line of a module's docstring, of a page, or the kind of a fragment."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0].rstrip(".")
    if path.stem == "settings":
        return "Its settings, generated by `scripts/settings_docs.py`"
    if path.parts[-3] == "options" and "template" not in path.parts:
        return "A fragment of a shared document"
    found = re.match(r"\s*(?:#+ |\{# )(.+?)(?: #\})?$", text, re.MULTILINE)
    return found[1].rstrip(".") if found else ""


def decisions() -> str:
    """Return a line for each page of docs/decisions/."""
    lines = []
    for page in sorted((ROOT / "docs/decisions").glob("[0-9]*.md")):
        number, _, title = page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ").partition(". ")
        lines.append(f"{number}. [{title}]({page.name})")
    return "\n".join(lines)


def marked_parts(answers: Mapping[str, Any]) -> Mapping[str, Callable[[], str]]:
    """Return the generators of the marked parts by name."""
    return {
        "options": lambda: options_table(answers),
        "decisions": decisions,
        "flask row": lambda: metadata_row("framework", "flask"),
        "flask files": lambda: files_table("flask"),
        "sqlite row": lambda: metadata_row("database", "sqlite"),
        "sqlite files": lambda: files_table("sqlite"),
    }


def documents() -> dict[str, str]:
    """Return the text of every document that has a generated part, by path."""
    answers = defaults()
    parts = marked_parts(answers)

    def fill(match: re.Match[str]) -> str:
        if match[2] not in parts:
            raise SystemExit(f"{match[2]!r} is not a generated part; use one of {', '.join(parts)}")
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
    parser.add_argument("--check", action="store_true", help="write nothing, print documents that have drifted")
    check = parser.parse_args().check
    wanted = documents()
    drifted = [path for path, text in wanted.items() if not (ROOT / path).exists() or (ROOT / path).read_text() != text]
    for path in drifted:
        if check:
            print(f"{path} has drifted from the options: run {COMMAND}")
        else:
            (ROOT / path).write_text(wanted[path], encoding="utf-8")
            print(f"wrote {path}")
    return int(check and bool(drifted))


if __name__ == "__main__":
    raise SystemExit(main())
