"""A running stack: its servers, the proxies in front of them, and the service."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import private_servers
from live import Live, serve
from questions import ROOT, read_yaml
from rendering import Render
from sqlalchemy import create_engine, make_url, text

from chaos import services
from chaos.faults import Target
from chaos.proxy import Proxy
from chaos.services import Inbox, listening

# Shorter than the defaults, so that the faults can be short. They are valid production settings.
SETTINGS = {
    "DATABASE_CONNECT_TIMEOUT_SECONDS": "2",
    "DATABASE_STATEMENT_TIMEOUT_SECONDS": "2",
    "DATABASE_POOL_TIMEOUT_SECONDS": "2",
    "REQUEST_TIMEOUT_SECONDS": "10",
    # The load of the test is far above the default.
    "RATE_LIMIT_DEFAULT": "400/second",
    "NOTIFICATIONS_TIMEOUT_SECONDS": "2",
    "JWT_JWKS_CACHE_SECONDS": "1",
}
# A route that an owner might add to observe the service.
_TASKS = """
    @app.get("/tasks")
    async def tasks() -> int:
        import asyncio

        return len(asyncio.all_tasks())

"""
# A domain that an owner might add: the API requires a token, and one new note in eight is reported on all channels.
_REPORTS = """
from functools import partial

from .chassis.app import chassis_of
from .chassis.authentication import authorize
from .chassis.database.session import after_commit
from .chassis.notifications import Message
from .chassis.notifications.asyncio import notify
from .notes.repository import NoteRepository

add = NoteRepository.add


def require_token(context, headers):
    if context.path.startswith("/api/"):
        authorize()


def install(app):
    chassis = chassis_of(app)
    chassis.before_request.append(require_token)

    async def add_and_report(self, note):
        await add(self, note)
        if note.title < "2":
            message = Message(note.title, "A new note.", email="ann@example.com", phone="+4930123456")
            await notify(chassis, message, key=note.title, session=self._session)
        tell(self._session, note.title)
        return note

    NoteRepository.add = add_and_report

    def tell(session, title):
        pass
"""
# And every new note is sent to the WebSockets.
_ROOMS = """
    from fastapi import WebSocket

    from .chassis.websocket.broadcaster import Broadcaster

    broadcaster = chassis.get(Broadcaster)

    def tell(session, title):
        after_commit(session, partial(broadcaster.send, "notes", title))

    @app.websocket("/rooms/{room}")
    async def listen(websocket: WebSocket, room: str) -> None:
        async with broadcaster.join(websocket, room) as connection:
            async for _ in connection:
                pass
