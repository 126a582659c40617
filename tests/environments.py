"""Environments of rendered services that share one set of installed libraries, so that each costs less than a second.

`make setup` of a service downloads, installs and compiles the same libraries again. A test of the installation itself
uses `live.install`. All others use `connect`.
"""

import fcntl
import sys
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from live import run

# What `make setup` writes when it has installed a service.
READY = ".venv/ready"


def requirements(service: Path) -> list[str]:
    """Everything that a service and its tools need, as its pyproject.toml lists it."""
    project = tomllib.loads((service / "pyproject.toml").read_text(encoding="utf-8"))
    return [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]


def create(folder: Path, services: Iterable[Path]) -> Path:
    """Install the libraries of all services into one environment, and return its folder of libraries."""
    wanted = sorted({requirement for service in services for requirement in requirements(service)})
    run("uv", "venv", "--quiet", "--python", sys.executable, str(folder), cwd=folder.parent)
    python = str(folder / "bin/python")
    run("uv", "pip", "install", "--quiet", "--compile-bytecode", "--python", python, *wanted, cwd=folder.parent)
    return libraries(folder)


def libraries(environment: Path) -> Path:
    """The folder of libraries of an environment."""
    return next(environment.glob("lib/python*/site-packages"))


def connect(service: Path, shared: Path) -> Path:
    """Give a service an environment with the shared libraries and itself, and return its Python."""
    run("uv", "venv", "--quiet", "--python", sys.executable, ".venv", cwd=service)
    own = libraries(service / ".venv")
    (own / "service.pth").write_text(f"{service / 'src'}\n{shared}\n", encoding="utf-8")
    project = tomllib.loads((service / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    # The service asks for its own version.
    metadata = own / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info/METADATA"
    metadata.parent.mkdir()
    text = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    metadata.write_text(text, encoding="utf-8")
    (service / ".venv/bin/ruff").symlink_to(shared.parents[2] / "bin/ruff")  # formats new migrations
    (service / READY).touch()
    return service / ".venv/bin/python"


@contextmanager
def only_one(lock: Path) -> Iterator[None]:
    """Let one worker at a time run the block."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
