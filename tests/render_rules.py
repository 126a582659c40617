"""The rules of a render (7 and 8): no scars of the template, an owner for every file, one template for each."""

import re
from collections import Counter
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

from jinja2 import nodes
from layout_rules import Faults, template_files, templates
from pathspec import GitIgnoreSpec
from questions import asked, metadata

LOCK_FILES = {"uv.lock", "poetry.lock", "Pipfile.lock", "package-lock.json", ".terraform.lock.hcl"}
# What differs from run to run, or from folder to folder.
FICKLE_NAMES = {"now", "make_secret", "_folder_name", "_copier_python", "dst_path", "src_path"}
FICKLE_FILTERS = {"random", "shuffle", "strftime", "random_mac"}


def text_is_clean(files: Mapping[str, bytes], root: Path) -> Faults:
    """7. No tag, no stray blank line, no trailing space, one line feed at the end."""
    tag = re.compile(r"\{%[-+ ]|\{\{[- ]*(_copier\w+|on_\w+|" + "|".join(asked(root)) + r")\b")
    faults = []
    for path, content in files.items():
        text = content.decode()
        lines = text.split("\n")
        # two between the functions of Python, in the blocks of documents too, and between the stages of an image
        has_two = path.endswith((".py", ".py.mako", "Dockerfile", "tools/domain.txt")) or "```python\n" in text
        blank = r"\n\n\n\n" if has_two else r"\n\n\n"
        checks = {
            "a tag": tag.search(text),
            "a blank line at the start": text.startswith("\n"),
            "blank lines in a row": re.search(blank, text),
            "a space at the end of a line": any(line != line.rstrip(" \t") for line in lines),
            "not one line feed at the end": text and (not text.endswith("\n") or text.endswith("\n\n")),
            "a carriage return": "\r" in text,
        }
        faults += [f"{path}: {fault}" for fault, found in checks.items() if found]
    return faults


def folders_are_not_empty(render: Path) -> Faults:
    """7. Pruning leaves no empty folder."""
    folders = (path for path in render.rglob("*") if path.is_dir())
    return [f"{path.relative_to(render)}: an empty folder" for path in folders if not any(path.iterdir())]


def files_have_one_owner(files: Mapping[str, bytes], territories: Mapping[str, list[str]]) -> Faults:
    """7. Every file is yours, the chassis's or shared, by one table."""
    specs = {name: GitIgnoreSpec.from_lines(patterns) for name, patterns in territories.items()}
    owners = {path: [name for name, spec in specs.items() if spec.match_file(path)] for path in files}
    return [f"{path}: owned by {' and '.join(found) or 'no one'}" for path, found in owners.items() if len(found) != 1]


def destinations(root: Path, active: set[str]) -> Counter[str]:
    """How many templates render each path when these overlays are laid over the rest, before anything is pruned."""
    found: Counter[str] = Counter()
    for path in template_files(root):
        parts = path.removesuffix(".jinja").split("/")[1:]
        overlays = {part.strip("{}") for part in parts if part.startswith("{{on_")}
        if overlays <= active:
            found["/".join(part for part in parts if not part.startswith("{{on_"))] += 1
    return found


def overlays_never_collide(root: Path) -> Faults:
    """8. Whatever is chosen, one template renders a path."""
    faults = set()
    for framework, database in product(metadata("framework", root).items(), metadata("database", root).items()):
        chosen = (framework[0], framework[1]["handlers"], database[1]["storage"])
        found = destinations(root, {f"on_{name}" for name in chosen})
        faults |= {f"{path}: rendered by {times} templates" for path, times in found.items() if times > 1}
    return sorted(faults)


def rendering_is_deterministic(root: Path) -> Faults:
    """8. No date, no random value, no folder name, no lock file."""
    faults = [f"{path}: a lock file" for path in template_files(root) if path.split("/")[-1] in LOCK_FILES]
    for path, tree in templates(root):
        names: list[tuple[int, Any]] = [(node.lineno, node.name) for node in tree.find_all(nodes.Name)]
        names += [(node.lineno, node.attr) for node in tree.find_all(nodes.Getattr)]
        faults += [f"{path}:{line}: {name} changes" for line, name in names if name in FICKLE_NAMES]
        filters = [(node.lineno, node.name) for node in tree.find_all(nodes.Filter)]
        faults += [f"{path}:{line}: {name} changes" for line, name in filters if name in FICKLE_FILTERS]
    return faults
