"""Databases and caches for services that run in the tests, on servers that are started for its own."""

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from questions import ROOT

FOLDER = ROOT / "template/tests/servers"


def _servers() -> Any:
    """The package of a rendered service's tests, where it lies and under a name of its own."""
    name = "rendered_servers"
    if name not in sys.modules:
        spec = spec_from_file_location(name, FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)])
        assert spec
        assert spec.loader
        sys.modules[name] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def server_of(service: Path, feature: str = "database") -> Any:
    """The module that starts servers of the kind which a service is made for; None when it needs none."""
    return _servers().chosen(next(service.glob("src/*/chassis")), feature)


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port on which nothing listens, and which nobody else is given while the block lasts.

    A port that is only looked up is anybody's until the service listens on it, which takes seconds: another worker may
    be given it meanwhile. This one stays bound; as both sides set SO_REUSEADDR, a server that asks for it by number can
    listen on it all the same, and until then connections are refused.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def settings(service: Path, scratch: Path) -> dict[str, str]:
    """The variables that a service needs for a database and a cache that are its own and, by the folder, its test's."""
    found: dict[str, str] = _servers().settings(next(service.glob("src/*/chassis")), scratch)
    return found
