"""The cluster, the database and the releases of a service in it."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from containers.engine import base_images, build, require, run
from deployments.kubernetes import FOLDER
from rendering import Render

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "seaworthy-kubernetes"
NAME = "seaworthy-cluster"
NAMESPACE = f"{NAME}-production"
ADDRESS, DATABASE = "10.96.0.80", "10.96.0.54"
PASSWORD = "ballast-and-keel"  # noqa: S105
PATIENCE_SECONDS = 300
SETTINGS = {"ALLOWED_HOSTS": ADDRESS, "RATE_LIMIT_DEFAULT": "1000000/minute", "LOG_LEVEL": "WARNING"}
# An address that does not change, and a deadline that is shorter than a person's patience.
PATCH = f"""\
  - target: {{kind: Service, name: {NAME}}}
    patch: '[{{"op": "add", "path": "/spec/clusterIP", "value": "{ADDRESS}"}}]'
  - target: {{kind: Deployment}}
    patch: '[{{"op": "replace", "path": "/spec/progressDeadlineSeconds", "value": 40}}]'
"""
POSTGRESQL = f"""\
apiVersion: v1
kind: Service
metadata: {{name: database}}
spec:
  clusterIP: {DATABASE}
  selector: {{app: database}}
  ports: [{{port: 5432}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: database}}
spec:
  selector: {{matchLabels: {{app: database}}}}
  template:
    metadata: {{labels: {{app: database}}}}
    spec:
      tolerations: [{{operator: Exists}}]
      containers:
        - name: postgresql
          image: postgres:18-trixie
          env:
            - {{name: POSTGRES_USER, value: service}}
            - {{name: POSTGRES_PASSWORD, value: {PASSWORD}}}
          volumeMounts: [{{name: data, mountPath: /var/lib/postgresql}}]
          readinessProbe:
            exec: {{command: [pg_isready, --host=127.0.0.1, --username=service]}}
            periodSeconds: 1
            timeoutSeconds: 10
      volumes: [{{name: data, emptyDir: {{}}}}]
"""
ADD_A_COLUMN = '''\
"""Add a column."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "{revision}", "{before}", None, None


def upgrade() -> None:
    {add_column}("notes", sa.Column("colour", sa.String(20)))


def downgrade() -> None:
    op.drop_column("notes", "colour")
