"""The database: a check, a unit of work, what its errors mean, and migrations."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta, timezone
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ..package import ROOT, module, program
from .conftest import Logs, Start
from .process import serving
from .sql import dialect, engine, rows, run, tables
from .sql_server import TABLE
from .test_errors import assert_is_problem
from .unit_of_work import sessions

cli = module("chassis.cli")
errors = module("chassis.errors")


@pytest.fixture
def things(folder: Path) -> None:
    """One table, in which a name may stand once."""
    run("CREATE TABLE things (name VARCHAR(20) NOT NULL UNIQUE)")()


def test_the_database_is_a_critical_check(start: Start) -> None:
    """Registered where the database is made."""
    found = start().get("/health").json()["checks"]["database"]
    assert (found["status"], found["critical"]) == ("ok", True)


def test_the_check_shows_how_the_pool_is_used(start: Start) -> None:
    """One connection, which asks."""
    details = start().get("/health").json()["checks"]["database"]["details"]
    assert (details["in_use"], details["overflow"]) == (0, 0)
    assert details["idle"] == 1 <= details["pool_size"]


@pytest.mark.parametrize(("fails", "found"), [(False, ["one", "two"]), (True, [])], ids=["ends well", "raises"])
def test_a_session_is_one_unit_of_work(start: Start, things: None, fails: bool, found: list[str]) -> None:
    """Everything is committed when the block ends well, and nothing when it raises."""
    services: list[Any] = []
    start(install=services.append, started=False)
    inserts = [f"INSERT INTO things (name) VALUES ('{name}')" for name in ("one", "two")]
    with sessions(services[0]) as in_session, pytest.raises(KeyError) if fails else nullcontext():
        in_session(inserts, KeyError if fails else None)
    assert rows("SELECT name FROM things ORDER BY name") == found


def test_a_number_beyond_the_column_is_not_found_and_not_stored(folder: Path) -> None:
    """Where a database refuses even to look for it, the answer is 404, and 422 to whoever wants to store it."""
    run("CREATE TABLE counted (id INTEGER)")()
    counted = Table("counted", MetaData(), Column("id", Integer))
    translate = module("chassis.database.connection").translator(dialect)
    looked_for, stored = select(counted).where(counted.c.id == 2**40), insert(counted).values(id=2**40)
    meanings = []
    for statement in (looked_for, stored):
        try:
            with engine() as opened, opened.connect() as connection:
                connection.execute(statement)
        except DBAPIError as refused:
            meanings.append((statement, type(translate(refused))))
    assert set(meanings) <= {(looked_for, errors.NotFoundError), (stored, errors.ValidationError)}


def test_a_duplicate_is_a_conflict(start: Start, things: None) -> None:
    """The unique constraint decides, because only it cannot be overtaken; the answer does not quote it."""
    insert = "INSERT INTO things (name) VALUES ('one')"
    client = start({"insert": run(insert)})
    assert client.get("/api/here/insert").status_code == 200
    answer = client.get("/api/here/insert")
    assert_is_problem(answer, 409, "CONFLICT")
    assert "things" not in answer.text


def test_a_duplicate_among_many_rows_leaves_the_connection(things: None) -> None:
    """Where a driver sends many statements at once, too, what the database answers is no loss of the connection."""
    table = Table("things", MetaData(), Column("name", String(20)))
    many = [{"name": f"name {number // 2}"} for number in range(2000)]
    with engine() as opened, opened.begin() as connection, pytest.raises(IntegrityError) as refused:
        connection.execute(insert(table), many)
    assert dialect.is_conflict(refused.value)
    assert not refused.value.connection_invalidated


@pytest.mark.parametrize("statement", ["INSERT INTO things (name) VALUES (NULL)", "SELECT * FROM nowhere", "nonsense"])
def test_a_fault_of_ours_is_internal(start: Start, logs: Logs, things: None, statement: str) -> None:
    """The statement stands in the log, and not in the answer."""
    answer = start({"fail": run(statement)}).get("/api/here/fail")
    assert_is_problem(answer, 500, "INTERNAL")
    assert statement not in answer.text
    assert statement in logs("request_failed")[0]["exception"]


def test_no_value_of_a_statement_is_logged(start: Start, logs: Logs) -> None:
    """It came from a client, and may be a password: the error's text names the statement only."""
    value = "from a client"

    def fail() -> None:
        with engine() as opened, opened.connect() as connected:
            connected.execute(text("SELECT * FROM nowhere WHERE name = :name"), {"name": value})

    assert start({"fail": fail}).get("/api/here/fail").status_code == 500
    (line,) = logs("request_failed")
    assert "FROM nowhere" in line["exception"]
    assert value not in line["exception"]


def test_a_pool_without_a_free_connection_is_unavailable(start: Start) -> None:
    """It passes, too."""

    def wait_in_vain() -> None:
        raise PoolTimeout("QueuePool limit of size 5 reached")

    assert_is_problem(start({"wait": wait_in_vain}).get("/api/here/wait"), 503, "UNAVAILABLE")


