"""Plants faults in a copy of the template, for tests that must see a rule fail."""

from collections.abc import Callable
from pathlib import Path

from layout_rules import Faults, template_files
from questions import questions

Rule = Callable[[Path], Faults]
Plant = Callable[[Path], None]


def put(path: str, text: str = "text\n") -> Plant:
    """Plant a file."""

    def plant(root: Path) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")

    return plant


def swap(path: str, old: str, new: str) -> Plant:
    """Plant another text in a file that is there."""

    def plant(root: Path) -> None:
        text = (root / path).read_text(encoding="utf-8")
        assert old in text, f"{path} no longer holds {old!r}: plant something else"
        (root / path).write_text(text.replace(old, new, 1), encoding="utf-8")

    return plant


def each(*plants: Plant) -> Plant:
    """Plant several things."""

    def plant(root: Path) -> None:
        for one in plants:
            one(root)

    return plant


def seen(rule: Rule, plant: Plant, root: Path) -> Faults:
    """The faults that a rule finds in a tree only once this is planted."""
    before = set(rule(root))
    plant(root)
    # what was read of the tree before is out of date
    template_files.cache_clear()
    questions.cache_clear()
    return [fault for fault in rule(root) if fault not in before]
