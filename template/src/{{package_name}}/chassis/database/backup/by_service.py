"""Backups of a database that one process at a time may have open: while the service has it, the service makes them.

It is asked by a line on a Unix socket beside the database's file, which only its own user may open, and answers with a
line of JSON: what was made, or why nothing was.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import structlog

from ...service import Service
from .. import file
from ..connection import url_for
from ..dialect import Dialect
from . import BackupError

if TYPE_CHECKING:
    from .dump import Made

_REQUEST = b"backup\n"
_ANSWER_BYTES = 65_536
# How long the path of a socket may be, on any system.
_PATH_BYTES = 103
# How often the service looks whether it is to end, and how long it waits for a client's word and for a backup's end.
_INTERVAL_SECONDS, _PATIENCE_SECONDS = 0.5, 5.0

log = structlog.get_logger(__name__)


class BackupFeature:
    """The feature for `FEATURES`, after the database's: it is asked for backups for as long as the database is open."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect

    def install(self, service: Service) -> None:
        service.lifespans.append(("backup_socket", lambda: _offered(service.settings, self._dialect)))


def ask(settings: Any, driver: str) -> Made | None:
    """Have the running service make a backup. None: there is none that listens.

    Raises:
        BackupError: it made none, or does not answer.
    """
    from .dump import Made

    path = _path(settings, driver)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(settings.backup_timeout_seconds)
        try:
            if path is None or _is_too_long(path):
                return None
            connection.connect(str(path))
            connection.sendall(_REQUEST)
            line = connection.makefile("rb").readline(_ANSWER_BYTES)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except TimeoutError:
            raise BackupError(f"the service gave no answer for {settings.backup_timeout_seconds:g} s") from None
    if not line:
        raise BackupError("the service ended before the backup was made")
    answer = orjson.loads(line)
    if "error" in answer:
        raise BackupError(answer["error"])
    return Made(**answer | {"path": Path(answer["path"])})


def _path(settings: Any, driver: str) -> Path | None:
    """Return where the socket is: by the way that is shorter, since there is not much room in an address."""
    database = file.path_of(url_for(settings, driver))
    if database is None:
        return None
    path = Path(f"{database}.backup-socket").absolute()
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _is_too_long(path: Path) -> bool:
    return len(bytes(path)) > _PATH_BYTES


@contextmanager
def _offered(settings: Any, dialect: Dialect) -> Iterator[None]:
    """Listen in a thread. Without a socket the service serves all the same, and says that it makes no backups."""
    path, is_ending = _path(settings, dialect.SYNC_DRIVER), threading.Event()
    with socket.socket(socket.AF_UNIX) as listener:
        if path is None or not _bound(listener, path):
            yield
            return
        thread = threading.Thread(
            target=_listen, args=(listener, settings, dialect, is_ending), name="backup", daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            is_ending.set()
            with suppress(OSError), socket.socket(socket.AF_UNIX) as visitor:
                visitor.connect(str(path))  # for whom the thread wakes at once
            path.unlink(missing_ok=True)
            thread.join(_PATIENCE_SECONDS)


def _bound(listener: socket.socket, path: Path) -> bool:
    if _is_too_long(path):
        reason = f"{path} is too long for a socket: have the database where its path is shorter"
        log.warning("backups_not_offered", reason=reason)
        return False
    try:
        # Whoever left one behind is gone: this process has the database.
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen()
    except OSError as error:
        log.warning("backups_not_offered", reason=str(error))
        return False
    listener.settimeout(_INTERVAL_SECONDS)
    return True


def _listen(listener: socket.socket, settings: Any, dialect: Dialect, is_ending: threading.Event) -> None:
    """Make one backup after the other, as they are asked for."""
    while not is_ending.is_set():
        try:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(_PATIENCE_SECONDS)
                if connection.recv(len(_REQUEST), socket.MSG_WAITALL) == _REQUEST:
                    connection.sendall(orjson.dumps(_made(settings, dialect, is_ending)) + b"\n")
        except OSError:  # nobody came, or whoever came has gone
            continue


def _made(settings: Any, dialect: Dialect, is_ending: threading.Event) -> dict[str, Any]:
    """Return what the answer says, and have it in the log too."""
    from . import dump  # with the library of ciphers, which is needed for this alone

    try:
        made = dump.make(settings, dialect, is_ending.is_set)
    except Exception as error:
        reason = str(getattr(error, "orig", error)).partition("\n")[0]
        log.error("backup_failed", error=reason)
        return {"error": reason}
    said = asdict(made) | {"path": str(made.path.absolute())}
    log.info("backup_made", **said)
    return said