'''
# The releases: `1` is the service, and each of the others is made from it.
RELEASES = {
    "2": "COPY 0002.py migrations/versions/0002.py",
    "fails": "COPY 0002.py 0003.py migrations/versions/",
    "hangs": 'ENTRYPOINT ["sh", "-c", "[ $0 = migrate ] || sleep 1000"]',
}


def wait_for(what: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> float:
    """Wait until it is true, and return how long that took."""
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < seconds, f"still waiting after {seconds:.0f} s"
        time.sleep(0.2)
    return time.monotonic() - began


def is_listening(address: str, port: int) -> bool:
    """Whether connections are accepted. kube-proxy notices a ready pod a little later than the API server."""
    with socket.socket() as connection:
        connection.settimeout(5)
        return connection.connect_ex((address, port)) == 0


@dataclass(frozen=True)
class World:
    """A cluster in which the service runs."""

    service: Path
    variables: dict[str, str]
    package: str

    def kubectl(self, *arguments: str, check: bool = True, stdin: str = "") -> str:
        done = subprocess.run(
            ["kubectl", "--namespace", NAMESPACE, *arguments], env=self.variables, input=stdin,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{arguments}: {done.stderr}"
        return done.stdout

    def deploy(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a target of `make` as docs/deployment.md says."""
        command = ["make", *arguments, "OVERLAY=production"]
        return subprocess.run(
            command, cwd=self.service, env=self.variables, capture_output=True, text=True, check=False
        )

    def release(self, version: str) -> None:
        """Deploy a release, which must succeed."""
        done = self.deploy("deploy-kubernetes", f"IMAGE={NAME}:{version}")
        assert done.returncode == 0, done.stdout + done.stderr

    def pods(self) -> list[dict[str, Any]]:
        """The pods that serve, or are about to."""
        selector = f"app.kubernetes.io/name={NAME},app.kubernetes.io/component=service"
        pods = yaml.safe_load(self.kubectl("get", "pods", "--selector", selector, "--output", "yaml"))["items"]
        return [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]

    def image(self) -> str:
        return self.kubectl(
            "get", f"deployment/{NAME}", "--output", "jsonpath={.spec.template.spec.containers[0].image}"
        )

    def is_settled(self) -> bool:
        """Whether two pods are ready, and no other exists."""
        statuses = [row["status"].get("containerStatuses", [{}])[0].get("ready") for row in self.pods()]
        return statuses == [True, True]

    def titles(self) -> set[str]:
        """The titles of all notes, read directly from the database."""
        query = ("psql", "--username=service", "--tuples-only", "--no-align", "--command", "SELECT title FROM notes")
        return set(self.kubectl("exec", "deployment/database", "--", *query).split())


def releases(render: Render) -> None:
    """Build the images of all releases."""
    service = render.path
    require("stand_ins.sh", *base_images(service), "postgres:18-trixie")
    build("docker", "build", "--tag", f"{NAME}:1", ".", cwd=service)
    (first,) = (service / "migrations/versions").glob("0001*.py")
    before = re.search(r'^revision = "(.+)"', first.read_text(encoding="utf-8"), re.MULTILINE)
    assert before
    context = service / "releases"
    context.mkdir()
    works = ADD_A_COLUMN.format(revision="0002", before=before[1], add_column="op.add_column")
    fails = ADD_A_COLUMN.format(revision="0003", before="0002", add_column="raise RuntimeError")
    (context / "0002.py").write_text(works, encoding="utf-8")
    (context / "0003.py").write_text(fails, encoding="utf-8")
    for version, lines in RELEASES.items():
        text = f"FROM {NAME}:1\nUSER 0\n{lines}\nUSER 1000\n"
        (context / "Dockerfile").write_text(text, encoding="utf-8")
        build("docker", "build", "--tag", f"{NAME}:{version}", str(context), cwd=context)


def fill_in(service: Path) -> None:
    """Fill in the environment `production` as its owner does."""
    overlay = service / FOLDER / "overlays/production"
    (overlay / "secrets.env").write_text(
        f"DATABASE_URL=postgresql://service:{PASSWORD}@{DATABASE}:5432/service\n", encoding="utf-8"
    )
    settings = (overlay / "settings.env").read_text(encoding="utf-8")
    for name, value in SETTINGS.items():
        settings = re.sub(rf"^{name}=.*\n|\Z", f"\n{name}={value}\n", settings, count=1, flags=re.MULTILINE)
    (overlay / "settings.env").write_text(settings, encoding="utf-8")
    with (overlay / "kustomization.yaml").open("a", encoding="utf-8") as kustomization:
        kustomization.write(PATCH)


@contextmanager
def running(render: Render, kubectl: str, scratch: Path) -> Iterator[World]:
    """Run a cluster with a database and release 1 during the block."""
    require("engine.sh", "start")
    built = subprocess.run([HERE / "build.sh", CACHE], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    releases(render)
    fill_in(render.path)
    path = os.pathsep.join([str(HERE / "bin"), str(CACHE / "bin"), os.environ["PATH"]])
    extra = {
        "KUBECONFIG": str(scratch / "kubeconfig"),
        "KUBECTL": kubectl,
        "CLUSTER_PYTHON": str(Path(sys.executable).absolute()),
        "PATH": path,
    }
    outer = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    world = World(render.path, outer | extra, render.answers["package_name"])
    try:
        run(str(HERE / "node.sh"), "up", str(CACHE / "bin"), str(scratch), env=extra)
        world.kubectl("apply", "--filename", str(render.path / FOLDER / "overlays/production/namespace.yaml"))
        wait_for(lambda: "default" in world.kubectl("get", "serviceaccounts"))
        world.kubectl("apply", "--filename", "-", stdin=POSTGRESQL)
        world.kubectl("rollout", "status", "deployment/database", f"--timeout={PATIENCE_SECONDS}s")
        wait_for(lambda: is_listening(DATABASE, 5432))
        world.release("1")
        wait_for(world.is_settled)
        # It fails if the pod is not protected as production requires, or has a schema of another release.
        world.kubectl("exec", f"deployment/{NAME}", "--", "python", "-m", world.package, "deploy-check")
        yield world
    finally:
        run(str(HERE / "node.sh"), "down", str(CACHE / "bin"), str(scratch))
        shutil.rmtree(render.path, ignore_errors=True)
