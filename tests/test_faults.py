"""Every mutation of the contract is detected by the test that is named for it: `make faults`."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from mutation_runner import Mutation, declare_version, mutated, mutations, run_tests
from questions import values
from rendering import Renderer

pytestmark = pytest.mark.faults

FILES = sorted({(mutation.framework, mutation.test.partition("::")[0]) for mutation in mutations()})

Service = Callable[[str], Path]


def name(mutation: Mutation) -> str:
    return f"{mutation.section}-{mutation.symbol.replace('::', ':')}-{mutation.test.rpartition('::')[2]}"


@pytest.fixture(scope="session")
def service(renderer: Renderer, tmp_path_factory: pytest.TempPathFactory) -> Service:
    """Return a function that returns a service of a framework, rendered once for each worker."""

    @cache
    def render(framework: str) -> Path:
        answers = {"framework": framework, "monitoring": values()["monitoring"]}
        path = renderer(tmp_path_factory.mktemp("services") / framework, answers).path
        declare_version(path)
        return path

    return render


@pytest.mark.parametrize(("framework", "file"), FILES)
def test_named_tests_pass_without_a_mutation(service: Service, framework: str, file: str) -> None:
    named = {mutation.test for mutation in mutations() if mutation.framework == framework}
    outcome = run_tests(service(framework), sorted(test for test in named if test.startswith(f"{file}::")))
    assert outcome.verdict == "passed", outcome.output


@pytest.mark.parametrize("mutation", mutations(), ids=name)
def test_mutation_is_detected_by_its_test(service: Service, mutation: Mutation, tmp_path: Path) -> None:
    """The test fails by what it asserts, not because the service cannot be imported."""
    outcome = run_tests(mutated(service(mutation.framework), mutation, tmp_path / "service"), [mutation.test])
    assert outcome.verdict == "failed", f"{mutation.promise}\n{outcome.verdict}\n{outcome.output}"
