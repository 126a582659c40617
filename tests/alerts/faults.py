"""The faults, and the alerts that each must cause."""

import http.client
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit

from sqlalchemy import create_engine, make_url, text

from alerts import monitor
from alerts.world import World

Deed = Callable[[World], None]
# Alerts about the effects on clients, whatever the cause.
_ERRORS = frozenset({"AvailabilityBudgetBurn", "RouteErrors"})
_SLOW = frozenset({"LatencyBudgetBurn", "RouteSlow"})
_DATABASE = _ERRORS | _SLOW | {"CircuitOpen", "DependencyDown", "DependencyFlapping", "PoolExhausted"}


@dataclass(frozen=True)
class Fault:
    """A fault, the alerts that must fire, and those that may fire as its consequences."""

    name: str
    begin: Deed
    end: Deed
    alerts: frozenset[str]
    also: frozenset[str] = frozenset()


def _nothing(_world: World) -> None:
    """Do nothing."""


def _release(world: World) -> None:
    """Close the connections and locks in `world.held`."""
    world.held.close()
    world.held = ExitStack()


def _call(path: str, clients: int = 4, pause_seconds: float = 0.3) -> Deed:
    return lambda world: world.held.enter_context(world.calling(path, clients, pause_seconds))


def _say(name: str, words: str) -> Deed:
    return lambda world: world.targets[name].proxy.say(words)


def _execute(world: World, *statements: str) -> None:
    """Run statements in the database directly, not through the proxy."""
    url = make_url(world.targets["database"].url).set(drivername="postgresql+psycopg")
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def _lock(world: World) -> None:
    """Lock the table, as a migration in another session does."""
    url = make_url(world.targets["database"].url).set(drivername="postgresql+psycopg")
    engine = create_engine(url)
    world.held.callback(engine.dispose)
    connection = world.held.enter_context(engine.connect())
    connection.execute(text("LOCK TABLE notes IN ACCESS EXCLUSIVE MODE"))


def _read_only(value: str) -> Deed:
    """Make the server read-only, as a full disk or a failover does."""
    return lambda world: _execute(
        world, f"ALTER SYSTEM SET default_transaction_read_only = {value}", "SELECT pg_reload_conf()"
    )


def _writable(world: World) -> None:
    url = make_url(world.targets["database"].url).set(drivername="postgresql+psycopg")
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("SET default_transaction_read_only = off"))
        connection.execute(text("ALTER SYSTEM RESET default_transaction_read_only"))
        connection.execute(text("SELECT pg_reload_conf()"))
    engine.dispose()


def _flap(world: World) -> None:
    """Interrupt the network to Redis several times."""
    for _ in range(4):
        world.targets["cache"].proxy.say("refuse")
        time.sleep(2.5)
        world.targets["cache"].proxy.say("pass")
        time.sleep(2.5)


def _connect(world: World) -> None:
    """Open connections and leave them idle after one request."""
    for _ in range(165):
        connection = http.client.HTTPConnection(urlsplit(world.url).netloc, timeout=20)
        world.held.callback(connection.close)
        connection.request("GET", "/health/live")
        connection.getresponse().read()


