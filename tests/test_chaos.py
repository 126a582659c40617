"""Services live through the failures of their servers, under load from another process, and keep promises."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from chaos import faults, leaks, table, trial, world
from rendering import Renderer

pytestmark = pytest.mark.chaos

# What is enough to see a leak; `make chaos` has sixty.
CYCLES = 16


TRIALS = [
    pytest.param(stack, fault, marks=pytest.mark.xdist_group(stack), id=f"{stack}-{fault.name}")
    for stack in table.STACKS
    for kind in table.TABLES
    for fault in faults.faults_of(stack, kind)
]


@pytest.fixture(scope="module")
def running(
    request: pytest.FixtureRequest, renderer: Renderer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[world.World]:
    """A stack that runs, on servers that are about to suffer. One service lives through all of it, never restarted."""
    scratch = tmp_path_factory.mktemp("chaos")
    with world.running(renderer(scratch / request.param, world.answers_of(request.param)), scratch) as everything:
        yield everything


@pytest.mark.parametrize(("running", "fault"), TRIALS, indirect=["running"])
def test_a_service_keeps_its_promises(running: world.World, fault: faults.Fault, tmp_path: Path) -> None:
    """It stays alive, says how it is, answers 2xx or 503 in time, loses no write, and recovers by itself."""
    outcome = trial.run(running, fault, tmp_path)
    assert not trial.broken(outcome), table.line("this one", outcome, "services")


@pytest.mark.parametrize(
    "running", [pytest.param(stack, marks=pytest.mark.xdist_group(stack)) for stack in table.STACKS], indirect=True
)
def test_nothing_is_leaked(running: world.World, tmp_path: Path) -> None:
    """After many faults there are no more connections, files, threads and tasks than before; nothing was lost."""
    leaks.compressed_hour(running, CYCLES, tmp_path)  # the pools fill
    before = leaks.count(running)
    requests = leaks.compressed_hour(running, CYCLES, tmp_path)
    assert {request.status for request in requests} <= {200, 201, 503}
    assert not leaks.leaked(running, before)
    assert not trial.lost(requests, running.notes())
