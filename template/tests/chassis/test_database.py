"""The database: a check, a unit of work, what its errors mean, and migrations."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ..package import ROOT, module, program
from .conftest import Logs, Start
from .test_errors import assert_is_problem
from .unit_of_work import in_session

cli = module("chassis.cli")


@pytest.fixture
def database(folder: Path) -> Path:
    """A file with one table, in which a name may stand once."""
    path = folder / "test.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE things (name TEXT UNIQUE NOT NULL)")
    return path


def run(path: Path, *statements: str, timeout_seconds: float = 0.01) -> Callable[[], None]:
    """Return a behaviour that runs statements and commits, and raises whatever the database says."""

    def behaviour() -> None:
        engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": timeout_seconds})
        try:
            with engine.begin() as connection:
                for statement in statements:
                    connection.execute(text(statement))
        finally:
            engine.dispose()

    return behaviour


def test_the_database_is_a_critical_check(start: Start) -> None:
    """Registered where the database is made."""
    found = start().get("/health").json()["checks"]["database"]
    assert (found["status"], found["critical"]) == ("ok", True)


@pytest.mark.parametrize(("fails", "rows"), [(False, ["one", "two"]), (True, [])], ids=["ends well", "raises"])
def test_a_session_is_one_unit_of_work(start: Start, database: Path, fails: bool, rows: list[str]) -> None:
    """Everything is committed when the block ends well, and nothing when it raises."""
    services: list[Any] = []
    start(install=services.append, started=False)
    inserts = [f"INSERT INTO things (name) VALUES ('{name}')" for name in ("one", "two")]
    with pytest.raises(KeyError) if fails else nullcontext():
        in_session(services[0], inserts, KeyError if fails else None)
    with closing(sqlite3.connect(database)) as connection:
        assert [name for (name,) in connection.execute("SELECT name FROM things ORDER BY name")] == rows


def test_a_duplicate_is_a_conflict(start: Start, database: Path) -> None:
    """The unique constraint decides, because only it cannot be overtaken; the answer does not quote it."""
    insert = "INSERT INTO things (name) VALUES ('one')"
    client = start({"insert": run(database, insert)})
    assert client.get("/api/here/insert").status_code == 200
    answer = client.get("/api/here/insert")
    assert_is_problem(answer, 409, "CONFLICT")
    assert "things" not in answer.text


@pytest.mark.parametrize("statement", ["INSERT INTO things (name) VALUES (NULL)", "SELECT * FROM nowhere", "nonsense"])
def test_a_fault_of_ours_is_internal(start: Start, logs: Logs, database: Path, statement: str) -> None:
    """The statement stands in the log, and not in the answer."""
    answer = start({"fail": run(database, statement)}).get("/api/here/fail")
    assert_is_problem(answer, 500, "INTERNAL")
    assert statement not in answer.text
    assert statement in logs("request_failed")[0]["exception"]


def test_a_database_that_is_busy_is_unavailable_until_it_is_not(start: Start, database: Path) -> None:
    """503 with Retry-After while somebody else holds the lock; no restart is needed afterwards."""
    client = start({"insert": run(database, "INSERT INTO things (name) VALUES ('one')")})
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        answer = client.get("/api/here/insert")
        assert_is_problem(answer, 503, "UNAVAILABLE")
        assert answer.headers["retry-after"]
        other.execute("ROLLBACK")
    assert client.get("/api/here/insert").status_code == 200


def test_a_pool_without_a_free_connection_is_unavailable(start: Start) -> None:
    """It passes, too."""

    def wait_in_vain() -> None:
        raise PoolTimeout("QueuePool limit of size 5 reached")

    assert_is_problem(start({"wait": wait_in_vain}).get("/api/here/wait"), 503, "UNAVAILABLE")


# -- migrations --------------------------------------------------------------------------------------------------------


@pytest.fixture
def migrations(folder: Path) -> Iterator[Path]:
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


def tables(folder: Path) -> set[str]:
    with closing(sqlite3.connect(folder / "test.db")) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def test_migrate_brings_an_empty_database_to_the_newest_schema(migrations: Path, folder: Path) -> None:
    """A second time it has nothing to do, and says so by doing nothing."""
    assert cli.main(program(), ["migrate"]) == 0
    assert "things" in tables(folder)
    assert cli.main(program(), ["migrate"]) == 0


def test_migrate_goes_back(migrations: Path, folder: Path) -> None:
    """`base` is an empty database."""
    cli.main(program(), ["migrate"])
    assert cli.main(program(), ["migrate", "downgrade", "base"]) == 0
    assert "things" not in tables(folder)


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


def test_the_services_own_migrations_lead_there_and_back(folder: Path, migrated: None) -> None:
    """From nothing to the newest schema, which is that of the models, and back to nothing."""
    assert cli.main(program(), ["migrate", "downgrade", "base"]) == 0
    assert tables(folder) <= {"alembic_version", "sqlite_sequence"}
    assert cli.main(program(), ["migrate"]) == 0


def test_two_migrations_at_once_do_not_get_into_each_others_way(migrations: Path, folder: Path) -> None:
    """The second waits for the first, and finds its work done."""
    with ThreadPoolExecutor(2) as pool:
        codes = list(pool.map(lambda _: cli.main(program(), ["migrate"]), range(2)))
    assert codes == [0, 0]
