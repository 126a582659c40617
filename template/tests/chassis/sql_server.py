"""The service's commands with routes that use its database: `python -m tests.chassis.sql_server serve`.

`GET /api/here/write` adds a row to the table `written`, in one unit of work, before it responds.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ..package import module
from .application import create_app as create_application
from .unit_of_work import in_request

features = module("chassis.features")
TABLE = "CREATE TABLE written (number INTEGER)"


def create_app() -> Any:
    chassis: list[Any] = []
    keep_chassis = SimpleNamespace(__name__="test", install=chassis.append)
    behaviours = {"write": lambda: in_request(chassis[0], "INSERT INTO written (number) VALUES (1)")}
    settings = module("chassis.settings").load(features.ChassisSettings)
    return create_application(settings, (*features.FEATURES, keep_chassis), behaviours)


if __name__ == "__main__":
    cli = module("chassis.cli")
    app = f"{__package__}.sql_server:create_app"
    program = cli.Program(app, features.ChassisSettings, features.FEATURES, features.serve)
    raise SystemExit(cli.main(program))
