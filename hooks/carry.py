"""Carries an owner's edits to a chassis or shared file over to the name that a release gives it.

Copier takes a renamed file for one that went and another that came, and drops the owner's edits to it. Three versions
are merged here: the file as the old release rendered it (base), the owner's file as committed before the update (ours),
and the file as the new release rendered it (theirs). Base and ours get the new names first, so that a line in which
only names changed does not conflict.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path
from typing import Protocol

from codemod import Note


class Names(Protocol):
    """The new names of files and of what is in them."""

    def path(self, old: str) -> str | None: ...

    def whereabouts(self, path: str) -> str: ...

    def text(self, text: str, path: str, new: str) -> str: ...


@dataclass
class Carried:
    """The result for the owner's edits: new contents by path, sentences, and the work that is left to the owner."""

    contents: dict[str, bytes] = field(default_factory=dict)
    sentences: list[str] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)


@dataclass(frozen=True)
class Renders:
    """Three folders: what the old release renders, what the new one renders, and the service after its update.

    Args:
        found: Returns a file of a commit, or None where it has none.
        commit: The commit before the update.
    """

    old: Path
    new: Path
    service: Path
    found: Callable[[str, str], bytes | None]
    commit: str

    def ours(self, path: str) -> bytes | None:
        """Return a file of the owner as committed before the update, or None."""
        return self.found(path, self.commit)


def carry(renders: Renders, names: Names) -> Carried:
    """Carry the edits to every file that the new release no longer renders."""
    carried = Carried()
    for path in sorted(paths(renders.old) - paths(renders.new)):
        base, ours = (renders.old / path).read_bytes(), renders.ours(path)
        if ours == base or (renders.service / path).exists():
            continue
        new = names.path(path)
        target = None if new is None else renders.service / new
        if new is None or target is None or not (renders.new / new).is_file():
            _dropped(carried, renders, path, base, ours, names.whereabouts(path))
        elif ours is None:
            if target.is_file():
                carried.notes.append(Note(new, 1, f"you deleted {path}: delete this too if you do not want it", False))
        elif target.is_file():
            _merge(carried, renders, path, new, names)
    return carried


def paths(folder: Path) -> set[str]:
    """Return the path of each file in a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def _merge(carried: Carried, renders: Renders, path: str, new: str, names: Names) -> None:
    theirs, ours = (renders.service / new).read_bytes(), renders.ours(path) or b""
    base = (renders.old / path).read_bytes()
    try:
        base, ours = (names.text(content.decode(), path, new).encode() for content in (base, ours))
    except UnicodeDecodeError:
        return _lay_beside(carried, path, new, ours)
    text, conflicts = merged(base, ours, theirs)
    if text == theirs:
        return None
    if theirs != (renders.new / new).read_bytes():
        # An earlier run, or the owner, has been here.
        carried.sentences.append(f"{new} is no longer as rendered: your edits to {path} are taken to be in it.")
        return None
    if conflicts < 0:
        return _lay_beside(carried, path, new, ours)
    carried.contents[new] = text
    if not conflicts:
        carried.sentences.append(f"{new} took over your edits to {path}.")
    for number, line in enumerate(text.decode().splitlines(), 1):
        if line.startswith("<<<<<<< "):
            carried.notes.append(Note(new, number, f"conflict with your edits to {path}: keep what is right of both"))
    return None


def merged(base: bytes, ours: bytes, theirs: bytes) -> tuple[bytes, int]:
    """Return the three-way merge and its number of conflicts, which is negative if the file cannot be merged at all."""
    with tempfile.TemporaryDirectory() as folder:
        names = {"before updating": ours, "last update": base, "after updating": theirs}
        for name, content in names.items():
            Path(folder, name).write_bytes(content)
        labels = [part for name in names for part in ("-L", name)]
        command = ["git", "merge-file", "-p", *labels, *names]
        result = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    return result.stdout, result.returncode if result.returncode < 128 else -1


def _lay_beside(carried: Carried, path: str, new: str, ours: bytes) -> None:
    """Give the owner the own file where no merge is possible."""
    carried.contents[f"{new}.rej"] = ours
    carried.notes.append(Note(new, 1, f"cannot be merged with your {path}, now {new}.rej: take what you need of it"))


def _dropped(carried: Carried, renders: Renders, path: str, base: bytes, ours: bytes | None, where: str) -> None:
    """Name each edit to a file that has no new name."""
    if ours is None:
        return
    see = f"{where}; your version: git show {renders.commit[:12]}:./{path}"
    try:
        old, new = base.decode().splitlines(), ours.decode().splitlines()
    except UnicodeDecodeError:
        carried.notes.append(Note(path, 1, f"your version was dropped: {see}"))
        return
    for tag, _, _, start, end in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag != "equal":
            lines = f"{end - start} changed line(s)" if end > start else "removal of lines"
            carried.notes.append(Note(path, start + 1, f"your {lines} here were not carried over: {see}"))