def _fill_disk(world: World) -> None:
    """Leave 5 % of the disk of the database."""
    file = world.disk / "filler"
    world.held.callback(file.unlink)
    file.write_bytes(bytes(shutil.disk_usage(world.disk).free - shutil.disk_usage(world.disk).total // 20))


def _limit_files(world: World) -> None:
    previous = world.limit_files(int(world.files() / 0.9))
    world.held.callback(lambda: world.limit_files(previous))


def _restart(world: World) -> None:
    for _ in range(4):
        world.kill()
        world.start()
        time.sleep(1.5)


def _no_backup(world: World) -> None:
    shutil.rmtree(world.backups)


def _serve_certificate(world: World, days: int) -> None:
    """Serve TLS with a certificate that expires in that many days."""
    files = ("-keyout", "key.pem", "-out", "certificate.pem")
    options = ("-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", str(days))
    subprocess.run(
        ["openssl", "req", "-x509", *options, *files],
        cwd=world.monitor.folder,
        check=True,
        timeout=60,
        capture_output=True,
    )
    address = f"127.0.0.1:{world.tls_port}"
    files = ("-key", "key.pem", "-cert", "certificate.pem")
    world.monitor.start("openssl", "s_server", "-accept", address, *files, "-www")
    world.monitor.scrape(address, file="certificates.json")


def _certificate_expires(world: World) -> None:
    exporter = "prometheus-blackbox-exporter"
    world.monitor.start(exporter, "--config.file=blackbox.yml", f"--web.listen-address={world.monitor.blackbox}")
    _serve_certificate(world, 3)


def _renew_certificate(world: World) -> None:
    world.monitor.kill("openssl")
    _serve_certificate(world, 90)


def _scrape_nothing(world: World) -> None:
    world.monitor.scrape()


def _scrape(world: World) -> None:
    world.monitor.scrape(f"127.0.0.1:{world.settings['METRICS_PORT']}")


def _stop_alertmanager(world: World) -> None:
    world.monitor.kill("prometheus-alertmanager")


def _reject_notifications(world: World) -> None:
    """Have the receiver reject notifications while there is an alert to send."""
    world.monitor.receiver.is_broken = True
    world.held.enter_context(world.calling("/planted/error"))


def _accept_notifications(world: World) -> None:
    _release(world)
    world.monitor.receiver.is_broken = False


FAULTS = [
    Fault("no fault", lambda _: time.sleep(5), _nothing, frozenset()),
    Fault("a handler raises an exception", _call("/planted/error"), _release, _ERRORS),
    Fault("a handler takes 1.5 s", _call("/planted/slow", 12, 0.01), _release, _SLOW),
    Fault(
        "a handler blocks the event loop for 0.35 s",
        _call("/planted/block", 1, 1.0),
        _release,
        frozenset({"EventLoopBlocked"}),
        _SLOW,
    ),
    Fault("all threads are busy", _call("/planted/thread", 40, 0.01), _release, frozenset({"ThreadsBusy"}), _SLOW),
    Fault("another service refuses connections", lambda world: world.other.say("refuse"),
          lambda world: world.other.say("pass"), frozenset({"CircuitOpen"}) | _ERRORS, _SLOW | {"DependencyDown"}),
    Fault("database slow (0.4 s per round trip)", _say("database", "delay 0.2"), _say("database", "delay 0"),
          frozenset({"LatencyBudgetBurn"}), _DATABASE | {"NotReady"}),
    Fault("a table is locked", _lock, _release, frozenset({"PoolExhausted"}), _DATABASE | {"NotReady"}),
    Fault("database stopped", lambda world: world.targets["database"].server.stop(),
          lambda world: world.targets["database"].server.bring_back(),
          frozenset({"NotReady", "DependencyDown"}) | _ERRORS, _DATABASE),
    Fault("database frozen (SIGSTOP)", lambda world: world.targets["database"].server.freeze(),
          lambda world: world.targets["database"].server.thaw(),
          frozenset({"NotReady", "AvailabilityBudgetBurn"}), _DATABASE),
    Fault("database read-only", _read_only("on"), _writable, frozenset({"NotReady"}), _DATABASE),
    Fault("Redis stopped", lambda world: world.targets["cache"].server.stop(),
          lambda world: world.targets["cache"].server.bring_back(),
          frozenset({"CircuitOpen", "DependencyDown", "RateLimitNotEnforced"})),
    Fault("Redis unreachable for 2.5 s, four times", _flap, _nothing, frozenset({"DependencyFlapping"}),
          frozenset({"CircuitOpen", "DependencyDown", "RateLimitNotEnforced"})),
    Fault("165 idle connections", _connect, _release, frozenset({"ConnectionsNearLimit"})),
    Fault("90 % of the file descriptors open", _limit_files, _release, frozenset({"FileDescriptorsNearLimit"})),
    Fault("the newest backup is two days old", lambda world: world.back_up(timedelta(days=2)), World.back_up,
          frozenset({"BackupTooOld"})),
    Fault("all backups are deleted", _no_backup, World.back_up, frozenset({"BackupMissing"})),
    Fault("the certificate expires in three days", _certificate_expires, _renew_certificate,
          frozenset({"CertificateExpires"})),
    Fault("service killed (kill -9)", World.kill, World.start, frozenset({"ServiceDown"}), _ERRORS),
    Fault("service killed four times", _restart, _nothing, frozenset({"RestartLoop"}),
          _ERRORS | {"ServiceDown"}),
    Fault("Prometheus finds no replica", _scrape_nothing, _scrape, frozenset({"ServiceMissing"})),
    Fault("the receiver rejects notifications", _reject_notifications, _accept_notifications,
          frozenset({"NotificationsFail"}), _ERRORS),
    Fault("Alertmanager killed", _stop_alertmanager, lambda world: monitor.start_alertmanager(world.monitor),
          frozenset({"MonitoringDown"})),
]  # fmt: skip
OF_SQLITE = [
    Fault("5 % of the disk of a SQLite database free", _fill_disk, _release, frozenset({"DiskAlmostFull"})),
]
# The faults of every run of the suite. The first one also causes the alerts of a handler that raises an exception.
ESSENTIAL = ["database stopped", "service killed (kill -9)", "Prometheus finds no replica"]
