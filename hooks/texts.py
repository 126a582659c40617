"""Texts of a service: settings and commands in files that are not Python, and the layout of files that are."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from codemod import Note, Table

# Files whose settings and commands are renamed.
NAMES = re.compile(
    r"(^|/)(\.env[^/]*|[^/]*\.(ya?ml|toml|mk|sh|cfg|ini|env|conf)|Makefile[^/]*|Dockerfile[^/]*|Procfile|justfile)$"
)


def tidied(code: str, old: str, path: Path) -> str:
    """Sort the imports and format rewritten code, each where that of the old code was so."""
    command = [sys.executable, "-m", "ruff"]

    def ruff(text: str, *arguments: str) -> str:
        full = [*command, *arguments, "--quiet", "--no-cache", "--stdin-filename", str(path), "-"]
        done = subprocess.run(full, input=text, cwd=path.parent, capture_output=True, text=True, check=False)
        return done.stdout or text

    sort, form = ["check", "--select", "I", "--fix-only"], ["format"]
    for arguments in (sort, form):
        if ruff(old, *arguments) == old:
            code = ruff(code, *arguments)
    return code


def with_variables(text: str, path: str, table: Table) -> tuple[str, list[Note]]:
    """Rename settings and commands in a text file; one that is gone is reported."""
    lines, notes = text.split("\n"), []
    for number, line in enumerate(lines):
        for old, new in table.variables.items():
            line = re.sub(rf"(?<!\w){old}(?!\w)", new, line)
        for old, new in table.commands.items():
            line = re.sub(rf"(?<![\w-]){old}(?![\w-])", new, line)
        for variable, remedy in table.removed_variables.items():
            if re.search(rf"(?<!\w){variable}(?!\w)", line):
                notes.append(Note(path, number + 1, f"`{variable}` is gone: {remedy}"))
        for variable, text in table.variable_cautions.items():
            if re.search(rf"^\s*(?:export\s+|-\s+)?{variable}\s*[=:]\s*\S", line):
                notes.append(Note(path, number + 1, f"`{variable}`: {text}", is_certain=False))
        lines[number] = line
    return "\n".join(lines), notes
