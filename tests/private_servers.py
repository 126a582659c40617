"""Databases and caches for services under test, on servers that are started for them."""

import socket
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from questions import ROOT

FOLDER = ROOT / "template/tests/servers"


def _servers() -> Any:
    """Import the package `servers` of the rendered tests in place, under another name."""
    name = "rendered_servers"
    if name not in sys.modules:
        spec = spec_from_file_location(name, FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)])
        assert spec
        assert spec.loader
        sys.modules[name] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def server_of(service: Path, feature: str = "database") -> Any:
    """Return the module that starts the servers of a service, or None if it needs no server."""
    return _servers().chosen(next(service.glob("src/*/chassis")), feature)


@contextmanager
def reserved_port() -> Iterator[int]:
    """Yield a port that stays reserved for the caller during the block.

    A port that is only looked up could be given to another worker before the service listens on it. This port stays
    bound. Both sides set SO_REUSEADDR, so a server that asks for it by number can listen on it. Until then connections
    are refused.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def small_disk(folder: Path, megabytes: int) -> AbstractContextManager[None]:
    """Mount a small disk at a folder, which needs root."""
    found: AbstractContextManager[None] = _servers().small_disk(folder, megabytes)
    return found


def settings(service: Path, scratch: Path) -> dict[str, str]:
    """Return the variables of a service with a separate database and cache for its test folder."""
    found: dict[str, str] = _servers().settings(next(service.glob("src/*/chassis")), scratch)
    return found
