"""Backups of PostgreSQL by `pg_dump`, restored by `pg_restore` and `psql` in one transaction."""

from __future__ import annotations

import re
from pathlib import Path

from psycopg.conninfo import make_conninfo
from sqlalchemy import Connection, text

from ..database import postgresql
from . import BackupError, DatabaseBackup, tools

_PACKAGE = "postgresql-client"
# Drops large objects, and everything in the schema `public` that does not belong to an extension. All statements are
# written before the first is executed, because an object that was dropped with another one has no name any more.
_CLEAR = """
DO $$
DECLARE statement text; statements text[];
BEGIN
  PERFORM lo_unlink(oid) FROM pg_largeobject_metadata;
  statements := ARRAY(
    WITH dependent AS (SELECT classid, objid FROM pg_depend WHERE deptype IN ('e', 'i') AND refobjid <> objid)
    SELECT format('DROP %s IF EXISTS %s CASCADE', CASE relkind WHEN 'v' THEN 'VIEW'
        WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE' WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END,
        oid::regclass) FROM pg_class
      WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND relnamespace = to_regnamespace('public')
        AND (tableoid, oid) NOT IN (SELECT classid, objid FROM dependent)
    UNION ALL SELECT format('DROP ROUTINE IF EXISTS %s CASCADE', oid::regprocedure) FROM pg_proc
      WHERE pronamespace = to_regnamespace('public') AND (tableoid, oid) NOT IN (SELECT classid, objid FROM dependent)
    UNION ALL SELECT format('DROP TYPE IF EXISTS %s CASCADE', oid::regtype) FROM pg_type
      WHERE typnamespace = to_regnamespace('public') AND (typtype IN ('d', 'e', 'r') OR typtype = 'c' AND
        EXISTS (SELECT FROM pg_class WHERE pg_class.oid = typrelid AND relkind = 'c'))
        AND (tableoid, oid) NOT IN (SELECT classid, objid FROM dependent)
  );
  FOREACH statement IN ARRAY statements LOOP
    EXECUTE statement;
  END LOOP;
END $$;
"""

_TABLES_OF_EXTENSIONS = """
SELECT relname FROM pg_class JOIN pg_depend ON (classid, objid, deptype) = (pg_class.tableoid, pg_class.oid, 'e')
  WHERE pg_table_is_visible(pg_class.oid)
"""


class Backup(DatabaseBackup):
    """Backs up the database in the custom format of `pg_dump`, without owners and privileges."""

    backend = postgresql
    dump_name = "database.dump"

    def tool_version(self) -> str:
        return tools.version_of(tools.find(_PACKAGE, "pg_dump"))

    def server_version(self, connection: Connection) -> str:
        return f"PostgreSQL {connection.scalar(text('SHOW server_version'))}"

    def table_names(self, connection: Connection) -> set[str]:
        return super().table_names(connection) - set(connection.scalars(text(_TABLES_OF_EXTENSIONS)))

    def dump(self, connection: Connection, target: Path, timeout_seconds: float) -> None:
        # The archive compresses the dump.
        options = ("--format=custom", "--compress=0", "--no-owner", "--no-privileges", f"--file={target}")
        self._run(connection, timeout_seconds, "pg_dump", *options)

    def restore(self, connection: Connection, source: Path, timeout_seconds: float) -> None:
        """Let `psql` clear the database and run the SQL of the dump in one transaction.

        If anything fails, the server rolls everything back.
        """
        clear, sql = source.with_name("clear.sql"), source.with_name("restore.sql")
        options = ("--single-transaction", "--no-owner", "--no-privileges", f"--file={sql}", str(source))
        tools.run([self._tool(connection, "pg_restore"), *options], timeout_seconds)
        source.unlink()
        _adapt_to_older_server(sql, self.server_version(connection))
        clear.write_text(f"BEGIN;{_CLEAR}", encoding="utf-8")
        options = ("--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", f"--file={clear}", f"--file={sql}")
        self._run(connection, timeout_seconds, "psql", *options)

    def _run(self, connection: Connection, timeout_seconds: float, program: str, *options: str) -> None:
        """Run a tool on the database of a connection. The password goes into the environment of the tool."""
        path = self._tool(connection, program)
        if postgresql.is_pooled(connection.engine.url):
            raise BackupError("PgBouncer does not support backups; use a DATABASE_URL that points to the server itself")
        parameters = dict(connection.engine.dialect.create_connect_args(connection.engine.url)[1])
        password = parameters.pop("password", "")
        for name in ("context", "pgbouncer"):  # set by SQLAlchemy and the service, unknown to libpq
            parameters.pop(name, None)
        command = [path, "--no-password", *options, f"--dbname={make_conninfo(**parameters)}"]
        tools.run(command, timeout_seconds, secret=password, variables={"PGPASSWORD": password})

    def _tool(self, connection: Connection, program: str) -> str:
        """Return the path of a tool that is not older than the server."""
        path = tools.find(_PACKAGE, program)
        tools.require_not_older(tools.version_of(path), self.server_version(connection), _PACKAGE, r"(\d+)")
        connection.rollback()
        return path


def _adapt_to_older_server(sql: Path, server: str) -> None:
    """Comment out, in place, the statement that `pg_restore` writes since version 17 and that older servers reject."""
    number = re.search(r"\d+", server)
    if number is None or int(number[0]) >= 17:
        return
    with sql.open("r+b") as file:
        start = file.read(65_536).find(b"SET transaction_timeout")
        if start >= 0:
            file.seek(start)
            file.write(b"-- ")
