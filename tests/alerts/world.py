"""A rendered service under load, with its database, its cache, and routes that fail on request."""

import http.client
import os
import resource
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import private_servers
from chaos.faults import Target
from chaos.proxy import Proxy
from chaos.world import start_target, url_behind
from live import environment, run
from questions import ROOT
from rendering import Render

from alerts.monitor import Monitor
from alerts.monitor import running as monitored

# Short timeouts allow short faults, and a few clients reach the low limits.
SETTINGS = {
    "CIRCUIT_RECOVERY_SECONDS": "2",
    "DATABASE_CONNECT_TIMEOUT_SECONDS": "2",
    "DATABASE_STATEMENT_TIMEOUT_SECONDS": "2",
    "DATABASE_POOL_TIMEOUT_SECONDS": "2",
    "DATABASE_POOL_SIZE": "5",
    "DATABASE_POOL_MAX_OVERFLOW": "0",
    "HEALTH_CHECK_TIMEOUT_SECONDS": "1",
    "MAX_CONNECTIONS": "200",
    "REDIS_TIMEOUT_SECONDS": "0.5",
    "RATE_LIMIT_DEFAULT": "1000/second",
    "REQUEST_TIMEOUT_SECONDS": "10",
    "RETRY_DEADLINE_SECONDS": "3",
    "SHUTDOWN_DRAIN_SECONDS": "0",
    "SERVICE_VERSION": "0.0.0",
}
# Routes that use the features of a service, and routes with typical mistakes of owners.
_PLANTED = """
    import asyncio
    import os
    import time

    from .chassis.app import chassis_of
    from .chassis.cache.asyncio import Cache
    from .chassis.http_client.asyncio import add_http_client, http_client

    chassis = chassis_of(app)
    add_http_client(chassis, "other", f"http://127.0.0.1:{os.environ['OTHER_SERVICE']}")

    @app.get("/planted/work")
    async def work() -> None:
        async def compute() -> int:
            return 1

        await chassis.get(Cache).get_or_compute("work", compute, 1.0)
        await http_client(chassis, "other").get("/health/live")

    @app.get("/planted/error")
    async def error() -> None:
        raise RuntimeError("planted")

    @app.get("/planted/slow")
    async def slow() -> None:
        await asyncio.sleep(1.5)

    @app.get("/planted/block")
    async def block() -> None:
        time.sleep(0.35)

    @app.get("/planted/thread")
    def thread() -> None:
        time.sleep(2)

"""
_START_SECONDS = 120


@dataclass
class World:
    """The service and the servers that it uses."""

    render: Render
    settings: dict[str, str]
    targets: dict[str, Target]  # empty if the database is a file
    disk: Path
    tls_port: int
    other: Proxy  # the other service is this one, behind a proxy
    monitor: Monitor
    scratch: Path
    held: ExitStack = field(default_factory=ExitStack)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings['PORT']}"

    def command(self, *arguments: str) -> list[str]:
        return [str(ROOT / ".venv/bin/python"), "-m", self.render.answers["package_name"], *arguments]

    def start(self) -> None:
        """Start the service and wait until it is ready."""
        variables = environment(**self.settings)
        with (self.scratch / "service.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command("serve"), cwd=self.render.path, env=variables, stdout=log, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if httpx.get(f"{self.url}/health/ready", trust_env=False).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"not ready:\n{(self.scratch / 'service.log').read_text()}")

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait(30)

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            finally:
                self.kill()

    @property
    def backups(self) -> Path:
        return self.scratch / "backups"

    def back_up(self, age: timedelta = timedelta()) -> None:
        """Replace the backups with a file that is named like a backup of this age."""
        shutil.rmtree(self.backups, ignore_errors=True)
        self.backups.mkdir()
        moment = (datetime.now(UTC) - age).strftime("%Y%m%dT%H%M%S.000Z")
        (self.backups / f"{self.render.answers['service_name']}-{moment}.tar.gz").touch()

    def limit_files(self, limit: int) -> int:
        """Set how many files the service may open. Return the previous limit."""
        assert self.process
        soft, hard = resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE, (limit, hard))
        return soft

    def files(self) -> int:
        assert self.process
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))  # noqa: PTH208

    @contextmanager
    def calling(self, path: str, clients: int = 4, pause_seconds: float = 0.1) -> Iterator[None]:
        """Have further clients call a path during the block."""
        stop = threading.Event()

        def call() -> None:
            while not stop.wait(pause_seconds):
                connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=20)
                try:
                    connection.request("GET", path)
                    connection.getresponse().read()
                except (OSError, http.client.HTTPException):
                    pass
                finally:
                    connection.close()

        threads = [threading.Thread(target=call, daemon=True) for _ in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join(30)


@contextmanager
def running(render: Render, scratch: Path) -> Iterator[World]:
    """Run a rendered service, the servers that it uses, and its monitoring."""
    main = render.path / "src" / render.answers["package_name"] / "main.py"
    before, returned, after = main.read_text().rpartition("    return app\n")
    main.write_text(before + _PLANTED.lstrip("\n") + returned + after)
    (render.path / ".venv").symlink_to(ROOT / ".venv")
    with ExitStack() as stack:
        port, metrics, other, tls = (stack.enter_context(private_servers.reserved_port()) for _ in range(4))
        proxy = Proxy(other, port)
        stack.callback(proxy.stop)
        settings = SETTINGS | {
            "METRICS_PORT": str(metrics),
            "OTHER_SERVICE": str(other),
            "PORT": str(port),
            "PYTHONPATH": str(render.path / "src"),
        }
        disk = scratch / "disk"
        targets = {}
        if render.answers["database"] == "sqlite":
            disk.mkdir()
            stack.enter_context(private_servers.small_disk(disk, 16))
            settings["DATABASE_URL"] = f"sqlite:///{disk}/data.db"
        else:
            targets["database"] = start_target(render.path, "database", ["--max_connections=25"], stack)
            targets["cache"] = start_target(render.path, ".", [], stack)
            settings |= {"DATABASE_URL": url_behind(targets["database"]), "REDIS_URL": url_behind(targets["cache"])}
        monitor = stack.enter_context(monitored(render.path / "monitoring", scratch / "monitor"))
        world = World(render, settings, targets, disk, tls, proxy, monitor, scratch)
        settings["BACKUP_DIRECTORY"] = str(world.backups)
        world.back_up()
        stack.callback(world.stop)
        run(*world.command("migrate"), cwd=render.path, **settings)
        world.start()
        monitor.scrape(f"127.0.0.1:{metrics}")
        yield world
