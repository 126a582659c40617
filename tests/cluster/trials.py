"""Events in the cluster under load, and the promises that the service keeps meanwhile."""

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from chaos.load import Request, load, read
from containers.engine import run

from cluster.world import ADDRESS, NAME, World, wait_for

UPDATES = 20
SETTLE_SECONDS = 3


@dataclass(frozen=True)
class Trial:
    """An event, and whether the service promises that it loses no request."""

    name: str
    act: Callable[[World], None]
    lossless: bool = True


@dataclass(frozen=True)
class Outcome:
    """The requests during a trial, and what became of the service."""

    trial: Trial
    seconds: float
    requests: list[Request]
    missing: int
    restarts: int

    def count(self, *statuses: int) -> int:
        return sum(request.status in statuses for request in self.requests)

    def broken(self) -> list[str]:
        """Return the promises that were not kept."""
        faults = [f"{self.trial.name}: {request}" for request in self.requests if request.wrong]
        if self.missing or self.restarts:
            faults.append(f"{self.trial.name}: {self.missing} acknowledged notes are missing, {self.restarts} restarts")
        allowed = (200, 201) if self.trial.lossless else (200, 201, 503, 0)
        lost = [request for request in self.requests if request.status not in allowed]
        return faults + [f"{self.trial.name}: {request}" for request in lost[:5]]


def attempt(world: World, trial: Trial, scratch: Path) -> Outcome:
    """Run a trial under the load of two groups of clients, one of which opens a connection for each request."""
    wait_for(world.is_settled)
    restarts = restarted(world)
    files = [scratch / "kept", scratch / "renewed"]
    with ExitStack() as stack:
        for file in files:
            stack.enter_context(load(f"http://{ADDRESS}", file, renews=file.name == "renewed"))
        time.sleep(SETTLE_SECONDS)
        began = time.monotonic()
        trial.act(world)
        seconds = time.monotonic() - began
        wait_for(world.is_settled)
        time.sleep(SETTLE_SECONDS)
    requests = [request for file in files for request in read(file)]
    written = {request.title for request in requests if request.status == 201}
    again = restarted(world).items()
    restarts_of_kept = sum(count - restarts[pod] for pod, count in again if pod in restarts)
    return Outcome(trial, seconds, requests, len(written - world.titles()), restarts_of_kept)


def restarted(world: World) -> dict[str, int]:
    """Return how often the container of each pod was restarted."""
    pods = world.pods()
    return {pod["metadata"]["name"]: pod["status"]["containerStatuses"][0]["restartCount"] for pod in pods}


def names(world: World) -> set[str]:
    return {pod["metadata"]["name"] for pod in world.pods()}


def wait(_world: World) -> None:
    time.sleep(SETTLE_SECONDS)


def update(world: World) -> None:
    world.release("2")
    assert world.image() == f"{NAME}:2"


def roll_back(world: World) -> None:
    """The release before starts on the newer schema."""
    done = world.deploy("rollback-kubernetes")
    assert (done.returncode, done.stdout) == (0, f"production runs {NAME}:1\n"), done.stderr


def update_often(world: World) -> None:
    for number in range(UPDATES):
        world.release("21"[number % 2])


def fail_to_migrate(world: World) -> None:
    """The running pods stay, and the message names the reason."""
    before = names(world)
    done = world.deploy("deploy-kubernetes", f"IMAGE={NAME}:fails")
    assert done.returncode == 2
    assert "RuntimeError" in done.stderr
    assert "The migration failed, so nothing was deployed." in done.stderr
    assert names(world) == before


def fail_to_start(world: World) -> None:
    """The release before is restored, and `rollback` does not find the failed one."""
    image = world.image()
    done = world.deploy("deploy-kubernetes", f"IMAGE={NAME}:hangs")
    assert done.returncode == 2, done.stdout
    assert "The release did not become ready, so the previous release was restored." in done.stderr
    assert world.image() == image
    assert f"{NAME}:hangs" not in world.kubectl("get", "replicasets", "--output", "wide")


def drain(world: World) -> None:
    """The disruption budget keeps the last ready pod on a cluster that has no other node."""
    (node,) = world.kubectl("get", "nodes", "--output", "name").split()
    selector = f"--pod-selector=app.kubernetes.io/name={NAME}"
    world.kubectl("drain", node, "--delete-emptydir-data", selector, "--timeout=30s", check=False)
    assert len(world.pods()) >= 1
    world.kubectl("uncordon", node)


def delete_a_pod(world: World) -> None:
    world.kubectl("delete", "pod", min(names(world)))


def kill(container: str) -> None:
    """Kill the first process of a container."""
    name = run("docker", "ps", "--filter", f"name=k8s_{container}_", "--format", "{{.Names}}").split()[0]
    os.kill(json.loads(run("docker", "inspect", name))[0]["State"]["Pid"], signal.SIGKILL)


def kill_the_database(world: World) -> None:
    kill("postgresql")
    time.sleep(SETTLE_SECONDS)
    world.kubectl("rollout", "status", "deployment/database", "--timeout=120s")


TRIALS = [
    Trial("none", wait),
    Trial("rolling update with a migration", update),
    Trial("rollback to the release before the migration", roll_back),
    Trial(f"{UPDATES} rolling updates", update_often),
    Trial("failing migration", fail_to_migrate),
    Trial("release that does not become ready", fail_to_start),
    Trial("pod deleted", delete_a_pod),
    Trial("node drained", drain),
    Trial("database killed (kill -9)", kill_the_database, lossless=False),
]
