"""Reads copier.yml and options/ the way Copier does, but rejects what Copier silently ignores."""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]

Question = dict[str, Any]
Metadata = Mapping[str, Mapping[str, Any]]

# The registry that a question's choices come from.
REGISTRIES = {
    "framework": "frameworks",
    "database": "databases",
    "python_version": "pythons",
    "features": "available_features",
    "cache": "stores",
    "monitoring": "monitorings",
    "deployment": "deployments",
    "ci": "cis",
    "license": "licenses",
}


class _StrictLoader(yaml.CSafeLoader):
    """YAML in which a repeated key is an error; plain YAML keeps the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        repeated = {key for key in keys if keys.count(key) > 1}
        if repeated:
            raise yaml.constructor.ConstructorError(None, None, f"repeated key {repeated}", node.start_mark)
        return super().construct_mapping(node, deep)


class _Include(str):
    """The path that an `!include` names."""

    __slots__ = ()


def _include(loader: yaml.SafeLoader, node: yaml.nodes.ScalarNode) -> _Include:
    return _Include(loader.construct_scalar(node))


_StrictLoader.add_constructor("!include", _include)


def read_yaml(path: Path) -> Any:
    """The one document of a YAML file, without repeated keys."""
    return yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)  # noqa: S506 - derives from CSafeLoader


def _documents(root: Path) -> Iterator[Any]:
    text = (root / "copier.yml").read_text(encoding="utf-8")
    yield from yaml.load_all(text, Loader=_StrictLoader)


def included(root: Path = ROOT) -> list[str]:
    """The question files that copier.yml lists, in its order."""
    return [str(document) for document in _documents(root) if isinstance(document, _Include)]


def settings(root: Path = ROOT) -> dict[str, Any]:
    """The `_settings` of copier.yml."""
    documents = [document for document in _documents(root) if isinstance(document, dict)]
    return {key: value for document in documents for key, value in document.items() if key.startswith("_")}


@cache
def questions(root: Path = ROOT) -> Mapping[str, Question]:
    """Every question, asked or hidden, in the order in which Copier meets them. Read once for each tree."""
    found: dict[str, Question] = {}
    for path in included(root):
        for name, question in read_yaml(root / path).items():
            if name in found:
                raise ValueError(f"{path}: {name} is asked twice")
            found[name] = question
    return found


def asked(root: Path = ROOT) -> dict[str, Question]:
    """The questions that people see."""
    return {name: question for name, question in recorded(root).items() if question.get("ask") is not False}


def recorded(root: Path = ROOT) -> dict[str, Question]:
    """Return the questions that answers files record, including those that are not asked."""
    return {name: question for name, question in questions(root).items() if question.get("when") is not False}


def metadata(question: str, root: Path = ROOT) -> Metadata:
    """The metadata of each value of a question, by value."""
    registry: Metadata = questions(root)[REGISTRIES[question]]["default"]
    return registry


def values(root: Path = ROOT) -> dict[str, list[str]]:
    """The values of every question that offers choices."""
    known = questions(root)
    return {question: list(metadata(question, root)) for question, registry in REGISTRIES.items() if registry in known}
