"""Lets the `backup` command ask the running service for a backup, where only one process may open the database.

The command writes a line to a Unix socket beside the database's file, which only the service's own user may open. The
service answers with a line of JSON: the backup that was made, or why none was.
"""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

import orjson
import structlog

from ..database import duckdb, file
from ..database.connection import url_for
from . import BackupError, Settings
from .make import BackupResult

_REQUEST = b"backup\n"
_LARGEST_RESPONSE_BYTES = 65_536
# The longest path of a socket that every system accepts.
_LARGEST_PATH_BYTES = 103
# How long the service waits for a client that sends nothing, and for a running backup when it stops.
_TIMEOUT_SECONDS = 5.0

log = structlog.get_logger(__name__)

Make = Callable[[Settings], BackupResult]


def request_backup(settings: Settings) -> BackupResult | None:
    """Ask the running service for a backup. Returns None if no service listens.

    Raises:
        BackupError: The service could not make one, stopped, or did not respond in time, or too many others wait.
    """
    path, timeout_seconds = _path(settings), settings.backup_timeout_seconds
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout_seconds)
        try:
            if path is None or _is_too_long(path):
                return None
            connection.connect(str(path))
            connection.sendall(_REQUEST)
            line = connection.makefile("rb").readline(_LARGEST_RESPONSE_BYTES)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except (ConnectionResetError, BrokenPipeError):
            line = b""  # the service closed its socket while this connection waited there
        except BlockingIOError:
            raise BackupError("too many backup commands wait for the service; try again later") from None
        except TimeoutError:
            raise BackupError(f"the service did not respond within {timeout_seconds:g} s; look at its log") from None
    if not line:
        raise BackupError("the service stopped before the backup was made; try again")
    response = orjson.loads(line)
    if "error" in response:
        raise BackupError(response["error"])
    return BackupResult(**response | {"path": Path(response["path"])})


@contextmanager
def listening(settings: Settings, make: Make) -> Iterator[None]:
    """Serve requests for backups in a thread. If the socket cannot be opened, log a warning and serve nothing."""
    path = _path(settings)
    server = _bound(path, settings, make) if path else None
    if server is None or path is None:
        yield
        return
    stopping = threading.Event()
    thread = threading.Thread(target=_serve, args=[server, stopping], name="backup", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        _wake(path)
        path.unlink(missing_ok=True)
        # The running backup may take longer than the shutdown may.
        thread.join(_TIMEOUT_SECONDS)
        server.server_close()


def _serve(server: socketserver.UnixStreamServer, stopping: threading.Event) -> None:
    while not stopping.is_set():
        server.handle_request()


def _wake(path: Path) -> None:
    """Connect once, so that the thread, which waits for a connection, ends. If too many wait, it need not be woken."""
    with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1)
        connection.connect(str(path))


def _path(settings: Settings) -> Path | None:
    """Return the path of the socket, relative if that is shorter, because an address has room for few bytes."""
    database = file.path_of(url_for(settings, duckdb.SYNC_DRIVER))
    if database is None:
        return None
    path = Path(f"{database}.backup-socket").absolute()
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _is_too_long(path: Path) -> bool:
    return len(bytes(path)) > _LARGEST_PATH_BYTES


def _bound(path: Path, settings: Settings, make: Make) -> socketserver.UnixStreamServer | None:
    class Handler(socketserver.StreamRequestHandler):
        timeout = _TIMEOUT_SECONDS

        def handle(self) -> None:
            if self.rfile.readline(len(_REQUEST)) == _REQUEST:
                self.wfile.write(orjson.dumps(_response(settings, make)) + b"\n")

    class Server(socketserver.UnixStreamServer):
        def handle_error(self, *_: object) -> None:
            """Ignore a client that disconnected or sent nothing."""

    try:
        if _is_too_long(path):
            raise OSError(f"{path} is too long for a socket; move the database to a shorter path")
        path.unlink(missing_ok=True)  # left by a service that was killed; this one has the database now
        server = Server(str(path), Handler)
        path.chmod(0o600)
    except OSError as error:
        log.warning("backup_socket_failed", reason=str(error))
        return None
    return server


def _response(settings: Settings, make: Make) -> dict[str, object]:
    try:
        result = make(settings)
    except Exception as error:
        reason = str(getattr(error, "orig", error)).partition("\n")[0]
        log.error("backup_failed", error=reason)
        return {"error": reason}
    response = asdict(result) | {"path": str(result.path.absolute())}
    log.info("backup_made", **response)
    return response
