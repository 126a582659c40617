"""Backups of MariaDB and MySQL by `mariadb-dump`, restored by `mariadb`.

Neither server can roll back a change of the schema. So a restore dumps the database first, and loads that dump again if
the backup does not load. A restore that is killed half-way leaves a partial database: restore it once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from secrets import token_hex
from tempfile import NamedTemporaryFile
from typing import IO

from sqlalchemy import Connection, text

from ..database import mysql
from . import BackupError, DatabaseBackup, tools

_PACKAGE = "mariadb-client"
_DUMP, _CLIENT = ("mariadb-dump", "mysqldump"), ("mariadb", "mysql")
_SNAPSHOT = ("--single-transaction", "--routines", "--events", "--triggers", "--hex-blob", "--no-tablespaces")
# Keeps MySQL from restoring ids of transactions that its server already has. MariaDB's tools do not know it.
_NO_GTIDS = "--loose-set-gtid-purged=OFF"
# The version of a tool or server, in the form that its product uses.
_MARIADB_VERSION = r"(\d+)\.(\d+)\.\d+-MariaDB"
_MYSQL_VERSION = r"(?:^|Ver )(\d+)\.(\d+)\.\d+(?!.*MariaDB)"
# Everything in the database, by kind and name.
_OBJECTS = """
SELECT CASE table_type WHEN 'VIEW' THEN 'VIEW' WHEN 'SEQUENCE' THEN 'SEQUENCE' ELSE 'TABLE' END, table_name
  FROM information_schema.tables WHERE table_schema = DATABASE()
UNION ALL SELECT routine_type, routine_name FROM information_schema.routines WHERE routine_schema = DATABASE()
UNION ALL SELECT 'EVENT', event_name FROM information_schema.events WHERE event_schema = DATABASE()
"""


class Backup(DatabaseBackup):
    """Backs up the database as SQL, with views, triggers, routines and events but without users and privileges."""

    backend = mysql
    dump_name = "database.sql"

    def tool_version(self) -> str:
        return tools.version_of(tools.find(_PACKAGE, *_DUMP))

    def server_version(self, connection: Connection) -> str:
        return str(connection.scalar(text("SELECT VERSION()")))

    def dump(self, connection: Connection, target: Path, timeout_seconds: float) -> None:
        self._run(connection, timeout_seconds, _DUMP, *_SNAPSHOT, _NO_GTIDS, f"--result-file={target}")

    def restore(self, connection: Connection, source: Path, timeout_seconds: float) -> None:
        before = source.with_name("before.sql")
        self.dump(connection, before, timeout_seconds)
        try:
            self._load(connection, source, timeout_seconds)
        except BaseException as error:
            try:
                self._load(connection, before, timeout_seconds)
            except BackupError as second:
                kept = before.rename(source.parents[1] / f"before-restore-{token_hex(4)}.sql")
                raise BackupError(f"{error}; the database is damaged ({second}), its content is in {kept}") from error
            raise

    def _clear(self, connection: Connection) -> None:
        quoted = connection.dialect.identifier_preparer.quote_identifier
        connection.execute(text("SET SESSION foreign_key_checks = 0"))
        for kind, name in connection.execute(text(_OBJECTS)).all():
            connection.exec_driver_sql(f"DROP {kind} IF EXISTS {quoted(name)}")
        connection.execute(text("SET SESSION foreign_key_checks = 1"))
        connection.commit()

    def _load(self, connection: Connection, source: Path, timeout_seconds: float) -> None:
        self._clear(connection)
        with source.open("rb") as stdin:
            # --binary-mode: the client obeys no command in the file but DELIMITER.
            self._run(connection, timeout_seconds, _CLIENT, "--binary-mode", stdin=stdin)

    def _run(
        self,
        connection: Connection,
        timeout_seconds: float,
        programs: Sequence[str],
        *options: str,
        stdin: IO[bytes] | None = None,
    ) -> None:
        """Run a tool on the database of a connection. The password is in a file that only this user can read."""
        path = tools.find(_PACKAGE, *programs)
        server = self.server_version(connection)
        form = _MARIADB_VERSION if "MariaDB" in server else _MYSQL_VERSION
        tools.require_not_older(tools.version_of(path), server, _PACKAGE, form)
        connection.rollback()
        url = connection.engine.url
        with NamedTemporaryFile("w", encoding="utf-8", suffix=".cnf") as file:
            file.write(_option_file(connection))
            file.flush()
            command = [path, f"--defaults-file={file.name}", "--default-character-set=utf8mb4", *options]
            tools.run([*command, str(url.database)], timeout_seconds, secret=url.password or "", stdin=stdin)


def _option_file(connection: Connection) -> str:
    """Write how the service connects as an option file: https://mariadb.com/kb/en/configuring-mariadb-with-option-files/."""
    parameters = connection.engine.dialect.create_connect_args(connection.engine.url)[1]
    tls = parameters.get("ssl") or {}
    options = {
        "host": parameters.get("host"),
        "port": parameters.get("port"),
        "socket": parameters.get("unix_socket"),
        "user": parameters.get("user"),
        "password": parameters.get("password"),
        **{f"ssl-{name}": tls.get(name) for name in ("ca", "capath", "cert", "cipher", "key")},
        # As in the driver, no certificate is verified unless a CA is named. MySQL's tools do not know these options.
        "loose-ssl": 1 if tls else None,
        "loose-ssl-verify-server-cert": int(bool({"ca", "capath"} & tls.keys()) and tls.get("check_hostname", True)),
        "loose-max-allowed-packet": "1G",
    }
    lines = [f"{name}={_quoted(str(value))}" for name, value in options.items() if value is not None]
    return "\n".join(["[client]", *lines, ""])


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
