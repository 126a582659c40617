"""A service in its git repository, and the releases of the template that it has been at."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

TEMPLATE = Path(__file__).resolve().parents[1]
RELEASES = "hooks/releases"


class RefusedError(Exception):
    """The service cannot be upgraded now. The message says what to do."""


def git(folder: Path, *arguments: str) -> bytes:
    """Return what git writes.

    Raises:
        RefusedError: git failed.
    """
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, check=False)
    if done.returncode:
        raise RefusedError(f"git {arguments[0]} failed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def recorded(answers: str, name: str) -> str | None:
    """Return what an answers file records under a name, such as `_commit`."""
    found = re.search(rf"^{name}: *['\"]?(.+?)['\"]? *$", answers, re.MULTILINE)
    return found and found[1]


@dataclass
class Service:
    """A service in a git repository, and the template that it was rendered from."""

    folder: Path
    answers_file: str
    template: Path = TEMPLATE

    def check(self) -> None:
        """Refuse a folder whose state git could not restore.

        Raises:
            RefusedError: It is not a clean git tree, or not a rendered service.
        """
        if git(self.folder, "status", "--porcelain", "--", ".").strip():
            raise RefusedError("There is uncommitted work. Commit or stash it first, so that git can undo the upgrade.")
        marked = subprocess.run(["git", "grep", "-lE", "^<{7} "], cwd=self.folder, capture_output=True, check=False)
        if marked.stdout:
            files = ", ".join(marked.stdout.decode().split())
            raise RefusedError(f"Resolve the conflicts that the update left, commit, and run this again: {files}")
        if not list(self.folder.glob("src/*/chassis")):
            raise RefusedError("There is no src/*/chassis here. Run this in the folder of a service.")

    @property
    def package(self) -> str:
        return next(self.folder.glob("src/*/chassis")).parent.name

    def answers(self, commit: str = "HEAD") -> str:
        return self.committed(self.answers_file, commit).decode()

    def release(self, commit: str) -> str:
        """Return the release of the template that a commit records.

        Raises:
            RefusedError: It records none.
        """
        found = recorded(self.answers(commit), "_commit")
        if found is None:
            raise RefusedError(f"{self.answers_file} records no release of the template in `_commit`.")
        return found

    def committed(self, path: str, commit: str = "HEAD") -> bytes:
        return git(self.folder, "show", f"{commit}:./{path}")

    def found(self, path: str, commit: str) -> bytes | None:
        """Return a file of a commit, or None where it has none."""
        try:
            return self.committed(path, commit)
        except RefusedError:
            return None

    def ships(self, release: str, table: str) -> bool:
        """Whether a release of the template has a table of renames."""
        try:
            git(self.template, "rev-parse", "--quiet", "--verify", f"{release}^{{commit}}")
        except RefusedError:
            raise RefusedError(f"The template has no release {release}, which {self.answers_file} records.") from None
        return bool(git(self.template, "ls-tree", release, f"{RELEASES}/{table}").strip())

    def before(self, table: str) -> str | None:
        """Return the last commit before the update to the release that ships a table, or None where there is none."""
        log = git(self.folder, "log", "--first-parent", "--format=%H", "--", self.answers_file).decode().split()
        for newer, older in pairwise(log):
            release = recorded(self.answers(older), "_commit")
            if release is not None and not self.ships(release, table):
                return git(self.folder, "rev-parse", f"{newer}^").decode().strip()
        return None

    def files(self) -> list[str]:
        """Return every file that git knows."""
        return git(self.folder, "ls-files", "-z").decode().split("\0")[:-1]


def render(template: Path, release: str, answers: str, folder: Path) -> Path:
    """Render a release with recorded answers.

    Raises:
        RefusedError: Copier failed.
    """
    data, destination = folder / "answers.yml", folder / "render"
    data.write_text(answers, encoding="utf-8")
    command = [sys.executable, "-m", "copier", "copy", "--quiet", "--defaults", "--skip-tasks", "--vcs-ref", release]
    command += ["--data-file", str(data), str(template), str(destination)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RefusedError(f"Release {release} of the template cannot be rendered:\n{done.stderr[-2000:]}")
    return destination