"""
# A killed server must retain acknowledged writes (without a power failure). A low limit fills it quickly.
_CAREFUL = {
    "postgresql": ["--synchronous_commit=on", "--max_connections=25"],
    "mysql": ["--innodb-flush-log-at-trx-commit=2", "--max-connections=25"],
}
_DRIVERS = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}
_CONNECTIONS = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE datname = 'test' AND pid <> pg_backend_pid()",
    "mysql": "SELECT count(*) FROM information_schema.processlist WHERE db = 'test' AND id <> CONNECTION_ID()",
}


@dataclass
class World:
    """The service and its dependencies."""

    database: str
    targets: dict[str, Target]
    live: Live
    # Other services, which have no part in the hour of faults.
    services: dict[str, Target]
    inboxes: dict[str, Inbox]
    # Starts another replica.
    peer: Callable[[], AbstractContextManager[Live]]

    @property
    def token(self) -> str:
        return services.token() if self.services else ""

    @contextmanager
    def receiving(self, messages: str) -> Iterator[list[Inbox]]:
        """Yield the empty inboxes in which messages of a kind must arrive during the block."""
        if messages == "websockets":
            near, far = Inbox(), Inbox(lossy=True)
            with self.peer() as peer, listening(self.live.url, near), listening(peer.url, far):
                yield [near, far]
        else:
            for inbox in self.inboxes.values():
                inbox.received.clear()
            yield list(self.inboxes.values()) if messages else []

    def notes(self) -> dict[str, str]:
        """Return every note by its title, read directly from the database."""
        return {row[0]: row[1] for row in self._rows("SELECT title, body FROM notes")}

    def connections(self) -> int:
        """Return the number of connections at the server, without this one."""
        return int(self._rows(_CONNECTIONS[self.database])[0][0])

    def _rows(self, query: str) -> list[tuple[str, str]]:
        engine = create_engine(make_url(self.targets["database"].url).set(drivername=_DRIVERS[self.database]))
        try:
            with engine.connect() as connection:
                return [tuple(row) for row in connection.execute(text(query))]
        finally:
            engine.dispose()


def answers_of(stack: str) -> dict[str, Any]:
    """Return the answers of a named stack. Stacks with Redis call all kinds of other services."""
    answers: dict[str, Any] = read_yaml(ROOT / "tests" / "answers" / f"{stack}.yml")
    if stack.endswith("-redis"):
        answers["features"] = sorted({*answers["features"], "jwt", "notifications"})
    return answers


@contextmanager
def running(render: Render, scratch: Path) -> Iterator[World]:
    """Run a rendered stack with everything that it needs during the block."""
    database, package = render.answers["database"], render.answers["package_name"]
    others: dict[str, Target] = {}
    inboxes = {}
    prepare(render)
    with ExitStack() as stack:
        targets = {"database": start_target(render.path, "database", _CAREFUL[database], stack)}
        settings = SETTINGS | {"DATABASE_URL": url_behind(targets["database"])}
        if render.answers["cache"] == "redis":
            targets["cache"] = start_target(render.path, ".", [], stack)
            settings["REDIS_URL"] = url_behind(targets["cache"])
            inboxes = {channel: Inbox() for channel in services.CHANNELS}
            others = {
                "mail": start_service(services.Mail(inboxes["email"], stack), stack),
                "webhooks": start_service(services.Web(inboxes, stack), stack),
                "keys": start_service(services.Web({}, stack), stack),
            }
            settings |= {
                "SMTP_URL": f"smtp+insecure://{others['mail'].url}",
                "NOTIFICATIONS_FROM": "Orders <orders@example.com>",
                "DISCORD_WEBHOOK_URL": f"http://{others['webhooks'].url}/discord",
                "SLACK_WEBHOOK_URL": f"http://{others['webhooks'].url}/slack",
                "TWILIO_API_URL": f"http://{others['webhooks'].url}",
                "TWILIO_ACCOUNT_SID": "AC1",
                "TWILIO_AUTH_TOKEN": "chaos",
                "TWILIO_FROM": "+4930654321",
                "JWT_JWKS_URL": f"http://{others['keys'].url}/jwks.json",
            }
            report_notes(render)
        settings |= {"PYTHONPATH": str(render.path / "src"), "SERVICE_VERSION": "0.0.0"}
        live = stack.enter_context(serve(render.path, package, scratch, settings))
        (scratch / "peer").mkdir(exist_ok=True)
        peer = partial(serve, render.path, package, scratch / "peer", settings, migrated=True)
        yield World(database, targets, live, others, inboxes, peer)


def start_target(service: Path, feature: str, options: list[str], stack: ExitStack) -> Target:
    """Start a server and the proxy before it."""
    module = private_servers.server_of(service, feature)
    server, url = module.start(*options)
    stack.callback(server.remove)
    proxy = Proxy(stack.enter_context(private_servers.reserved_port()), server.port)
    stack.callback(proxy.stop)
    return Target(module, server, url, proxy)


def start_service(server: Any, stack: ExitStack) -> Target:
    """Start the proxy before another service. Its URL is the address of the proxy."""
    proxy = Proxy(stack.enter_context(private_servers.reserved_port()), server.port)
    stack.callback(proxy.stop)
    return Target(None, server, f"127.0.0.1:{proxy.port}", proxy)


def url_behind(target: Target) -> str:
    """Return the URL of a server through its proxy."""
    return target.url.replace(f":{target.server.port}/", f":{target.proxy.port}/")


def prepare(render: Render) -> None:
    """Run the service with the libraries of this repository, and add the route that counts its tasks."""
    (render.path / ".venv").symlink_to(ROOT / ".venv")
    if render.answers["handlers"] == "asyncio":
        main = _package(render) / "main.py"
        before, returned, after = main.read_text().rpartition("    return app\n")
        main.write_text(before + _TASKS.lstrip("\n") + returned + after)


def report_notes(render: Render) -> None:
    """Add the domain that sends messages about new notes."""
    reports = _REPORTS + (_ROOMS if "websocket" in render.answers["features"] else "")
    if render.answers["handlers"] == "sync":
        reports = reports.replace("async def", "def").replace("await ", "").replace(".asyncio", ".sync")
    (_package(render) / "reports.py").write_text(reports.lstrip("\n"))
    main = _package(render) / "main.py"
    main.write_text(main.read_text().replace('    "notes",\n', '    "notes",\n    "reports",\n'))


def _package(render: Render) -> Path:
    found: Path = render.path / "src" / render.answers["package_name"]
    return found
