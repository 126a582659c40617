"""The service's commands around routes that use its database: `python -m tests.chassis.sql_server serve`.

`GET /api/here/write` adds a row to the table `written`, in a unit of work of its own, before it answers.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ..package import module
from .application import create_app as application
from .unit_of_work import in_request

features = module("chassis.features")
TABLE = "CREATE TABLE written (number INTEGER)"


def create_app() -> Any:
    services: list[Any] = []
    seam = SimpleNamespace(__name__="test", install=services.append)
    behaviours = {"write": lambda: in_request(services[0], "INSERT INTO written (number) VALUES (1)")}
    settings = module("chassis.settings").load(features.ChassisSettings)
    return application(settings, (*features.FEATURES, seam), behaviours)


if __name__ == "__main__":
    cli = module("chassis.cli")
    app = f"{__package__}.sql_server:create_app"
    program = cli.Program(app, features.ChassisSettings, features.FEATURES, features.serve)
    raise SystemExit(cli.main(program))
