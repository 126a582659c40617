"""Messages reach the clients of this process only."""

from __future__ import annotations

from ..app import Chassis
from . import Settings as Settings
from . import broadcaster


def install(chassis: Chassis) -> None:
    broadcaster.install(chassis)
