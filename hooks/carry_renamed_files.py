"""Carries an owner's edits to a file over to the name that a major release gives it.

Copier takes a renamed file for one that went and another that came, and drops what the owner wrote in it. An `after`
migration runs this script in the updated service, which merges three versions of each renamed file: the old render
(base), the owner's edited file as committed before the update (ours), and the new render (theirs). README.md says when
a release may have one. Standard library only; nothing of the owner's is ever lost.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path


def committed(path: str) -> bytes | None:
    """The owner's file as it was before the update, which starts from a clean commit only."""
    found = subprocess.run(["git", "show", f"HEAD:./{path}"], capture_output=True, check=False)
    return None if found.returncode else found.stdout


def render(template: str, version: str, answers_file: str, folder: Path) -> Path:
    """Render the release that the service came from, with the answers it had then; nothing if that is impossible."""
    answers, destination = folder / "answers.yml", folder / "render"
    answers.write_bytes(committed(answers_file) or b"")
    command = [sys.executable, "-m", "copier", "copy", "--quiet", "--defaults", "--skip-tasks", "--vcs-ref", version]
    subprocess.run([*command, "--data-file", str(answers), template, str(destination)], check=False)
    return destination


def merged(base: bytes, ours: bytes, theirs: bytes) -> tuple[bytes, int]:
    """The three-way merge and its number of conflicts, which is negative when the file cannot be merged at all."""
    with tempfile.TemporaryDirectory() as folder:
        names = {"before updating": ours, "last update": base, "after updating": theirs}
        for name, content in names.items():
            Path(folder, name).write_bytes(content)
        labels = [part for name in names for part in ("-L", name)]
        command = ["git", "merge-file", "-p", *labels, *names]
        result = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    return result.stdout, result.returncode if result.returncode < 128 else -1


def carry(old: str, new: str, base: bytes | None) -> str:
    """Merge one renamed file in place. Returns the sentence that its owner should read, or nothing."""
    ours, target = committed(old), Path(new)
    if ours is None:
        return f"{old} was deleted here: {new} came as rendered, delete it too if you do not want it."
    if ours == base:
        return ""
    if base is None or committed(new) is not None or not target.is_file():
        return laid_beside(old, new, ours)
    text, conflicts = merged(base, ours, target.read_bytes())
    if conflicts < 0:
        return laid_beside(old, new, ours)
    target.write_bytes(text)
    if conflicts:
        return (
            f"{new} has {conflicts} conflict(s) between this release and your edits to {old}: resolve the marked lines."
        )
    return f"{new} took over your edits to {old}."


def laid_beside(old: str, new: str, ours: bytes) -> str:
    """Keep the owner's file where no merge is possible."""
    Path(new).parent.mkdir(parents=True, exist_ok=True)
    Path(f"{new}.rej").write_bytes(ours)
    return f"{new} could not be merged with your {old}, which is now {new}.rej: take what you need and delete it."


def main(template: str, answers_file: str, *renames: str) -> None:
    """Carry every `old/path=new/path` over; `template` is where the service was rendered from."""
    with tempfile.TemporaryDirectory() as folder:
        before = render(template, os.environ["VERSION_FROM"], answers_file, Path(folder))
        for old, _, new in (rename.partition("=") for rename in renames):
            base = (before / old).read_bytes() if (before / old).is_file() else None
            sentence = carry(old, new, base)
            sys.stderr.write(sentence and f"{sentence}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
