"""The commands of a rendered service's Makefile, and how they are tried."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import private_servers
from live import STOP_SECONDS, Live, environment

# Targets that print one line if no container engine is available.
NEED_AN_ENGINE = ("build", "smoke", "scan", "sbom", "services", "up", "down", "logs", "deploy", "rollback")
# Targets that other tests run.
TRIED_ELSEWHERE = {
    "setup",
    "check",
    "lint",
    "types",
    "test",
    "migrate",
    "domain",
    "drift",
    "upgrade",
    "test-chassis",
    "deploy-check",
    "slo",
    "deploy-kubernetes",
    "rollback-kubernetes",
    "kubernetes-rules",
}
TRIED_HERE = {"help", "run", "health", "validate", "backup", "restore", "format", "settings-docs", "servers", "load"}
TRIED_HERE |= {"audit", "secrets", "lint-image"}
COMMANDS = ("sudo", "apt-get")


def make(service: Path, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run a target and return its result, successful or not."""
    command = ["make", *arguments]
    return subprocess.run(
        command, cwd=service, env=environment(**variables), capture_output=True, text=True, check=False
    )


def sentence(done: "subprocess.CompletedProcess[str]") -> str:
    """Return the one line in which a failed target gives the reason, without the line of make itself."""
    assert done.returncode == 2, done
    lines = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("make: ***")]
    assert len(lines) == 1, done
    return lines[0]


def listed(service: Path) -> set[str]:
    """Return the targets that `make help` lists."""
    return set(re.findall(r"^  make ([a-z-]+) +\S", make(service, "help").stdout, re.MULTILINE))


@contextmanager
def running(service: Path, scratch: Path, settings: Mapping[str, str]) -> Iterator[Live]:
    """Run `make run` during the block, in a separate process group as in a terminal."""
    log = scratch / "run.log"
    with private_servers.reserved_port() as port, log.open("wb") as output:
        variables = environment(**{**settings, "PORT": str(port), "METRICS_PORT": "0"})
        process = subprocess.Popen(
            ["make", "run"], cwd=service, env=variables, stdout=output, stderr=subprocess.STDOUT,
            process_group=0, preexec_fn=hear_ctrl_c,
        )  # fmt: skip
        try:
            yield Live(f"http://127.0.0.1:{port}", process, log)
        finally:
            interrupt(process)


def hear_ctrl_c() -> None:
    """Restore Ctrl-C, which a shell that runs the tests in the background makes all its processes ignore."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def interrupt(process: "subprocess.Popen[bytes]") -> None:
    """Send Ctrl-C to the group and wait until make has ended, which ends last."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(STOP_SECONDS)


def recorder(folder: Path) -> Path:
    """Return a folder for PATH whose commands only record their arguments."""
    folder.mkdir()
    for name in COMMANDS:
        (folder / name).write_text(f'#!/bin/sh\necho "{name} $*" >> "{folder}/called"\n', encoding="utf-8")
        (folder / name).chmod(0o755)
    (folder / "called").touch()
    return folder
