"""One Flask service to be measured: `python flask_app.py {bare|threads|logging|rendered}`, on the port in PORT.

The package of the rendered service must be importable. All variants have the same routes with the same handlers. The
bare one takes the example's blueprint and model from the package, and as much of the chassis as it needs.
"""

import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager

from flask import Flask, Response
from granian.constants import Interfaces
from granian.server import MPServer
from my_service.chassis.database import sqlite
from my_service.chassis.database.wsgi import Database
from my_service.chassis.features import serve
from my_service.chassis.limits.wsgi import SPARE_THREADS
from my_service.chassis.service import Service, service_of
from my_service.chassis.settings import load
from my_service.main import create_app
from my_service.notes.models import Note
from my_service.notes.router import blueprint as notes
from my_service.notes.schemas import NoteOut
from my_service.settings import Settings
from sqlalchemy import create_engine
from sqlalchemy.orm import Session, sessionmaker

OpenSession = Callable[[], AbstractContextManager[Session]]


def add_routes(app: Flask, session: OpenSession) -> Flask:
    """Add what is measured."""

    @app.get("/hello")
    def hello() -> dict[str, str]:
        return {"message": "hello"}

    @app.get("/rows/<int:row_id>")
    def row(row_id: int) -> Response:
        with session() as unit_of_work:
            found = NoteOut.model_validate(unit_of_work.get(Note, row_id))
            return Response(found.model_dump_json(), mimetype="application/json")

    return app


def bare() -> Flask:
    app = Flask(__name__)
    engine = create_engine("sqlite:///data/service.db")
    service = app.extensions["chassis"] = Service(load(Settings))
    service.provide(Database(engine, sqlite))
    app.register_blueprint(notes, url_prefix="/api/v1/notes")
    return add_routes(app, sessionmaker(engine, expire_on_commit=False).begin)


def rendered() -> Flask:
    app = create_app()
    return add_routes(app, service_of(app).get(Database).session)


def main(variant: str) -> None:
    settings = load(Settings)
    if variant == "rendered":
        serve(rendered, settings)
        return
    server = MPServer(
        "app",
        port=int(os.environ["PORT"]),
        interface=Interfaces.WSGI,
        blocking_threads=None if variant == "threads" else settings.server_threads + SPARE_THREADS,
        log_access=variant == "logging",
        websockets=False,
    )
    server.serve(target_loader=bare, wrap_loader=False)


if __name__ == "__main__":
    main(sys.argv[1])
