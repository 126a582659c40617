"""Writes a new domain like the example: `make domain NAME=orders`. The example is in domain.txt, next to this file."""

from __future__ import annotations

import ast
import keyword
import re
import subprocess
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = next((ROOT / "src").glob("*/chassis")).parent.relative_to(ROOT)
MAIN = PACKAGE / "main.py"
MIGRATIONS = Path("migrations/versions")
# With more characters, lines of the example would be too long, and names of indexes too.
MOST_CHARACTERS = 30

# The ending of a plural, and that of its singular; the first one that fits. None fits `status` or `sheep`.
_SINGULARS = (
    (r"ies$", "y"),
    (r"(ss|sh|[^a]ch|[eo]ach|x|zz|[^aeo]us)es$", r"\1"),
    (r"([^siu])s$", r"\1"),
)
# Strings and comments, which contain words instead of names; see `rename`.
_TEXT = re.compile(r'"""[\s\S]*?"""|"[^"\n]*"|#[^\n]*')
_NAME = re.compile(r"NOTES?|[Nn]otes?")
_WORD = re.compile(r"(?<![\w`/{.])[Nn]otes?(?![\w`/}=]|\.\w)")


class RefusedError(Exception):
    """The domain cannot be written; the text says why, and what to do."""


def example() -> dict[str, str]:
    """Return the files of the example by their path."""
    parts = re.split(r"^=== (.+)\n", Path(__file__).with_suffix(".txt").read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def singular_of(plural: str) -> str:
    """Return the singular of a plural.

    Raises:
        RefusedError: The singular does not follow from the ending of the word.
    """
    for ending, singular in _SINGULARS:
        if re.search(ending, plural):
            return re.sub(ending, singular, plural)
    raise RefusedError(f"NAME={plural}: the singular is unclear; add it, as in SINGULAR=item.")


def check_plural(plural: str) -> None:
    """Check that a domain can have this name.

    Raises:
        RefusedError: The name is invalid, taken or reserved.
    """
    _check_form("NAME", plural)
    for path in (PACKAGE / plural, PACKAGE / f"{plural}.py", Path("tests", plural)):
        if (ROOT / path).exists():
            raise RefusedError(f"NAME={plural}: this name is taken by {path}; use another name.")
    if plural in ("test", "tests") or (plural != PACKAGE.name and find_spec(plural)):
        raise RefusedError(f"NAME={plural}: this name is reserved, because a Python module has it; use another name.")
    table = f'__tablename__ = "{plural}"'
    if any(table in path.read_text(encoding="utf-8") for path in (ROOT / PACKAGE).rglob("*.py")):
        raise RefusedError(f"NAME={plural}: a model has a table of this name; use another name.")


def check_singular(plural: str, singular: str, sources: Iterable[str]) -> None:
    """Check that one thing in a domain can have this name.

    Raises:
        RefusedError: The name is invalid, equals the plural, or is used by the code of a domain.
    """
    _check_form("SINGULAR", singular)
    if plural == singular:
        raise RefusedError(f"SINGULAR={singular}: this is also the plural; use another name for one of them.")
    for source in sources:
        names = set(re.findall(r"[^\W\d]\w*", _TEXT.sub("", source)))
        renamed = {rename(name, plural, singular) for name in names if _NAME.search(name)}
        if renamed & names:
            name = min(renamed & names)
            raise RefusedError(f"NAME={plural}: the code of a domain uses {name} already; use another name.")


def _check_form(variable: str, name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or len(name) > MOST_CHARACTERS:
        form = f"at most {MOST_CHARACTERS} lower-case letters, digits and single underscores, as in order_items"
        raise RefusedError(f"{variable}={name}: invalid name; use {form}.")
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        raise RefusedError(f"{variable}={name}: this is a keyword of Python; use another name.")


def rename(source: str, plural: str, singular: str) -> str:
    """Replace `notes` and `note` in code and in texts, where the words of a name are separated by spaces."""

    def word(found: re.Match[str], separator: str = "_") -> str:
        words = (plural if found[0].lower() == "notes" else singular).split("_")
        if found[0].isupper():
            return "_".join(words).upper()
        if found[0].islower():
            return separator.join(words)
        return "".join(map(str.capitalize, words)) if separator == "_" else " ".join(words).capitalize()

    def text(found: re.Match[str]) -> str:
        return _WORD.sub(lambda match: word(match, " "), found[0]) if " " in found[0] else found[0]

    return _NAME.sub(word, _TEXT.sub(text, source))


def list_in_main(name: str) -> str:
    """Return the text of main.py with the domain added to the call of `load_domains`.

    Raises:
        RefusedError: It has no such call.
    """
    text = (ROOT / MAIN).read_text(encoding="utf-8")
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    for call in calls:
        if isinstance(call.func, ast.Name) and call.func.id == "load_domains" and call.args:
            last = call.args[-1]
            lines = text.splitlines(keepends=True)
            line = lines[last.end_lineno - 1].encode()
            before, after = line[: last.end_col_offset].decode(), line[last.end_col_offset :].decode()
            if len(call.args) == 1 and after == ",\n":
                # The comment about the domains may be all that follows.
                lines.insert(call.end_lineno - 1, f'    "{name}",\n')
            else:
                lines[last.end_lineno - 1] = f'{before}, "{name}"{after}'
            return "".join(lines)
    raise RefusedError(f'{MAIN} has no call of load_domains; add DOMAINS = load_domains(__name__, "notes") to it.')


def _migration(text: str, name: str) -> tuple[Path, str]:
    """Return the path and the text of a migration that follows the newest one."""
    from alembic.script import ScriptDirectory
    from alembic.util import rev_id

    heads = ScriptDirectory(str(ROOT / MIGRATIONS.parent)).get_heads()
    if len(heads) > 1:
        merge = f'`{sys.orig_argv[0]} -m {PACKAGE.name} migrate merge "merge"`'
        raise RefusedError(f"There are several newest migrations, {', '.join(sorted(heads))}; run {merge} first.")
    revision = rev_id()
    text = text.replace('revision = "0001"', f'revision = "{revision}"')
    text = text.replace("down_revision = None", f'down_revision = "{heads[0]}"' if heads else "down_revision = None")
    return MIGRATIONS / f"{revision}_{name}.py", text


def write(plural: str, singular: str = "") -> tuple[list[Path], str]:
    """Write a domain, and return its folders and files, and the singular of its name.

    Raises:
        RefusedError: The domain cannot be written. No file was changed.
    """
    files = example()
    check_plural(plural)
    singular = singular or singular_of(plural)
    check_singular(plural, singular, files.values())
    written = {MAIN: list_in_main(plural)}
    for path, text in files.items():
        place, renamed = Path(rename(path, plural, singular)), rename(text, plural, singular)
        if place.is_relative_to(MIGRATIONS):
            place, renamed = _migration(renamed, plural)
        written[place] = renamed
    with TemporaryDirectory(dir=ROOT, prefix=".domain-") as name:
        folder = Path(name)
        for path, text in written.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
        for command in (["check", "--fix", "--exit-zero", "--silent"], ["format", "--quiet"]):
            ruff = [str(Path(sys.executable).with_name("ruff")), *command, "--no-cache"]
            subprocess.run([*ruff, *(str(folder / path) for path in written)], check=True)
        moved = {path.parent if path.parent.name == plural and path != MAIN else path for path in written}
        # main.py last: a domain has no effect without its line there.
        for path in sorted(moved, key=lambda path: (path == MAIN, path)):
            (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).replace(ROOT / path)
    return sorted(moved), singular


def main(plural: str, singular: str) -> int:
    try:
        if not plural:
            raise RefusedError("Which name? make domain NAME=orders")
        paths, one = write(plural, singular)
    except RefusedError as refused:
        print(refused, file=sys.stderr)
        return 2
    print(f"Wrote {', '.join(map(str, paths))}.")
    print(f"One of the {plural} is called {one}. Next: replace its fields: README.md, Add a domain.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:3]))
