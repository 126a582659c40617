"""One Flask service to measure: `python flask_app.py {bare|bridge|rendered}`, on the port in PORT.

The package of the rendered service must be importable. All variants have the same routes with the same handlers and as
many threads. The bare ones take the example's blueprint and model from the package, and as much of the chassis as they
need: on gunicorn, which most Flask services run on, and behind the chassis's own bridge without its middleware.
"""

import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import uvicorn
from flask import Flask, Response
from gunicorn.app.base import BaseApplication
from my_service.chassis.app import Chassis, attach, chassis_of
from my_service.chassis.database import sqlite
from my_service.chassis.database.sync import Database
from my_service.chassis.features import serve
from my_service.chassis.settings import load
from my_service.chassis.web.flask import read_json
from my_service.chassis.web.threads import ThreadPool, WSGIBridge
from my_service.main import create_app
from my_service.notes.models import Note
from my_service.notes.router import blueprint as notes
from my_service.notes.schemas import NoteIn, NoteOut
from my_service.settings import Settings
from sqlalchemy import create_engine
from sqlalchemy.orm import Session, sessionmaker

OpenSession = Callable[[], AbstractContextManager[Session]]


def add_routes(app: Flask, session: OpenSession) -> Flask:
    """Add the routes that are measured."""

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
    chassis = Chassis(load(Settings))
    chassis.provide(Database(engine, sqlite))
    attach(app, chassis)
    app.register_blueprint(notes, url_prefix="/api/v1/notes")
    return add_routes(app, sessionmaker(engine, expire_on_commit=False).begin)


def rendered() -> Flask:
    app = create_app()
    return add_routes(app, chassis_of(app).get(Database).session)


def private() -> Flask:
    """Return the rendered service with a route that requires a scope, and after it one that does not."""
    from my_service.chassis.authentication.flask import require_scope  # the other services lack it

    app = rendered()

    @app.get("/private")
    @require_scope("read")
    def private_hello() -> dict[str, str]:
        return {"message": "hello"}

    @app.get("/last")
    def last() -> dict[str, str]:
        return {"message": "hello"}

    return app


def featured() -> Flask:
    """Return the rendered service with routes that use its features, and the same routes without them."""
    from bodies import Plain, Validated  # the other services lack these features
    from my_service.chassis.notifications import Message
    from my_service.chassis.notifications.sync import notify

    app = rendered()
    chassis = chassis_of(app)
    session = chassis.get(Database).session

    @app.post("/plain")
    def plain() -> dict[str, str]:
        return {"title": read_json(Plain).title}

    @app.post("/validated")
    def validated() -> dict[str, str]:
        return {"title": read_json(Validated).title}

    @app.post("/silent")
    def silent() -> dict[str, str]:
        note = read_json(NoteIn)
        with session() as unit_of_work:
            unit_of_work.add(Note(**note.model_dump()))
        return {"message": "hello"}

    @app.post("/notified")
    def notified() -> dict[str, str]:
        note = read_json(NoteIn)
        with session() as unit_of_work:
            unit_of_work.add(Note(**note.model_dump()))
            notify(chassis, Message("A new note", note.title), session=unit_of_work)
        return {"message": "hello"}

    return app


class Gunicorn(BaseApplication):
    """gunicorn with one worker process and a thread pool."""

    def __init__(self, port: int, threads: int) -> None:
        self._options = {
            "bind": f"127.0.0.1:{port}",
            "threads": threads,
            "worker_class": "gthread",
            "keepalive": 75,
            "errorlog": "/dev/null",
            "control_socket_disable": True,
        }
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._options.items():
            if name in self.cfg.settings:
                self.cfg.set(name, value)

    def load(self) -> Any:
        return bare()


# The variants that the function of the rendered service serves.
RENDERED = {"rendered": rendered, "private": private, "featured": featured}


def main(variant: str) -> None:
    settings = load(Settings)
    port = int(os.environ["PORT"])
    if variant in RENDERED:
        serve(RENDERED[variant], settings)
    elif variant == "bridge":
        bridge = WSGIBridge(bare(), ThreadPool(settings.server_threads))
        uvicorn.run(bridge, port=port, access_log=False, lifespan="off")  # type: ignore[arg-type]
    else:
        Gunicorn(port, settings.server_threads).run()


if __name__ == "__main__":
    main(sys.argv[1])
