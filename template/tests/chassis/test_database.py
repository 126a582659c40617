"""The database: its health check, the unit of work, the meaning of its errors, and migrations."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from importlib import import_module
from pathlib import Path
from secrets import token_hex
from shutil import copytree
from typing import Any, ClassVar

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, event, insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import DeclarativeBase, Session, mapped_column
from sqlalchemy.orm.exc import StaleDataError

from .. import servers
from ..package import PACKAGE, ROOT, module, program
from .conftest import Logs, Start, measured, settings_for_tests
from .process import PATIENCE_SECONDS, serving, until
from .sql import LACKS, backend, connection, engine, rows, run, server, tables
from .sql_server import TABLE
from .test_errors import assert_is_problem
from .unit_of_work import Database, bind, in_request, overrun, sessions

cli = module("chassis.cli")
errors = module("chassis.errors")
request_context = module("chassis.request_context")

INSERT_VALUE = "INSERT INTO things (name) VALUES (:value)"
# The command that messages name, with the Python interpreter that runs the tests.
MIGRATE = f"{sys.orig_argv[0]} -m {PACKAGE} migrate"
INSERT_ONE = "INSERT INTO things (name) VALUES ('one')"


@pytest.fixture
def things(folder: Path) -> None:
    """Create a table with a unique name."""
    run("CREATE TABLE things (name VARCHAR(20) NOT NULL UNIQUE)")()


@pytest.fixture
def request_at_hand() -> Iterator[Any]:
    """Bind the context of a request, as the middleware does."""
    context = request_context.RequestContext("rid-1", "a" * 32, "b" * 16, "POST", "/", "127.0.0.1")
    token = request_context.bind(context)
    yield context
    request_context.reset(token)


def test_database_check_is_registered_as_critical(start: Start) -> None:
    found = start().get("/health").json()["checks"]["database"]
    assert (found["status"], found["critical"]) == ("ok", True)


def test_database_check_details_show_the_pool(start: Start) -> None:
    """The probe itself uses one connection and returns it."""
    details = start().get("/health").json()["checks"]["database"]["details"]
    assert (details["in_use"], details["overflow"]) == (0, 0)
    assert details["idle"] == 1 <= details["pool_size"]


def test_connections_are_measured_like_in_health(start: Start) -> None:
    """The maximum includes the overflow connections of the pool."""
    chassis: list[Any] = []
    details = start(install=chassis.append).get("/health").json()["checks"]["database"]["details"]
    found = measured(chassis[0])
    assert found["db.client.connection.count"] == {("database", "used"): 0, ("database", "idle"): details["idle"]}
    options = backend.engine_options(settings_for_tests())
    assert found["db.client.connection.max"] == {("database",): options["pool_size"] + options["max_overflow"]}


def test_full_disk_is_unavailable_and_unhealthy_until_there_is_space(start: Start, folder: Path) -> None:
    """Health names the cause in every response, even after requests have stopped writing."""
    chassis: list[Any] = []
    with server.on_small_disk(folder) as (url, disk):
        run("CREATE TABLE filled (words VARCHAR(4000))", database_url=url)()
        write = {"write": lambda: in_request(chassis[0], f"INSERT INTO filled VALUES ('{token_hex(1500)}')")}
        client = start(write, install=chassis.append, database_url=url, health_check_cache_seconds=0.01)
        assert client.get("/api/here/write").status_code == 200
        filler = servers.fill(disk)
        until(lambda: client.get("/api/here/write").status_code != 200)
        for _ in range(5):
            assert_is_problem(client.get("/api/here/write"), 503, "UNAVAILABLE")
            until(lambda: client.get("/health/ready").status_code == 503)
        reports = [client.get("/health").json()["checks"]["database"].get("error") for _ in range(20)]
        assert reports == ["the disk of the database is full"] * 20
        filler.unlink()
        until(lambda: client.get("/health/ready").status_code == 200)
        assert client.get("/api/here/write").status_code == 200


# -- the unit of work --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fails", "found"), [(False, ["one", "two"]), (True, [])], ids=["ends", "raises"])
def test_session_commits_everything_or_nothing(start: Start, things: None, fails: bool, found: list[str]) -> None:
    chassis: list[Any] = []
    start(install=chassis.append, started=False)
    inserts = [f"INSERT INTO things (name) VALUES ('{name}')" for name in ("one", "two")]
    with sessions(chassis[0]) as in_session, pytest.raises(KeyError) if fails else nullcontext():
        in_session(inserts, KeyError if fails else None)
    assert rows("SELECT name FROM things ORDER BY name") == found


@pytest.mark.parametrize("steps", [[INSERT_ONE], ["begin", INSERT_ONE, "commit begin"]], ids=["commit", "begin"])
def test_session_after_the_deadline_is_rolled_back(
    start: Start, things: None, request_at_hand: Any, steps: list[str]
) -> None:
    """`DeadlineExceededError` is raised, and the connection serves the next unit of work."""
    chassis: list[Any] = []
    start(install=chassis.append, started=False)
    with sessions(chassis[0]) as in_session:
        request_at_hand.timed_out = True
        with pytest.raises(errors.DeadlineExceededError):
            in_session(steps)
        assert rows("SELECT name FROM things") == []
        request_at_hand.timed_out = False
        in_session(steps)
    assert rows("SELECT name FROM things") == ["one"]


@pytest.mark.parametrize("steps", [[INSERT_ONE], ["begin", INSERT_ONE, "commit begin"]], ids=["commit", "begin"])
def test_commit_is_announced_to_the_deadline(
    start: Start, things: None, request_at_hand: Any, steps: list[str]
) -> None:
    """The deadline waits for a COMMIT that is in progress, and for nothing else."""
    chassis: list[Any] = []
    start(install=chassis.append, started=False)
    opened = chassis[0].get(Database).engine
    seen: list[tuple[str, bool]] = []
    for name in ("before_cursor_execute", "commit"):
        event.listen(
            getattr(opened, "sync_engine", opened),
            name,
            lambda *_, name=name: seen.append((name, request_at_hand.committing)),
        )
    with sessions(chassis[0]) as in_session:
        in_session(steps)
    assert seen == [("before_cursor_execute", False), ("commit", True)]
    assert not request_at_hand.committing


@pytest.mark.parametrize(
    ("steps", "counts"),
    [
        ([], False),
        (["SELECT name FROM things", "ROLLBACK"], False),
        (["begin", INSERT_ONE, "roll back begin"], False),
        ([INSERT_ONE, "COMMIT"], True),
        (["begin", INSERT_ONE, "commit begin"], True),
    ],
    ids=["unused", "rolled back", "begin rolled back", "committed", "begin committed"],
)
def test_unit_of_work_counts_as_a_commit_only_if_a_transaction_commits(
    start: Start, things: None, request_at_hand: Any, steps: list[str], counts: bool
) -> None:
    chassis: list[Any] = []
    start(install=chassis.append, started=False)
    with sessions(chassis[0]) as in_session:
        in_session(steps)
    assert request_at_hand.committed is counts


def test_cached_value_deleted_after_the_commit_is_not_stale(start: Start, things: None) -> None:
    """Until the commit, another request reads the old rows and caches them again."""
    chassis: list[Any] = []
    start(install=chassis.append, started=False)
    cached: dict[str, list[Any]] = {}

    def read() -> list[Any]:
        return cached.setdefault("things", rows("SELECT name FROM things"))

    with sessions(chassis[0]) as in_session:
        read()
        in_session([lambda: cached.pop("things"), INSERT_ONE])
        assert read() == ["one"]
        with pytest.raises(LookupError):
            in_session([cached.clear, INSERT_ONE.replace("one", "two")], LookupError)
        assert cached == {"things": ["one"]}


def test_hook_is_called_after_the_commit_of_its_work_whatever_follows(start: Start, things: None) -> None:
    """The block of a unit of work may commit or roll back explicitly, and raise an exception after that."""
    chassis: list[Any] = []
    start(install=chassis.append, started=False)
    called: list[str] = []
    with sessions(chassis[0]) as in_session:
        with pytest.raises(LookupError):
            in_session([partial(called.append, "committed"), INSERT_ONE, "COMMIT"], LookupError)
        in_session([partial(called.append, "rolled back"), "DELETE FROM things", "ROLLBACK"])
        in_session(["begin", partial(called.append, "begin"), "SELECT name FROM things", "commit begin"])
        in_session(["begin", partial(called.append, "failed"), "SELECT name FROM things", "roll back begin"])
    assert rows("SELECT name FROM things") == ["one"]
    assert called == ["committed", "begin"]


@pytest.mark.skipif("savepoints" in LACKS, reason="this database has no savepoints")
def test_hook_of_a_savepoint_that_is_rolled_back_is_not_called(start: Start, things: None) -> None:
    chassis: list[Any] = []
    start(install=chassis.append, started=False)
    called: list[str] = []
    outside, inside = partial(called.append, "outside"), partial(called.append, "inside")
    with sessions(chassis[0]) as in_session:
        in_session([outside, INSERT_ONE, "begin_nested", inside, "roll back begin_nested"])
    assert called == ["outside"]


def test_hook_that_fails_after_the_commit_is_logged(start: Start, things: None, logs: Logs) -> None:
    """The work is committed, so the caller gets no error, and the other hooks are called."""
    chassis: list[Any] = []
    start(install=chassis.append, started=False)
    called: list[int] = []

    def fail() -> None:
        raise LookupError("no such key")

    with sessions(chassis[0]) as in_session:
        in_session([fail, lambda: called.append(1), INSERT_ONE])
    assert called == [1]
    (entry,) = logs("after_commit_failed")
    assert "LookupError" in entry["exception"]


def test_unit_of_work_in_a_thread_after_the_deadline_is_rolled_back(things: None, request_at_hand: Any) -> None:
    """Nothing interrupts a thread, so its commit must fail."""
    overdue = threading.Event()

    def work() -> None:
        with engine() as opened, module("chassis.database.session").UnitOfWork(opened) as session:
            session.execute(text(INSERT_ONE))
            assert overdue.wait(PATIENCE_SECONDS)
            session.commit()

    with ThreadPoolExecutor(1) as pool:
        handler = pool.submit(request_context.copy_request_context(work))
        assert request_at_hand.expire()
        overdue.set()
        with pytest.raises(errors.DeadlineExceededError):
            handler.result(PATIENCE_SECONDS)
    assert rows("SELECT name FROM things") == []


def test_handler_that_overruns_its_deadline_commits_nothing(start: Start, things: None) -> None:
    """The client gets 504 at the deadline; the handler goes on to its end, and its work is rolled back."""
    chassis: list[Any] = []
    ended = threading.Event()

    client = start(
        {"overrun": observed(lambda: overrun(chassis[0], INSERT_ONE), ended)},
        install=chassis.append,
        request_timeout_seconds=1,
    )
    assert_is_problem(client.get("/api/here/overrun"), 504, "DEADLINE_EXCEEDED")
    assert ended.wait(PATIENCE_SECONDS)
    assert rows("SELECT name FROM things") == []


def observed(behaviour: Callable[[], Any], ended: threading.Event) -> Callable[[], Any]:
    """Set an event when a behaviour, a function or a coroutine function, has ended."""

    def call() -> Any:
        try:
            result = behaviour()
        except BaseException:
            ended.set()
            raise
        if not hasattr(result, "__await__"):
            ended.set()
            return result

        async def wait() -> Any:
            try:
                return await result
            finally:
                ended.set()

        return wait()

    return call


# -- errors ------------------------------------------------------------------------------------------------------------


def test_number_beyond_the_column_is_404_in_a_query_and_422_in_a_write(folder: Path) -> None:
    """Some databases raise an error even for a query; others find nothing or store the number."""
    run("CREATE TABLE counted (id INTEGER)")()
    counted = Table("counted", MetaData(), Column("id", Integer))
    translate = module("chassis.database.connection").error_translator(backend)
    query, write = select(counted).where(counted.c.id == 2**40), insert(counted).values(id=2**40)
    translated = []
    for statement in (query, write):
        try:
            with engine() as opened, opened.connect() as connection:
                connection.execute(statement)
        except DBAPIError as error:
            translated.append((statement, type(translate(error))))
    assert set(translated) <= {(query, errors.NotFoundError), (write, errors.ValidationError)}


@pytest.mark.parametrize("statement", ["SELECT 1 FROM things WHERE name = :value", INSERT_VALUE], ids=["read", "write"])
@pytest.mark.parametrize(
    ("value", "statuses"), [("a\x00b", (200, 422)), ("a\ud800b", (422,))], ids=["NUL", "surrogate"]
)
def test_text_that_cannot_be_stored_is_invalid_input(
    start: Start, logs: Logs, things: None, statement: str, value: str, statuses: tuple[int, ...]
) -> None:
    """Some databases store NUL characters. UTF-8 cannot encode a lone surrogate. The connection remains usable."""
    chassis: list[Any] = []
    client = start({"work": lambda: bind(chassis[0], statement, value)}, install=chassis.append)
    response = client.get("/api/here/work")
    assert response.status_code in statuses
    if response.status_code == 422:
        assert_is_problem(response, 422, "VALIDATION_FAILED")
    assert logs("request_failed") == []
    assert client.get("/health/ready").status_code == 200


def test_duplicate_is_a_conflict(start: Start, things: None) -> None:
    """The unique constraint decides, because a query before the write could race. The response does not name it."""
    client = start({"insert": run(INSERT_ONE)})
    assert client.get("/api/here/insert").status_code == 200
    response = client.get("/api/here/insert")
    assert_is_problem(response, 409, "CONFLICT")
    assert "things" not in response.text


def test_concurrent_inserts_that_first_lock_a_shared_row_follow_a_rule(folder: Path) -> None:
    """CONTRIBUTING.md recommends this lock. Without it, several transactions would find the table empty."""
    run("CREATE TABLE things (name VARCHAR(20))", "CREATE TABLE shared (changes INTEGER)")()
    run("INSERT INTO shared VALUES (0)")()
    barrier = threading.Barrier(5)

    def insert_if_empty() -> None:
        barrier.wait(PATIENCE_SECONDS)
        with opened.begin() as connected:
            connected.execute(text("UPDATE shared SET changes = changes + 1"))
            if not connected.scalar(text("SELECT count(*) FROM things")):
                connected.execute(text(INSERT_ONE))

    with engine() as opened, ThreadPoolExecutor(barrier.parties) as pool:
        for added in [pool.submit(insert_if_empty) for _ in range(barrier.parties)]:
            added.result(PATIENCE_SECONDS)
    assert rows("SELECT name FROM things") == ["one"]


def test_row_that_another_transaction_has_changed_is_a_conflict(folder: Path) -> None:
    """The model has a `version_id_col`. Otherwise the second change would undo the first one unnoticed.

    A database that reports such a conflict itself asks the client to retry.
    """

    class Base(DeclarativeBase):
        pass

    class Thing(Base):
        __tablename__ = "things"
        id = mapped_column(Integer, primary_key=True)
        name = mapped_column(String(20))
        version = mapped_column(Integer)
        __mapper_args__: ClassVar = {"version_id_col": version}

    run("CREATE TABLE things (id INTEGER PRIMARY KEY, name VARCHAR(20), version INTEGER)")()
    run("INSERT INTO things VALUES (1, 'one', 1)")()
    with engine() as opened, Session(opened) as session:
        session.get_one(Thing, 1).name = "mine"
        run("UPDATE things SET name = 'theirs', version = 2")()
        with pytest.raises((StaleDataError, DBAPIError)) as caught:
            session.commit()
    translated = connection.error_translator(backend)(caught.value)
    assert isinstance(
        translated, errors.ConflictError if isinstance(caught.value, StaleDataError) else errors.UnavailableError
    )
    assert rows("SELECT name FROM things") == ["theirs"]


def test_duplicate_among_many_rows_keeps_the_connection(things: None) -> None:
    """The connection survives an error of the server, even in a driver that sends many statements at once."""
    table = Table("things", MetaData(), Column("name", String(20)))
    many = [{"name": f"name {number // 2}"} for number in range(2000)]
    with engine() as opened, opened.begin() as connection, pytest.raises(IntegrityError) as raised:
        connection.execute(insert(table), many)
    assert backend.is_conflict(raised.value)
    assert not raised.value.connection_invalidated


@pytest.mark.parametrize("statement", ["INSERT INTO things (name) VALUES (NULL)", "SELECT * FROM nowhere", "nonsense"])
def test_faulty_statement_is_an_internal_error(start: Start, logs: Logs, things: None, statement: str) -> None:
    """The log contains the statement, but the response does not."""
    response = start({"fail": run(statement)}).get("/api/here/fail")
    assert_is_problem(response, 500, "INTERNAL")
    assert statement not in response.text
    assert statement in logs("request_failed")[0]["exception"]


def test_values_of_a_statement_are_not_logged(start: Start, logs: Logs) -> None:
    """A value comes from a client and may be a password."""
    value = "from a client"

    def fail() -> None:
        with engine() as opened, opened.connect() as connected:
            connected.execute(text("SELECT * FROM nowhere WHERE name = :name"), {"name": value})

    assert start({"fail": fail}).get("/api/here/fail").status_code == 500
    (entry,) = logs("request_failed")
    assert "FROM nowhere" in entry["exception"]
    assert value not in entry["exception"]


def test_pool_without_a_free_connection_is_unavailable(start: Start) -> None:
    def wait_in_vain() -> None:
        raise PoolTimeout("QueuePool limit of size 5 reached")

    assert_is_problem(start({"wait": wait_in_vain}).get("/api/here/wait"), 503, "UNAVAILABLE")


def test_stored_values_are_read_back_unchanged(folder: Path) -> None:
    """Text keeps every character. Times keep their microseconds and are returned in UTC."""
    moment = datetime(2026, 7, 1, 1, 30, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
    utc_date_time = module("chassis.database.types").UtcDateTime
    table = Table("stored", MetaData(), Column("text", String(20)), Column("moment", utc_date_time))
    with engine() as opened, opened.begin() as connected:
        table.create(connected)
        connected.execute(insert(table).values(text="Ťhree 🚢", moment=moment))
        stored = connected.execute(select(table)).one()
    assert tuple(stored) == ("Ťhree 🚢", moment)
    assert stored.moment.tzinfo is UTC


def test_killed_service_loses_no_acknowledged_write(folder: Path) -> None:
    """A write that got a 200 response is stored exactly once after SIGKILL and a restart."""
    run(TABLE)()
    with serving(folder, "tests.chassis.sql_server", "serve") as process:
        statuses = [process.get("/api/here/write").status_code for _ in range(50)]
        process.send(signal.SIGKILL)
        process.exit_code()
    with serving(folder, "tests.chassis.sql_server", "serve", SHUTDOWN_DRAIN_SECONDS="0") as process:
        statuses.append(process.get("/api/here/write").status_code)
        process.send(signal.SIGTERM)
        process.exit_code()
    assert statuses == [200] * 51
    assert rows("SELECT count(*) FROM written") == [51]


@pytest.mark.parametrize("url", ["oracle://scott:tiger@host/db", "{scheme}:///file:data/test?mode=ro&uri=true"])
def test_url_of_another_kind_is_rejected(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    """The error shows an example of a valid URL. SQLAlchemy would also accept a `file:` URI as the name of a file."""
    monkeypatch.setenv("DATABASE_URL", url.format(scheme=backend.Settings.url_schemes[0]))
    assert cli.main(program(), ["check"]) == 78
    assert (
        f"DATABASE_URL: is not a URL of this database; use the form {backend.Settings.url_example}"
        in capsys.readouterr().err
    )


# -- migrations --------------------------------------------------------------------------------------------------------


@pytest.fixture
def migrations(folder: Path) -> Path:
    """Create a folder with one migration, independent of the migrations of the service."""
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


def test_migrate_brings_an_empty_database_to_the_newest_schema(
    migrations: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second run changes nothing."""
    for _ in range(2):
        assert cli.main(program(), ["migrate"]) == 0
        assert "things" in tables()
        assert re.fullmatch(r"The database has the revision \w+\.\n", capsys.readouterr().out)


