"""Every promise of the contract has a mutation that still fits the chassis, and names a test that exists.

`test_faults.py` applies the mutations.
"""

import ast

import pytest
from mutation_runner import CHASSIS, Mutation, MutationError, mutations
from questions import ROOT

SECTIONS = [
    "health", "ids", "errors", "bounds", "deadlines", "bodies", "connections", "logs", "security", "settings",
    "lifecycle", "metrics", "traces", "error_tracking",
]  # fmt: skip
FRAMEWORKS = ("fastapi", "flask")
LARGEST = 80


# -- the table ---------------------------------------------------------------------------------------------------------


def test_mutations_are_few_and_cover_every_section() -> None:
    assert len(mutations()) <= LARGEST
    assert list(dict.fromkeys(mutation.section for mutation in mutations())) == SECTIONS
    assert {mutation.framework for mutation in mutations()} == set(FRAMEWORKS)


def test_each_promise_has_one_mutation() -> None:
    promises = [mutation.promise for mutation in mutations()]
    assert len(set(promises)) == len(promises)


def test_each_error_code_has_a_mutation() -> None:
    """Each row of the table of errors has a promise that names its `error_code`."""
    tree = ast.parse((CHASSIS / "errors.py").read_text(encoding="utf-8"))
    assigned = [node for node in ast.walk(tree) if isinstance(node, ast.Assign) and _is_code(node)]
    codes = {node.value.value for node in assigned if isinstance(node.value, ast.Constant)} | {"INTERNAL"}
    promised = " ".join(mutation.promise for mutation in mutations())
    assert [code for code in sorted(map(str, codes)) if code not in promised] == []


def _is_code(node: ast.Assign) -> bool:
    return any(isinstance(target, ast.Name) and target.id == "error_code" for target in node.targets)


def test_each_mutation_changes_one_place_of_its_symbol() -> None:
    assert list(filter(None, map(misfit, mutations()))) == []


def misfit(mutation: Mutation) -> str | None:
    """Say why a mutation cannot be applied or changes nothing."""
    path = CHASSIS / mutation.file
    if not path.exists():
        return f"{mutation.symbol}: the file does not exist"
    source = path.read_text(encoding="utf-8")
    try:
        changed = mutation.apply(source)
    except MutationError as error:
        return str(error)
    return f"{mutation.symbol} does not change" if changed == ast.unparse(ast.parse(source)) else None


def test_each_named_test_exists() -> None:
    named = {mutation.test.partition("[")[0] for mutation in mutations()}
    assert sorted(named - written_tests()) == []


def written_tests() -> set[str]:
    """The tests of the rendered suite, in all overlays."""
    files = (ROOT / "template").rglob("tests/chassis/test_*.py")
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in files}
    functions = [
        (path, node) for path, tree in trees.items() for node in tree.body if isinstance(node, ast.FunctionDef)
    ]
    return {f"{path.name}::{node.name}" for path, node in functions}


# -- the runner --------------------------------------------------------------------------------------------------------

SOURCE = """
LIMIT = 5

class Policy:
    def check(self, size):
        # a comment
        if size > LIMIT:
            raise ValueError
        log(size)
        return "ok"
"""


def mutation(symbol: str, change: str, code: str, replacement: str = "") -> Mutation:
    return Mutation("health", "It holds.", f"policy.py::{symbol}", "test_policy.py::test", change, code, replacement)


@pytest.mark.parametrize(("mutation", "gone", "new"), [
    (mutation("Policy.check", "return", "None"), "raise ValueError", "return None"),
    (mutation("Policy.check", "remove", "size  >  LIMIT"), "raise ValueError", "pass"),
    (mutation("Policy.check", "remove", "log(size)"), "log(size)", "pass"),
    (mutation("Policy.check", "replace", "size > LIMIT", "False"), "size > LIMIT", "if False"),
    (mutation("LIMIT", "replace", "5", "6"), "LIMIT = 5", "LIMIT = 6"),
], ids=["return", "remove a condition", "remove a call", "replace", "variable"])  # fmt: skip
def test_mutation_is_applied_whatever_the_format(mutation: Mutation, gone: str, new: str) -> None:
    before, after = ast.unparse(ast.parse(SOURCE)), mutation.apply(SOURCE)
    assert gone in before
    assert gone not in after
    assert new in after
    assert new not in before


@pytest.mark.parametrize(("mutation", "reason"), [
    (mutation("Policy.reject", "return", "None"), "Policy.reject does not exist"),
    (mutation("Policy.check", "remove", "log(other)"), "has `log.other.` 0 times"),
    (mutation("Policy.check", "replace", "size", "0"), "has `size` 2 times"),
    (mutation("LIMIT", "return", "None"), "is not a function"),
], ids=["symbol", "code", "several", "not a function"])  # fmt: skip
def test_mutation_that_no_longer_fits_says_so(mutation: Mutation, reason: str) -> None:
    with pytest.raises(MutationError, match=reason):
        mutation.apply(SOURCE)
