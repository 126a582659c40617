"""The template as a repository with tagged releases: a temporary clone, since tags may not travel with a checkout."""

import re
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path

from questions import ROOT
from rendering import export

Version = tuple[int, ...]


def git(folder: Path, *arguments: str) -> str:
    """Return git's output, with a separate author and without the user's hooks and signatures."""
    options = [
        "user.name=Tests",
        "user.email=tests@example.org",
        f"core.hooksPath={folder}/none",
        "commit.gpgsign=false",
    ]
    settings = [part for option in options for part in ("-c", option)]
    command = ["git", *settings, *arguments]
    result = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"git {' '.join(arguments)}: {result.stderr}")
    return result.stdout.strip()


def commit(folder: Path, message: str, tag: str | None = None) -> None:
    """Commit everything in a folder, which becomes a repository if it is none, and tag it."""
    if not (folder / ".git").exists():
        git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", f"--message={message}")
    if tag is not None:
        git(folder, "tag", "--annotate", f"--message={tag}", tag)


def recorded(root: Path = ROOT) -> dict[str, str]:
    """The commit of every released version. There may be none yet."""
    return dict(tomllib.loads((root / "tests/releases.toml").read_text(encoding="utf-8"))["releases"])


def _number(version: str) -> Version:
    return tuple(int(part) for part in version.split("."))


def faults(releases: dict[str, str], root: Path = ROOT) -> list[str]:
    """Return the faults of a table of releases."""
    found = [f"{name}: no version such as 1.2.3" for name in releases if not re.fullmatch(r"\d+\.\d+\.\d+", name)]
    if not found and list(releases) != sorted(releases, key=_number):
        found.append("not in order, oldest first")
    for version, name in releases.items():
        here = subprocess.run(
            ["git", "cat-file", "-e", f"{name}^{{commit}}"], cwd=root, capture_output=True, check=False
        )
        old = subprocess.run(
            ["git", "merge-base", "--is-ancestor", name, "HEAD"], cwd=root, capture_output=True, check=False
        )
        if not re.fullmatch("[0-9a-f]{40}", name):
            found.append(f"{version}: {name} is not a full commit id")
        elif here.returncode:
            found.append(f"{version}: {name} is not here; a shallow clone needs `git fetch --unshallow`")
        elif old.returncode:
            found.append(f"{version}: {name} is not in the history of HEAD")
    return found


@dataclass(frozen=True)
class Releases:
    """A tagged clone: `old` are the tags to update from, `new` is the working tree as it stands."""

    path: Path
    old: tuple[str, ...]
    new: str


def starting_points(root: Path = ROOT) -> dict[str, str]:
    """The tag and commit of every release, and of the last commit if it is none of them."""
    releases = recorded(root)
    dirty = bool(git(root, "status", "--porcelain"))
    last = git(root, "rev-parse", "HEAD" if dirty else "HEAD~1")
    newest = max(map(_number, releases), default=(0, 0, 0))
    points = {f"v{version}": name for version, name in releases.items()}
    return points if last in points.values() else points | {f"v{newest[0]}.{newest[1]}.{newest[2] + 1}": last}


def tagged_clone(destination: Path, root: Path = ROOT) -> Releases:
    """Clone the repository, tag its releases, and commit the working tree on top as the next minor release."""
    git(root, "clone", "--quiet", "--no-tags", str(root), str(destination))
    points = starting_points(root)
    for tag, name in points.items():
        git(destination, "tag", "--annotate", f"--message={tag}", tag, name)
    git(destination, "rm", "--quiet", "-r", ".")
    export(destination, root)
    newest = max(map(_number, recorded(root)), default=(0, 0, 0))
    new = f"v{newest[0]}.{newest[1] + 1}.0"
    commit(destination, "The working tree", new)
    return Releases(destination, tuple(points), new)