def test_what_is_stored_comes_back_as_it_was(folder: Path) -> None:
    """Any letter there is, and a moment to the microsecond, in UTC wherever it came from."""
    moment = datetime(2026, 7, 1, 1, 30, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
    table = Table(
        "kept", MetaData(), Column("text", String(20)), Column("moment", module("chassis.database.types").UtcDateTime)
    )
    with engine() as opened, opened.begin() as connected:
        table.create(connected)
        connected.execute(insert(table).values(text="Ťhree 🚢", moment=moment))
        stored = connected.execute(select(table)).one()
    assert tuple(stored) == ("Ťhree 🚢", moment)
    assert stored.moment.tzinfo is UTC


def test_a_kill_loses_no_write_that_was_acknowledged(folder: Path) -> None:
    """Nor does it double one: what a client heard 200 of is there after SIGKILL, and after the start that follows."""
    run(TABLE)()
    with serving(folder, "tests.chassis.sql_server", "serve") as process:
        answers = [process.get("/api/here/write").status_code for _ in range(50)]
        process.send(signal.SIGKILL)
        process.exit_code()
    with serving(folder, "tests.chassis.sql_server", "serve", SHUTDOWN_DRAIN_SECONDS="0") as process:
        answers.append(process.get("/api/here/write").status_code)
        process.send(signal.SIGTERM)
        process.exit_code()
    assert answers == [200] * 51
    assert rows("SELECT count(*) FROM written") == [51]


def test_a_url_of_another_database_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With an example of a right one; what was given may hold a password, so it is shown only where it cannot."""
    monkeypatch.setenv("DATABASE_URL", "oracle://scott:tiger@host/db")
    assert cli.main(program(), ["check"]) == 78
    assert (
        f"DATABASE_URL: is no URL of this database; write it like {dialect.Settings.url_example}"
        in capsys.readouterr().err
    )


# -- migrations --------------------------------------------------------------------------------------------------------


@pytest.fixture
def migrations(folder: Path) -> Path:
    """A folder of migrations with one revision, so that those of the service do not matter."""
    here = folder / "migrations"
    (here / "versions").mkdir(parents=True)
    for name in ("env.py", "script.py.mako"):
        (here / name).write_text((ROOT / "migrations" / name).read_text())
    (here / "versions" / "0001_things.py").write_text(
        "import time\n"
        "import sqlalchemy as sa\n"
        "from alembic import op\n"
        "revision, down_revision, branch_labels, depends_on = '0001', None, None, None\n"
        "def upgrade():\n"
        "    time.sleep(0.1)\n"
        "    op.create_table('things', sa.Column('id', sa.Integer(), primary_key=True))\n"
        "def downgrade():\n    op.drop_table('things')\n"
    )
    return here


def test_migrate_brings_an_empty_database_to_the_newest_schema(migrations: Path) -> None:
    """A second time it has nothing to do, and says so by doing nothing."""
    assert cli.main(program(), ["migrate"]) == 0
    assert "things" in tables()
    assert cli.main(program(), ["migrate"]) == 0


def test_migrate_goes_back(migrations: Path) -> None:
    """`base` is an empty database."""
    cli.main(program(), ["migrate"])
    assert cli.main(program(), ["migrate", "downgrade", "base"]) == 0
    assert "things" not in tables()


def test_migrate_says_what_it_cannot_do(migrations: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a sentence, with exit code 1."""
    assert cli.main(program(), ["migrate", "downgrade", "0815"]) == 1
    said = capsys.readouterr().err
    assert "0815" in said
    assert "Traceback" not in said


def test_migrate_needs_the_folder_of_migrations(capsys: pytest.CaptureFixture[str]) -> None:
    """It looks where it is run."""
    assert cli.main(program(), ["migrate"]) == 1
    assert "migrations/" in capsys.readouterr().err


def test_the_services_own_migrations_lead_there_and_back(migrated: None) -> None:
    """From nothing to the newest schema, which is that of the models, and back to nothing."""
    assert cli.main(program(), ["migrate", "downgrade", "base"]) == 0
    assert tables() <= {"alembic_version", "sqlite_sequence"}
    assert cli.main(program(), ["migrate"]) == 0


def test_ten_migrations_at_once_apply_each_revision_once(migrations: Path) -> None:
    """One goes first, and the others find its work done."""
    import_module("alembic.command")  # which ten threads would do at once; of processes each does it alone
    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(lambda _: cli.main(program(), ["migrate"]), range(10))) == [0] * 10
    assert rows("SELECT version_num FROM alembic_version") == ["0001"]


def test_a_migration_that_waits_in_vain_gives_up(migrations: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """After DATABASE_MIGRATION_TIMEOUT_SECONDS, with a sentence; the one that has the lock goes on."""
    with engine() as opened, dialect.migration_lock(opened, 1), pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_MIGRATION_TIMEOUT_SECONDS", "2")  # its statements have no more either
        assert cli.main(program(), ["migrate"]) == 1
    assert "another migration" in capsys.readouterr().err
    assert cli.main(program(), ["migrate"]) == 0
