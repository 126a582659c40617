"""Rule 9, between two releases: the answers and files of a service are still there in the next one."""

from pathlib import Path

from layout_rules import Faults, template_files
from questions import asked, questions, recorded, values


def _destinations(root: Path) -> set[str]:
    """Return the rendered path of each template file, without its overlay and its suffix."""
    found = set()
    for path in template_files(root):
        parts = path.removesuffix(".jinja").split("/")[1:]
        found.add("/".join(part for part in parts if not part.startswith("{{on_")))
    return found


def answers_are_kept(old: Path, new: Path) -> Faults:
    """9. No minor release removes a choice or a question, or changes the type of a question."""
    before, after = asked(old), asked(new)
    faults = [f"{name}: the question is gone" for name in before if name not in after]
    for name in before.keys() & after.keys():
        kinds = [(found[name].get("type"), bool(found[name].get("multiselect"))) for found in (before, after)]
        if kinds[0] != kinds[1]:
            faults.append(f"{name}: its type changed, so Copier would forget the recorded answer")
    offered = values(new)
    for question, found in values(old).items():
        faults += [
            f"{question}: the choice {value} is gone" for value in found if value not in offered.get(question, [])
        ]
    return faults


def files_are_kept(old: Path, new: Path) -> Faults:
    """9. No minor release from 0.3.0 on removes or renames a rendered file."""
    return [f"{path}: no longer rendered" for path in sorted(_destinations(old) - _destinations(new))]


def retired_names_are_kept(old: Path, new: Path) -> Faults:
    """A removed question stays known, because the answers files that contain it would otherwise stop an update."""
    known = {*recorded(new), *questions(new)["retired_names"]["default"]}
    before = {*recorded(old), *questions(old)["retired_names"]["default"]}
    return [f"{name}: neither recorded nor retired" for name in sorted(before - known)]
