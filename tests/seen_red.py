"""Runs tests of rendered services with faults in their chassis, and tells how each went: `red` where it failed.

A process of its own, `python seen_red.py`: it reads a JSON list of jobs, each with `render` (a folder), `fault` (`in`,
`is`, `becomes`, or nothing) and `tests`, and prints each again with its verdict. The libraries are imported once. Each
job gets a fork of this process, so that nothing of one is left for the next.
"""

import importlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

# What costs most of a test run's start. A render uses only some of them.
LIBRARIES = (
    "aiosqlite", "alembic.command", "anyio.from_thread", "fastapi", "flask", "granian.server", "httpx", "orjson",
    "pydantic_settings", "sqlalchemy.ext.asyncio", "sqlalchemy.orm", "stamina", "structlog", "uvicorn.lifespan.on",
)  # fmt: skip
# How long a test may take that does not end by itself any more, on a busy machine.
TEST_SECONDS = 180


class Judge:
    """Notes how the tests went: `red` when one failed in its own words, and not because it could not be run."""

    verdict = "did not run"

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.verdict = "broken" if report.when == "setup" else "red"
        elif self.verdict == "did not run" and report.when == "call":
            self.verdict = report.outcome


def run_here(service: Path, tests: list[str], output: Path) -> str:
    """Run tests of the service in this process, which must be used for nothing else afterwards."""
    with output.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(service)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    sys.path[:0] = [str(service), str(service / "src")]
    judge = Judge()
    wanted = [f"tests/{test}" for test in tests]
    pytest.main(["-x", "-q", "-p", "no:cacheprovider", f"--basetemp={service}/scratch", *wanted], plugins=[judge])
    return judge.verdict


def run_apart(service: Path, tests: list[str]) -> str:
    """Run tests in a fork, and whatever it has started ends with it."""
    verdict, output = service / "verdict", service / "output"
    verdict.write_text("hung")
    child = os.fork()
    if not child:
        os.setpgrp()
        verdict.write_text(run_here(service, tests, output))
        os._exit(0)
    deadline = time.monotonic() + TEST_SECONDS * len(tests)
    while not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) and time.monotonic() < deadline:
        time.sleep(0.01)
    # A fault may be that a service does not end when it is told to. The child is waited for afterwards: until then its
    # number, which is that of the group, is nobody else's.
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return verdict.read_text()


@contextmanager
def planted(service: Path, fault: Mapping[str, str]) -> Iterator[None]:
    """Plant a fault while the block lasts; `{}` is none."""
    if not fault:
        yield
        return
    path = chassis(service) / fault["in"]
    text, times = path.read_text(), path.stat()
    path.write_text(text.replace(fault["is"], fault["becomes"], 1))
    for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
        compiled.unlink()
    yield
    path.write_text(text)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # or the faulty bytecode could pass for that of this text


def chassis(service: Path) -> Path:
    return next((service / "src").glob("*/chassis"))


def judge(folder: Path, job: Mapping[str, Any]) -> dict[str, Any]:
    """Do one job in this process's own copy of its render."""
    service = folder / f"{os.getpid()}-{Path(job['render']).name}"
    if not service.exists():
        shutil.copytree(job["render"], service, symlinks=True)
    began = time.monotonic()
    with planted(service, job["fault"]):
        verdict = run_apart(service, job["tests"])
    said = (service / "output").read_text(errors="replace")[-3000:]
    return {**job, "verdict": verdict, "seconds": round(time.monotonic() - began, 1), "said": said}


def main(jobs: list[dict[str, Any]]) -> None:
    for library in LIBRARIES:
        importlib.import_module(library)
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(os.cpu_count(), mp_context=context) as pool:
        for judged in pool.map(partial(judge, Path(folder)), jobs):
            print(json.dumps(judged), flush=True)


if __name__ == "__main__":
    main(json.load(sys.stdin))
