"""The domains of the service: the folders beside `main.py` that hold what it is for."""

from importlib import import_module
from types import ModuleType


def load_domains(main: str, *names: str) -> list[ModuleType]:
    """Import the domains of these names, which lie beside the module `main`; each offers `install(app)`.

    `main.py` loads them when it is imported, so that a migration knows their models without an application.
    """
    package = main.rpartition(".")[0]
    return [import_module(f"{package}.{name}") for name in names]
