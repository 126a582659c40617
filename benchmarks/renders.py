"""Time per file of the default render: Copier's command line and Copier in process, against plain Jinja."""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from copier import run_copy
from copier._main import Worker

ROOT = Path(__file__).parent.parent
SUFFIX = ".jinja"


@dataclass(frozen=True)
class Time:
    """The time of one way of rendering, in milliseconds."""

    label: str
    files: int
    cpu_ms: float
    wall_ms: float


def export(destination: Path) -> Path:
    """Copy the template without its git repository: cloning and diffing are not rendering."""
    for name in ("options", "template"):
        shutil.copytree(ROOT / name, destination / name, ignore=shutil.ignore_patterns(".*_cache", "__pycache__"))
    shutil.copy2(ROOT / "copier.yml", destination)
    return destination


def render(template: Path, destination: Path, answers: dict[str, str]) -> Path:
    run_copy(str(template), destination, data=answers, defaults=True, quiet=True)
    return destination


def measure(rounds: int) -> list[Time]:
    """Render the default service in each way, in turns."""
    with tempfile.TemporaryDirectory() as folder:
        template = export(Path(folder) / "source")
        files, jinja = _plain_jinja(template, Path(folder) / "model")
        ways: dict[str, Callable[[Path], object]] = {
            "plain Jinja: read, compile, render and write the same files": jinja,
            "Copier in process (`run_copy`)": lambda destination: render(template, destination, {}),
            "Copier's command line": lambda destination: _command_line("copy", "-q", "-l", template, destination),
            "Copier's command line, only `--version`": lambda _destination: _command_line("--version"),
        }
        samples: dict[str, list[tuple[float, float]]] = {label: [] for label in ways}
        for _ in range(rounds):
            for label, way in ways.items():
                samples[label].append(_sample_ms(way))
        return [
            Time(label, files, *map(statistics.median, zip(*taken, strict=True))) for label, taken in samples.items()
        ]


def _command_line(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "copier", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _sample_ms(way: Callable[[Path], object]) -> tuple[float, float]:
    """Return the CPU time, that of child processes included, and the wall-clock time."""
    with tempfile.TemporaryDirectory() as folder:
        before = os.times()
        way(Path(folder) / "service")
        after = os.times()
        return sum(after[:4]) * 1000 - sum(before[:4]) * 1000, (after.elapsed - before.elapsed) * 1000


def _plain_jinja(template: Path, model: Path) -> tuple[int, Callable[[Path], None]]:
    """Return how many files the default render has, and a function that writes them with Jinja and nothing else."""
    with Worker(str(template), model, defaults=True, quiet=True) as worker:
        worker.run_copy()
        context, environment = worker._render_context(), worker.jinja_env
    pairs = _pairs(template / "template", model, environment, context)

    def write(destination: Path) -> None:
        for source, name in pairs:
            target = destination / name
            target.parent.mkdir(parents=True, exist_ok=True)
            content = source.read_bytes()
            if source.suffix == SUFFIX:
                content = environment.from_string(content.decode()).render(context).encode()
            target.write_bytes(content)

    return len(pairs), write


def _pairs(template: Path, model: Path, environment: Any, context: Mapping[str, Any]) -> list[tuple[Path, str]]:
    """Return each source with the path of what it renders to in the default service."""
    found = {}
    for source in sorted(path for path in template.rglob("*") if path.is_file()):
        parts = [environment.from_string(part).render(context) for part in source.relative_to(template).parts]
        name = "/".join(part for part in parts if part).removesuffix(SUFFIX)
        if all(parts) and (model / name).is_file():
            found[name] = source
    rendered = {path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file()}
    if rendered != {str(Path(name)) for name in found}:
        raise RuntimeError(f"not the same files: {rendered ^ set(found)}")
    return [(source, name) for name, source in found.items()]
