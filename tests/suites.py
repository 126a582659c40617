"""Which tests of the chassis run on which named stack.

The whole suite runs once per framework. The second time it leaves out the files that do not depend on the framework. On
the other stacks only the files run that depend on what was chosen, each on the first stack that differs in it.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from questions import ROOT, questions, read_yaml, values

# The stacks on which the whole suite runs. The second one has every feature.
WHOLE = ("fastapi-sqlite", "flask-sqlite-redis")
STACKS = (*WHOLE, *sorted({path.stem for path in (ROOT / "tests/answers").glob("*.yml")} - set(WHOLE)))
# Tests of the database that are not named after one.
OF_DATABASE = ("database", "outbox", "pool")
# Tests that depend on no choice.
INDEPENDENT = ("backup_archive", "backup_schedule", "data_files", "deploy_check", "prometheus_rules", "settings")
# Commands that run beside the service. They import neither a framework nor the code that waits as its handlers do.
BACKUPS = ("backup", "disaster_recovery")
# Tests of what the features that authenticate have in common.
AUTHENTICATION = {"authentication", "authentication_fastapi"}


@cache
def answers(stack: str) -> Mapping[str, Any]:
    """The answers of a named stack."""
    found: Mapping[str, Any] = read_yaml(ROOT / "tests/answers" / f"{stack}.yml")
    return found


def features(stack: str) -> set[str]:
    """The features and the monitoring of a named stack."""
    default = ["rate-limit", "backup", "deploy-check", "http-client"]
    return {*answers(stack).get("features", default), *answers(stack).get("monitoring", ["prometheus"])}


def _optional() -> set[str]:
    """The values of which a stack may have any number."""
    return {*values()["features"], *values()["monitoring"]}


def having(feature: str) -> list[str]:
    """The named stacks with this feature."""
    return [stack for stack in STACKS if feature in features(stack)]


def dependencies(name: str) -> tuple[str, ...] | None:
    """The questions on which the result of `test_<name>.py` depends. None: it depends on the framework alone."""
    words = {name, *name.split("_")}
    if name in INDEPENDENT:
        return ()
    if name.startswith(BACKUPS):
        return ("database",)
    if words & {*values()["database"], *OF_DATABASE}:
        return ("framework", "database")
    if words & set(values()["cache"]) or name.startswith(("cache", "rate_limit")):
        return ("framework", "cache")
    return (
        ("framework",)
        if name in {value.replace("-", "_") for value in _optional()} | {"retry", "one_request", *AUTHENTICATION}
        else None
    )


def option_tests(stack: str, service: Path) -> list[str]:
    """The tests of the chassis that depend on choices, and that no earlier stack has run with the same ones."""
    repeated = repeated_tests(stack, service)
    paths = [f"tests/chassis/{path.name}" for path in sorted((service / "tests/chassis").glob("test_*.py"))]
    return [path for path in paths if dependencies(_name(Path(path))) is not None and path not in repeated]


def repeated_tests(stack: str, service: Path) -> list[str]:
    """The test files that an earlier stack has run with the same choices."""
    earlier = STACKS[: STACKS.index(stack)]
    found = []
    for path in sorted(service.glob("tests/*/test_*.py")):
        name = _name(path)
        depends = dependencies(name)
        if depends is not None and any(_same(stack, other, depends, name) for other in earlier):
            found.append(path.relative_to(service).as_posix())
    return found


def _name(path: Path) -> str:
    return path.stem.removeprefix("test_")


def _same(stack: str, other: str, depends: tuple[str, ...], name: str) -> bool:
    """Whether another stack has the test as well, with the same choices."""
    defaults = {"cache": questions()["cache"]["default"]}
    one, two = ({**defaults, **answers(each)} for each in (stack, other))
    if name in AUTHENTICATION and not {"api-keys", "jwt"} & features(other):
        return False
    return all(one[question] == two[question] for question in depends) and _brought_by(name) <= features(other)


def _brought_by(name: str) -> set[str]:
    """The features with a file `test_<name>.py`, if there are any."""
    if name == "one_request":
        return set(values()["monitoring"])
    owner = "http-client" if name == "retry" else name.replace("_", "-")
    return {value for value in _optional() if owner == value or owner.startswith(f"{value}-")}
