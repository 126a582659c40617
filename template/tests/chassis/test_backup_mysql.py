"""Backups of MariaDB and MySQL, which cannot roll back a change of the schema."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..servers import mysql as server
from .sql import rows, run
from .test_backup import backup, content, crew, database, rejection, repack, restore

__all__ = ["crew", "database", "rejection"]  # fixtures
SEQUENCE = () if server.IS_MYSQL else ("CREATE SEQUENCE s",)


def test_restore_that_fails_at_its_end_puts_the_old_rows_back(rejection: Callable[..., str]) -> None:
    """The backup is loaded except for its last statement, then the old database is loaded again."""
    error = rejection(repack(backup(), dump=lambda whole: whole + b"\nDROP TABLE boats;\nNOT SQL;\n"))
    assert " failed: ERROR 1064" in error


def test_restore_replaces_views_routines_triggers_and_events(crew: Path) -> None:
    """Objects that the backup lacks are dropped, and those that it contains are restored."""
    run(
        "CREATE VIEW names AS SELECT name FROM captains",
        "CREATE FUNCTION always_one() RETURNS INT DETERMINISTIC RETURN 1",
    )()
    run("CREATE TRIGGER shout BEFORE INSERT ON ports FOR EACH ROW SET NEW.name = UPPER(NEW.name)")()
    before, file = content(), backup()
    run("CREATE VIEW sailors AS SELECT * FROM captains", "CREATE PROCEDURE two() SELECT 2")()
    run("CREATE EVENT tick ON SCHEDULE EVERY 1 DAY DO SELECT 1", *SEQUENCE)()
    run("CREATE TABLE `odd ``name %` (id INT)")()
    assert restore(file, "--replace") == 0
    assert content() == before
    assert rows("SELECT always_one() FROM names LIMIT 1") == [1]
    run("INSERT INTO ports (name) VALUES ('Nuuk')")()
    assert rows("SELECT name FROM ports WHERE name = BINARY 'NUUK'") == ["NUUK"]
    run("CREATE VIEW sailors AS SELECT 1", "CREATE PROCEDURE two() SELECT 2", *SEQUENCE)()
    run("CREATE EVENT tick ON SCHEDULE EVERY 1 DAY DO SELECT 1")()


def test_dump_file_cannot_run_commands_of_the_client(rejection: Callable[..., str]) -> None:
    """Otherwise the client would execute a line such as `system`, whatever its origin."""
    error = rejection(repack(backup(), dump=lambda whole: whole + b"\nsystem touch pwned\nNOT SQL;\n"))
    assert "ERROR 1064" in error
    assert not Path("pwned").exists()