def test_migrate_downgrade_to_base_empties_the_schema(migrations: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(program(), ["migrate"])
    capsys.readouterr()
    assert cli.main(program(), ["migrate", "downgrade", "base"]) == 0
    assert capsys.readouterr().out == "The database has no revision.\n"
    assert "things" not in tables()


@pytest.mark.skipif(not hasattr(backend, "path_of"), reason="the database is a server")
def test_migrate_check_of_a_missing_file_does_not_create_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty file must not hide a wrong path in the settings of production."""
    monkeypatch.chdir(ROOT)
    file = folder / "sub" / "test.db"
    monkeypatch.setenv("DATABASE_URL", f"{backend.Settings.url_schemes[0]}:///{file}")
    assert cli.main(program(), ["migrate", "check"]) == 1
    assert f"the database {file} does not exist; run `{MIGRATE}`" in capsys.readouterr().err
    assert not file.parent.exists()


@pytest.mark.skipif(not hasattr(backend, "path_of"), reason="the database is a server")
@pytest.mark.parametrize("command", ["migrate", "serve"])
def test_folder_that_cannot_be_created_is_a_settings_error(
    migrations: Path, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    way = migrations.parent / "way"
    way.touch()
    monkeypatch.setenv("DATABASE_URL", f"{backend.Settings.url_schemes[0]}:///{way}/test.db")
    assert cli.main(program(), [command]) == 78
    problem = f"DATABASE_URL: the folder cannot be created: File exists; use another path (got '{way}/test.db')"
    assert problem in capsys.readouterr().err


def test_migrate_to_an_unknown_revision_fails_with_a_sentence(
    migrations: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(program(), ["migrate"])
    assert cli.main(program(), ["migrate", "downgrade", "0815"]) == 1
    error = capsys.readouterr().err
    assert "0815" in error
    assert "Traceback" not in error


def test_migration_that_the_database_rejects_is_named_in_one_sentence(
    migrations: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error in the Python code of a migration still has a traceback."""
    revision = migrations / "versions" / "0001_things.py"
    source = revision.read_text()
    revision.write_text(source.replace("    time.sleep(0.1)", "    op.execute('DROP TABLE nowhere')"))
    assert cli.main(program(), ["migrate"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"The migration was not run: {revision}, line 6: ")
    assert "nowhere" in error
    assert error.count("\n") == 1
    revision.write_text(source.replace("    time.sleep(0.1)", "    raise LookupError"))
    with pytest.raises(LookupError):
        cli.main(program(), ["migrate"])


def test_migrate_without_the_folder_of_migrations_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(program(), ["migrate"]) == 1
    assert "migrations/" in capsys.readouterr().err


def test_migrations_of_the_service_lead_there_and_back(migrated: None) -> None:
    """The tables that `migrate` creates for features belong to no revision."""
    assert cli.main(program(), ["migrate", "downgrade", "base"]) == 0
    declared = module("chassis.database.base").Base.metadata.tables
    of_features = {name for name, table in declared.items() if table.info.get("created_by_migrate")}
    assert tables() <= {"alembic_version", "sqlite_sequence", *of_features}
    assert cli.main(program(), ["migrate"]) == 0


def test_migrate_of_an_older_release_changes_nothing(migrations: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """After a rollback the database has the schema of a newer release, which is not an error."""
    cli.main(program(), ["migrate"])
    run("UPDATE alembic_version SET version_num = '0815'")()
    assert cli.main(program(), ["migrate"]) == 0
    expected = "Warning: the database has the revision 0815 of a newer release; nothing was changed.\n"
    assert capsys.readouterr().err == expected
    for action in (["check"], ["revision", "more"], ["downgrade", "base"]):
        assert cli.main(program(), ["migrate", *action]) == 1
        assert "the database has the revision 0815 of a newer release; use that release" in capsys.readouterr().err
    assert rows("SELECT version_num FROM alembic_version") == ["0815"]
    assert "things" in tables()


def test_migrate_check_names_the_revisions_and_the_remedy(migrations: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(program(), ["migrate"])
    cli.main(program(), ["migrate", "downgrade", "base"])
    capsys.readouterr()
    begin = "The schema is not the newest: "
    assert cli.main(program(), ["migrate", "check"]) == 1
    sentence = f"{begin}the database has no revision, the newest is 0001; run `{MIGRATE}`\n"
    assert capsys.readouterr().err == sentence
    cli.main(program(), ["migrate"])
    run("CREATE TABLE spatial_ref_sys (id INTEGER PRIMARY KEY)")()
    assert cli.main(program(), ["migrate", "check"]) == 1
    error = capsys.readouterr().err
    remedy = f"write a revision with `{MIGRATE} revision MESSAGE`"
    assert error.startswith(f"{begin}models and migrations differ; {remedy}: ")
    assert error.count("\n") == 1
    assert "remove_table things" in error
    assert "Table(" not in error, "only names are shown"
    assert "spatial_ref_sys" not in error, "migrations/env.py ignores this table of an extension"


def test_migrate_revision_without_differences_says_that_it_is_empty_and_passes_lint(
    migrated: None, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A domain that `main.py` does not list would otherwise go unnoticed."""
    (folder / "migrations").unlink()
    copytree(ROOT / "migrations", folder / "migrations")
    assert cli.main(program(), ["migrate", "revision", "more"]) == 0
    assert "so the revision is empty" in capsys.readouterr().err
    (written,) = (folder / "migrations/versions").glob("*_more.py")
    source = written.read_bytes()
    assert b"op." not in source
    lint = [sys.executable, "-m", "ruff", "check", "--quiet", "--stdin-filename", written.relative_to(folder), "-"]
    subprocess.run(lint, cwd=ROOT, input=source, check=True, timeout=PATIENCE_SECONDS)


def test_migrate_revision_drops_a_table_only_where_it_exists(migrations: Path) -> None:
    """No revision has created the table of a feature that was removed, so a new database does not have it."""
    assert cli.main(program(), ["migrate"]) == 0
    run("CREATE TABLE removed (name VARCHAR(20))", "CREATE INDEX ix_removed ON removed (name)")()
    assert cli.main(program(), ["migrate", "revision", "less"]) == 0
    run("DROP TABLE removed")()
    assert cli.main(program(), ["migrate"]) == 0


def test_migrate_revision_warns_about_a_column_without_a_value_for_old_rows(
    migrations: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(program(), ["migrate"]) == 0
    metadata = module("chassis.database.base").Base.metadata
    columns = [Column("id", Integer, primary_key=True), Column("label", String(20), nullable=False)]
    things = Table("things", metadata, *columns)
    try:
        assert cli.main(program(), ["migrate", "revision", "label"]) == 0
    finally:
        metadata.remove(things)
    said = capsys.readouterr().err
    assert said == "things.label is not nullable: add a `server_default` if the table may have rows.\n"


def test_migrate_with_two_newest_revisions_asks_for_a_merge(
    migrations: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """This happens when two branches of a repository are merged and each has added a revision."""
    for name in ("0002a", "0002b"):
        source = f"revision, down_revision, branch_labels, depends_on = '{name}', '0001', None, None\n"
        (migrations / "versions" / f"{name}.py").write_text(f"{source}def upgrade(): pass\ndef downgrade(): pass\n")
    remedy = f"there are several newest revisions, 0002a, 0002b; join them with `{MIGRATE} merge MESSAGE`"
    for action in ([], ["check"], ["revision", "more"]):
        assert cli.main(program(), ["migrate", *action]) == 1
        assert remedy in capsys.readouterr().err
    assert cli.main(program(), ["migrate", "heads"]) == 0
    assert cli.main(program(), ["migrate", "history"]) == 0
    assert "0002b (head)" in capsys.readouterr().out
    assert cli.main(program(), ["migrate", "merge", "join"]) == 0
    assert cli.main(program(), ["migrate", "merge", "again"]) == 1
    assert "written: the revisions have no branches, so there is nothing to merge\n" in capsys.readouterr().err
    assert cli.main(program(), ["migrate"]) == 0
    capsys.readouterr()
    assert cli.main(program(), ["migrate", "current"]) == 0
    (merged,) = rows("SELECT version_num FROM alembic_version")
    assert capsys.readouterr().out == f"{merged} (the newest of this release: {merged})\n"


def test_migrate_reads_its_settings_from_a_given_file(
    migrations: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / ".env.production").write_text(f"DATABASE_URL='{os.environ['DATABASE_URL']}'\n")
    with monkeypatch.context() as patch:
        patch.setenv("DATABASE_MIGRATION_TIMEOUT_SECONDS", "60")
        patch.delenv("DATABASE_URL")
        assert cli.main(program(), ["migrate", "--env-file", ".env.production"]) == 0
    assert "things" in tables()
    with pytest.raises(SystemExit):
        cli.main(program(), ["migrate", "--env-file", "none"])
    assert "none is not a file" in capsys.readouterr().err


def test_ten_migrations_at_once_apply_each_revision_once(migrations: Path) -> None:
    """One of them migrates, and the others find nothing to do."""
    import_module("alembic.command")  # ten threads would import it concurrently, unlike ten processes
    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(lambda _: cli.main(program(), ["migrate"]), range(10))) == [0] * 10
    assert rows("SELECT version_num FROM alembic_version") == ["0001"]


def test_migration_that_waits_too_long_for_the_lock_fails(migrations: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It fails with one sentence after DATABASE_MIGRATION_TIMEOUT_SECONDS and does not disturb the lock's holder."""
    with engine() as opened, backend.migration_lock(opened, 1), pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_MIGRATION_TIMEOUT_SECONDS", "2")  # also the limit of its statements
        assert cli.main(program(), ["migrate"]) == 1
    assert "another migration" in capsys.readouterr().err
    assert cli.main(program(), ["migrate"]) == 0
