"""Databases and caches for services that run in the tests, on servers that are started for its own."""

import sys
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


def free_port() -> int:
    """A port on which nothing listens."""
    port: int = _servers().free_port()
    return port


def settings(service: Path, scratch: Path) -> dict[str, str]:
    """The variables that a service needs for a database and a cache that are its own and, by the folder, its test's."""
    found: dict[str, str] = _servers().settings(next(service.glob("src/*/chassis")), scratch)
    return found
