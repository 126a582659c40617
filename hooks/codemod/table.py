"""The table of renames that a release ships: where each public name of the release before it is now."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

Names = Mapping[str, str]


class Place(NamedTuple):
    """Where a name is now: its module, the name in it (None for the module itself), and attributes behind the name."""

    module: str
    name: str | None = None
    attributes: tuple[str, ...] = ()

    @property
    def last(self) -> str:
        """The name that an import of this place binds."""
        return self.name or self.module.rpartition(".")[2]

    @property
    def parent(self) -> str:
        """The module that an import of this place names after `from`."""
        return self.module.rpartition(".")[0] if self.name is None else self.module


@dataclass(frozen=True)
class Table:
    """The renames of one release. Names are dotted and begin below the service's package: `chassis.service.Service`.

    Args:
        modules: Old module to new module; the names in it move along unless `names` has them.
        names: Old name, with its module, to new name, with its module.
        removed: A module or name that is gone, and what to use instead.
        attributes: For each old class, its renamed attributes and methods.
        keywords: For each old function or class, its renamed keyword arguments.
        types: The class that a function returns or an attribute holds, by its old name; `[]` after one means a
            collection of it, and `<argument>` an instance of the class that is the first argument.
        bases: For each old class, the old class that it extends.
        views: Attributes that a method of the owner's own class replaces, such as typed settings.
        loaders: Functions that import a module by its name, which is their only argument.
        cautions: Changes beyond a rename, by the old name.
        definitions: Methods that the owner's classes may define for the chassis to call, and what they are now.
        strings: Whole string literals, such as the pattern of a file name, old to new.
        details: Keys of the details in a health report, old to new.
        quiet: Attributes and keywords too common to be reported where their object is unknown.
        variables: Environment variables, old to new. Fields of settings classes have the same names in lower case.
        variable_cautions: Environment variables that need another value, and which.
        removed_variables: Environment variables that no longer exist, and what to do.
        commands: Words of command lines (`make prod-check`), old to new.
        files: Files that were only renamed, old path to new path.
        replaced: Files without one successor, and where their content is now; a name that ends in `/` is a folder.
    """

    modules: Names = field(default_factory=dict)
    names: Names = field(default_factory=dict)
    removed: Names = field(default_factory=dict)
    attributes: Mapping[str, Names] = field(default_factory=dict)
    keywords: Mapping[str, Names] = field(default_factory=dict)
    types: Names = field(default_factory=dict)
    bases: Names = field(default_factory=dict)
    views: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    cautions: Names = field(default_factory=dict)
    definitions: Names = field(default_factory=dict)
    strings: Names = field(default_factory=dict)
    details: Names = field(default_factory=dict)
    loaders: tuple[str, ...] = ()
    quiet: tuple[str, ...] = ()
    variables: Names = field(default_factory=dict)
    variable_cautions: Names = field(default_factory=dict)
    removed_variables: Names = field(default_factory=dict)
    commands: Names = field(default_factory=dict)
    files: Names = field(default_factory=dict)
    replaced: Names = field(default_factory=dict)

    def place(self, name: str) -> Place | None:
        """Return where an old module or name is now, or None when it is where it was."""
        parts = name.split(".")
        for length in range(len(parts), 0, -1):
            prefix, rest = ".".join(parts[:length]), tuple(parts[length:])
            if prefix in self.removed:
                return None
            if prefix in self.names:
                module, _, new = self.names[prefix].rpartition(".")
                return Place(module, new, self._renamed(prefix, rest))
            if prefix in self.modules:
                named = rest[0] if rest else None
                return Place(self.modules[prefix], named, self._renamed(f"{prefix}.{named}", rest[1:]))
            if prefix in self._new_modules:
                break  # the name is a new one already
        return self._in_place(parts)

    def remedy(self, name: str) -> str | None:
        """Return what to do about an old module or name that is gone, or None when it is not."""
        parts = name.split(".")
        for length in range(len(parts), 0, -1):
            prefix = ".".join(parts[:length])
            if prefix in self.removed:
                return self.removed[prefix]
            if prefix in self.names or prefix in self.modules:
                return None
        return None

    def attribute(self, cls: str, name: str) -> str | None:
        """Return the new name of an attribute or method of an old class, or None when it has its old name."""
        return self._inherited(self.attributes, cls, name)

    def keyword(self, function: str, name: str) -> str | None:
        """Return the new name of a keyword argument of an old function or class, or None when it has its old name."""
        found = self._inherited(self.keywords, function, name)
        if found is None and function.startswith("chassis."):
            return self.keywords.get("*", {}).get(name)
        return found

    def whereabouts(self, path: str) -> str | None:
        """Return where the content of a file without a new name is now, if that is known."""
        folders = (new for old, new in self.replaced.items() if old.endswith("/") and path.startswith(old))
        return self.replaced.get(path) or next(folders, None)

    def suspicious(self) -> frozenset[str]:
        """Return the attributes and keywords that are reported where it is unknown whose they are."""
        named = [name for renamed in (*self.attributes.values(), *self.keywords.values()) for name in renamed]
        return frozenset(named) - frozenset(self.quiet)

    def is_class(self, name: str) -> bool:
        """Whether an old name is a class by convention: its last part begins with a capital letter."""
        return name.rpartition(".")[2][:1].isupper()

    @cached_property
    def _new_modules(self) -> frozenset[str]:
        return frozenset(self.modules.values()) | {new.rpartition(".")[0] for new in self.names.values()}

    def _inherited(self, renamed: Mapping[str, Names], owner: str | None, name: str) -> str | None:
        while owner is not None:
            if name in renamed.get(owner, {}):
                return renamed[owner][name]
            owner = self.bases.get(owner)
        return None

    def _renamed(self, cls: str, attributes: tuple[str, ...]) -> tuple[str, ...]:
        if not attributes:
            return ()
        return (self.attribute(cls, attributes[0]) or attributes[0], *attributes[1:])

    def _in_place(self, parts: list[str]) -> Place | None:
        """Return the place of a renamed attribute of a class that has its old name."""
        for length in range(len(parts) - 1, 1, -1):
            cls = ".".join(parts[:length])
            new = self.attribute(cls, parts[length])
            if new is not None:
                module, _, name = cls.rpartition(".")
                return Place(module, name, (new, *parts[length + 1 :]))
        return None


def read(path: Path) -> Table:
    """Read the table of a release from its TOML file."""
    content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}
    return Table(**fields)
