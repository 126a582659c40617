# /// script
# requires-python = ">=3.11"
# dependencies = ["copier>=9.19", "libcst>=1.8", "ruff>=0.15"]
# ///
"""Brings a service to the names of the release that it was updated to: `make upgrade` runs this in the service.

It carries the owner's edits to renamed files over, rewrites the owner's code and settings by the tables in `releases/`,
and lists what is left to the owner. It needs a clean git tree, so that git can undo it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from difflib import unified_diff
from pathlib import Path

import texts
from carry import Renders, carry
from codemod import Note, Source, Table, read, rewrite
from codemod.names import module_of
from modules import Modules
from service import RELEASES, TEMPLATE, RefusedError, Service, render
from texts import tidied, with_variables

LEFT, REFUSED = 1, 2


@dataclass(frozen=True)
class Names:
    """The new names of files and of what is in them, by the tables of the releases that an update crossed."""

    tables: list[Table]
    service: Service

    def path(self, old: str) -> str | None:
        """Return the new path of a renamed file, or None."""
        short = self._short(old)
        for table in self.tables:
            short = table.files.get(short, short)
        if short == self._short(old):
            return None
        return f"src/{self.service.package}/{short}" if short.startswith("chassis/") else short

    def whereabouts(self, path: str) -> str:
        """Say where the content of a file without a new path is now."""
        places = [place for table in self.tables if (place := table.whereabouts(self._short(path))) is not None]
        return f"see {places[0]}" if places else "this release does not have the file"

    def text(self, text: str, path: str, new: str) -> str:
        """Give a text of an old path the names that it would have under the new one."""
        old = text
        for table in self.tables:
            if path.endswith(".py"):
                text, _ = rewrite(text, Source(path, self.service.package, moved_to=new), table)
            else:
                text, _ = with_variables(text, path, table)
        return tidied(text, old, self.service.folder / new) if path.endswith(".py") else text

    def _short(self, path: str) -> str:
        """Return a path as the tables have it: chassis files begin below the package."""
        return path.removeprefix(f"src/{self.service.package}/")


@dataclass
class Upgrade:
    """The changes to a service, in memory until they are written."""

    service: Service
    tables: dict[str, Table]
    contents: dict[str, bytes] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Carry the owner's edits over, then rewrite all that is not as the new release renders it.

        Raises:
            RefusedError: The service is in no state for it.
        """
        self.service.check()
        with ExitStack() as stack:
            new = self._render("HEAD", stack)
            self._carry(new, stack)
            self._rewrite(new)

    def _render(self, commit: str, stack: ExitStack) -> Path:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        return render(self.service.template, self.service.release(commit), self.service.answers(commit), folder)

    def _carry(self, new: Path, stack: ExitStack) -> None:
        commit = self.service.before(next(reversed(self.tables)))
        if commit is None:
            return
        old = self.service.release(commit)
        # An update over several such releases takes the names of them all.
        crossed = [table for name, table in self.tables.items() if not self.service.ships(old, name)]
        renders = Renders(self._render(commit, stack), new, self.service.folder, self.service.found, commit)
        carried = carry(renders, Names(crossed, self.service))
        self.contents |= carried.contents
        self.notes += carried.notes
        self.sentences += carried.sentences

    def _rewrite(self, new: Path) -> None:
        """Rewrite code, settings and commands."""
        folder = self.service.folder
        tracked = {path for path in self.service.files() if (folder / path).is_file()} | self.contents.keys()
        modules = Modules(folder, self.service.package)
        for path in sorted(path for path in tracked if path.endswith(".py")):
            modules.add(path, self._read(path).decode(errors="replace"))
        # Git ignores `.env`, whose settings have new names all the same.
        local = {path.name for path in folder.glob(".env*") if path.is_file()}
        for path in sorted(tracked | local):
            rendered = new / path
            if rendered.is_file() and rendered.read_bytes() == self._read(path):
                continue
            if path.endswith(".py"):
                self._rewrite_code(path, modules)
            elif texts.NAMES.search(path):
                self._rewrite_text(path)

    def _read(self, path: str) -> bytes:
        return self.contents[path] if path in self.contents else (self.service.folder / path).read_bytes()

    def _rewrite_code(self, path: str, modules: Modules) -> None:
        old = code = self._read(path).decode(errors="replace")
        name = module_of(path)[0]
        exported, exists = frozenset(modules.exported.get(name, ())), modules.exists
        source = Source(path, self.service.package, exported, modules.passed_on, exists)
        for table in self.tables.values():
            code, notes = rewrite(code, source, table)
            self.notes += notes
        if code != old:
            self.contents[path] = tidied(code, old, self.service.folder / path).encode()

    def _rewrite_text(self, path: str) -> None:
        try:
            old = text = self._read(path).decode()
        except UnicodeDecodeError:
            return
        for table in self.tables.values():
            text, notes = with_variables(text, path, table)
            self.notes += notes
        if text != old:
            self.contents[path] = text.encode()

    def diff(self) -> str:
        """Return the changes as a unified diff."""
        found: list[str] = []
        for path, content in sorted(self.contents.items()):
            file = self.service.folder / path
            before = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
            after = content.decode(errors="replace")
            found += unified_diff(before.splitlines(True), after.splitlines(True), f"a/{path}", f"b/{path}")
        return "".join(found)

    def write(self) -> None:
        for path, content in self.contents.items():
            (self.service.folder / path).write_bytes(content)

    def summary(self, release: str, *, is_dry_run: bool) -> str:
        """Return what was changed, and what is left to the owner."""
        would = "would be " if is_dry_run else ""
        if not self.contents and not self.notes:
            return f"Everything has the names of {release}: nothing to change."
        lines = [f"{len(self.contents)} file(s) {would}changed to the names of {release}:"] if self.contents else []
        lines += [f"  {path}" for path in sorted(self.contents)]
        lines += self.sentences
        for heading, is_certain in (("Left to you:", True), ("Please check, this may be fine:", False)):
            found = [f"  {note}" for note in sorted(self.notes) if note.is_certain is is_certain]
            lines += [heading, *found] if found else []
        return "\n".join(
            [*lines, "" if is_dry_run else "Next: `git diff` shows the changes, `make check` proves them."]
        )


def main(arguments: list[str] | None = None) -> int:
    """Upgrade the service in the current folder.

    Returns:
        0, or 1 if something is left to the owner, or 2 if the upgrade was refused and nothing changed.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run", action="store_true", help="show the changes and make none")
    parser.add_argument("--answers-file", default=".copier-answers.yml", metavar="FILE")
    chosen = parser.parse_args(arguments)
    service = Service(Path.cwd(), chosen.answers_file)
    tables = {path.name: read(path) for path in sorted((TEMPLATE / RELEASES).glob("*.toml"), key=_version)}
    upgrade = Upgrade(service, tables)
    try:
        upgrade.run()
    except RefusedError as error:
        sys.stderr.write(f"{error}\n")
        return REFUSED
    if chosen.dry_run:
        sys.stdout.write(upgrade.diff())
    else:
        upgrade.write()
    release = Path(next(reversed(tables))).stem
    sys.stderr.write(f"{upgrade.summary(release, is_dry_run=chosen.dry_run)}\n")
    return LEFT if any(note.is_certain for note in upgrade.notes) else 0


def _version(path: Path) -> tuple[int, ...]:
    return tuple(map(int, path.stem.split(".")))


if __name__ == "__main__":
    sys.exit(main())
