"""A running stack: its servers, the proxies in front of them, and the service."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import private_servers
from live import Live, serve
from questions import ROOT
from rendering import Render
from sqlalchemy import create_engine, make_url, text

from chaos.faults import Target
from chaos.proxy import Proxy

# Shorter than the defaults, so that the faults can be short. They are valid production settings.
SETTINGS = {
    "DATABASE_CONNECT_TIMEOUT_SECONDS": "2",
    "DATABASE_STATEMENT_TIMEOUT_SECONDS": "2",
    "DATABASE_POOL_TIMEOUT_SECONDS": "2",
    "REQUEST_TIMEOUT_SECONDS": "10",
    # The load of the test is far above the default.
    "RATE_LIMIT_DEFAULT": "400/second",
}
# A route that an owner might add to observe the service.
_TASKS = """
    @app.get("/tasks")
    async def tasks() -> int:
        import asyncio

        return len(asyncio.all_tasks())

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


@contextmanager
def running(render: Render, scratch: Path) -> Iterator[World]:
    """Run a rendered stack with everything that it needs during the block."""
    database = render.answers["database"]
    prepare(render)
    with ExitStack() as stack:
        targets = {"database": start_target(render.path, "database", _CAREFUL[database], stack)}
        settings = SETTINGS | {"DATABASE_URL": url_behind(targets["database"])}
        if render.answers["cache"] == "redis":
            targets["cache"] = start_target(render.path, ".", [], stack)
            settings["REDIS_URL"] = url_behind(targets["cache"])
        settings |= {"PYTHONPATH": str(render.path / "src"), "SERVICE_VERSION": "0.0.0"}
        live = stack.enter_context(serve(render.path, render.answers["package_name"], scratch, settings))
        yield World(database, targets, live)


def start_target(service: Path, feature: str, options: list[str], stack: ExitStack) -> Target:
    """Start a server and the proxy before it."""
    module = private_servers.server_of(service, feature)
    server, url = module.start(*options)
    stack.callback(server.remove)
    proxy = Proxy(stack.enter_context(private_servers.reserved_port()), server.port)
    stack.callback(proxy.stop)
    return Target(module, server, url, proxy)


def url_behind(target: Target) -> str:
    """Return the URL of a server through its proxy."""
    return target.url.replace(f":{target.server.port}/", f":{target.proxy.port}/")


def prepare(render: Render) -> None:
    """Run the service with the libraries of this repository, and add the route that counts its tasks."""
    (render.path / ".venv").symlink_to(ROOT / ".venv")
    if render.answers["handlers"] == "asyncio":
        main = render.path / "src" / render.answers["package_name"] / "main.py"
        before, returned, after = main.read_text().rpartition("    return app\n")
        main.write_text(before + _TASKS.lstrip("\n") + returned + after)
