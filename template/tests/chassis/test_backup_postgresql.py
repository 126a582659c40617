"""Backups of PostgreSQL: a restore is one transaction, and replaces what only PostgreSQL has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ..package import module
from .sql import rows, run, tables
from .test_backup import backup, content, crew, database, rejection, repack, restore

__all__ = ["crew", "database", "rejection"]  # fixtures


def test_restore_of_a_dump_that_ends_in_its_rows_changes_nothing(rejection: Callable[..., str]) -> None:
    """`pg_restore` must have written all of its SQL before the server runs any."""
    error = rejection(repack(backup(), dump=lambda whole: whole[:-60]))
    assert "pg_restore failed: pg_restore: error: could not read from input file: end of file" in error


def test_restore_under_a_view_and_a_type_of_a_newer_release_replaces_them(crew: Path) -> None:
    """They depend on the tables, or would block the migration that creates them."""
    run("CREATE TYPE color AS ENUM ('red')", "CREATE TABLE sails (color color DEFAULT 'red')")()
    run(
        "CREATE FUNCTION one() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "CREATE VIEW names AS SELECT name FROM captains",
    )()
    before, file = content(), backup()
    run(
        "CREATE VIEW sailors AS SELECT * FROM captains",
        "CREATE TYPE shape AS ENUM ('round')",
        "CREATE DOMAIN d AS integer",
    )()
    run(
        "CREATE MATERIALIZED VIEW m AS SELECT 1",
        "CREATE SEQUENCE s",
        "CREATE FUNCTION two() RETURNS d LANGUAGE sql AS 'SELECT 2'",
    )()
    run("CREATE TABLE parts (id integer) PARTITION BY RANGE (id)", "CREATE TABLE part PARTITION OF parts DEFAULT")()
    # More views than the server reads at once in a loop. Each view is dropped together with its table.
    run(*(f"CREATE VIEW sailors_{number} AS SELECT * FROM captains" for number in range(30)))()
    assert restore(file, "--replace") == 0
    assert content() == before
    assert rows("SELECT one() FROM names") == [1, 1, 1]
    run(
        "CREATE TYPE shape AS ENUM ('round')",
        "CREATE DOMAIN d AS integer",
        "CREATE VIEW m AS SELECT 1",
        "CREATE SEQUENCE s",
    )()
    run("CREATE FUNCTION two() RETURNS d LANGUAGE sql AS 'SELECT 2'", "CREATE TABLE part (id integer)")()


def test_restore_leaves_extensions_and_other_schemas_alone(crew: Path) -> None:
    """A schema beside `public` may belong to another application. If the backup has it as well, the restore fails.

    It fails after the tables were dropped, so the server must roll back.
    """
    run("CREATE EXTENSION citext")()
    file = backup()
    run("CREATE SCHEMA theirs", "CREATE TABLE theirs.rows (id integer)", "INSERT INTO theirs.rows VALUES (1)")()
    assert restore(file, "--replace") == 0
    assert rows("SELECT id FROM theirs.rows") == [1]
    file, before = backup(), content()
    assert restore(file, "--replace") == 1
    assert content() == before
    assert rows("SELECT id FROM theirs.rows") == [1]


def test_table_of_an_extension_is_not_content_of_the_service(crew: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """PostGIS creates `spatial_ref_sys` with thousands of rows, in a new database as well."""
    run(
        "CREATE EXTENSION citext",
        "CREATE TABLE spatial_ref_sys (srid integer)",
        "INSERT INTO spatial_ref_sys VALUES (4326)",
        "ALTER EXTENSION citext ADD TABLE spatial_ref_sys",
    )()
    before, file = content(), backup("--verify")
    run(f"DROP TABLE {', '.join(tables() - {'spatial_ref_sys'})} CASCADE")()
    assert restore(file) == 0, capsys.readouterr().err
    assert content() == before


def test_large_objects_are_restored(crew: Path) -> None:
    """`pg_restore` must not commit for large objects in between."""
    run("SELECT lo_from_bytea(77, 'deadbeef')")()
    file = backup()
    run("SELECT lo_put(77, 0, 'feed')", "SELECT lo_from_bytea(78, 'later')")()
    assert restore(file, "--replace") == 0
    assert bytes(rows("SELECT lo_get(77)")[0]) == b"deadbeef"
    assert rows("SELECT count(*) FROM pg_largeobject_metadata") == [1]


def test_sql_for_an_older_server_lacks_the_setting_that_it_rejects(folder: Path) -> None:
    """`pg_restore` 17 sets `transaction_timeout`, which older servers do not support."""
    sql = folder / "restore.sql"
    for server, expected in (("PostgreSQL 16.4 (Debian)", "-- "), ("PostgreSQL 17.2", "SET")):
        sql.write_text("SET lock_timeout = 0;\nSET transaction_timeout = 0;\nSELECT 1;\n")
        module("chassis.backup.postgresql")._adapt_to_older_server(sql, server)
        assert sql.read_text().splitlines()[1].startswith(expected)
        assert sql.read_text().count("SET") == 1 + (expected == "SET")
