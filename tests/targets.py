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

# What each of these says when no container engine answers.
NEED_AN_ENGINE = ("build", "smoke", "up", "down", "logs")
# What is tried by a test for it alone: `check` is `lint`, `types` and `test`.
TRIED_ELSEWHERE = {"setup", "check", "lint", "types", "test", "migrate", "drift", "prod-check"}
TRIED_HERE = {"help", "run", "health", "validate", "backup", "restore", "format", "settings-docs", "servers"}
COMMANDS = ("sudo", "apt-get")


def make(service: Path, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run a target, whatever comes of it."""
    command = ["make", *arguments]
    return subprocess.run(
        command, cwd=service, env=environment(**variables), capture_output=True, text=True, check=False
    )


def sentence(done: "subprocess.CompletedProcess[str]") -> str:
    """The one line that a target says why it failed, beside what make says of the target."""
    assert done.returncode == 2, done
    lines = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("make: ***")]
    assert len(lines) == 1, done
    return lines[0]


def listed(service: Path) -> set[str]:
    """The targets that `make help` lists."""
    return set(re.findall(r"^  make ([a-z-]+) +\S", make(service, "help").stdout, re.MULTILINE))


@contextmanager
def running(service: Path, scratch: Path, settings: Mapping[str, str]) -> Iterator[Live]:
    """`make run`, in a group of its own as in a terminal; nothing of it outlives the block."""
    log = scratch / "run.log"
    with private_servers.reserved_port() as port, log.open("wb") as output:
        variables = environment(**{**settings, "PORT": str(port)})
        process = subprocess.Popen(
            ["make", "run"], cwd=service, env=variables, stdout=output, stderr=subprocess.STDOUT,
            process_group=0, preexec_fn=_hear_ctrl_c,
        )  # fmt: skip
        try:
            yield Live(f"http://127.0.0.1:{port}", process, log)
        finally:
            interrupt(process)


def _hear_ctrl_c() -> None:
    """A shell that runs the tests in the background has them ignore it, and whatever they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def interrupt(process: "subprocess.Popen[bytes]") -> None:
    """Press Ctrl-C: everybody in the group hears of it. It is waited until make has ended, which ends last."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(STOP_SECONDS)


def recorder(folder: Path) -> Path:
    """A folder for PATH with commands that write down how they were called, and do nothing."""
    folder.mkdir()
    for name in COMMANDS:
        (folder / name).write_text(f'#!/bin/sh\necho "{name} $*" >> "{folder}/called"\n', encoding="utf-8")
        (folder / name).chmod(0o755)
    (folder / "called").touch()
    return folder
