"""PostgreSQL: a database that is read-only, what a URL can specify, and PgBouncer in front of the server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, make_url, text
from sqlalchemy.exc import DBAPIError

from ..package import CHASSIS, ROOT, module, program
from ..servers import free_port
from ..servers import postgresql as server
from .conftest import Start, settings_for_tests
from .process import until
from .sql import backend, engine, rows, run, tables
from .sql_server import TABLE
from .test_errors import assert_is_problem
from .unit_of_work import in_request, sessions

cli = module("chassis.cli")
Url = Callable[..., str]


def test_read_only_database_makes_the_service_unready(start: Start) -> None:
    """Managed servers make a database read-only when its disk is full."""
    name = make_url(settings_for_tests().database_url.get_secret_value()).database
    # The setting is read when a connection is opened.
    client = start(health_check_cache_seconds=0.01, database_pool_recycle_seconds=1)
    assert client.get("/health/ready").status_code == 200
    run(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')()
    try:
        until(lambda: client.get("/health/ready").status_code == 503)
        check = client.get("/health").json()["checks"]["database"]
        assert check["error"] == "the database is read-only"
    finally:
        run("SET TRANSACTION READ WRITE", f'ALTER DATABASE "{name}" RESET default_transaction_read_only')()
    until(lambda: client.get("/health/ready").status_code == 200)


def test_read_only_connection_is_replaced(start: Start) -> None:
    """After a failover, a new connection may reach the new primary.

    A service that is not ready gets no requests, so the ping of its health check replaces the connection as well.
    """
    chassis: list[Any] = []
    behaviours = {
        "demote": lambda: in_request(chassis[0], "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"),
        "write": lambda: in_request(chassis[0], "CREATE TABLE written (number INTEGER)"),
    }
    client = start(behaviours, install=chassis.append, health_check_cache_seconds=0.01)
    assert client.get("/api/here/demote").status_code == 200
    assert_is_problem(client.get("/api/here/write"), 503, "UNAVAILABLE")
    assert client.get("/api/here/write").status_code == 200
    assert client.get("/api/here/demote").status_code == 200
    until(lambda: client.get("/health/ready").status_code == 503)
    until(lambda: client.get("/health/ready").status_code == 200)


def test_standby_is_unready_and_rejects_writes_until_it_is_promoted(
    start: Start, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A standby answers queries, so a service that only reads would not notice a failover."""
    chassis: list[Any] = []
    behaviours = {
        "read": lambda: in_request(chassis[0], "SELECT count(*) FROM written"),
        "write": lambda: in_request(chassis[0], "INSERT INTO written (number) VALUES (1)"),
    }
    here, url = server.start()
    try:
        run(TABLE, database_url=url)()
        client = start(behaviours, install=chassis.append, database_url=url, health_check_cache_seconds=0.01)
        assert client.get("/api/here/write").status_code == 200
        server.make_standby(here)

        until(lambda: client.get("/health").json()["checks"]["database"].get("error") == "the database is read-only")
        assert client.get("/health/ready").status_code == 503
        assert client.get("/api/here/read").status_code == 200
        assert_is_problem(client.get("/api/here/write"), 503, "UNAVAILABLE")
        (folder / "migrations").symlink_to(ROOT / "migrations")
        monkeypatch.setenv("DATABASE_URL", url)
        assert cli.main(program(), ["migrate"]) == 69
        failure = "The migration was not run: the database is unavailable: cannot execute CREATE TABLE in a read-only"
        assert capsys.readouterr().err == f"{failure} transaction\n"

        run("SELECT pg_promote()", database_url=url)()
        until(lambda: client.get("/health/ready").status_code == 200)
        assert client.get("/api/here/write").status_code == 200
    finally:
        here.remove()


@pytest.fixture
def url(folder: Path) -> Url:
    """Return the URL of the test's database with these parameters."""

    def with_parameters(**parameters: str) -> str:
        return make_url(server.url(folder)).update_query_dict(parameters).render_as_string(hide_password=False)

    return with_parameters


@pytest.fixture(scope="module")
def through() -> Iterator[Callable[[str], str]]:
    """Start PgBouncer, and return a function that routes a URL through it."""
    with server.pgbouncer() as lead:
        yield lead


def show(opened: Engine, name: str) -> Any:
    with opened.connect() as connected:
        return connected.scalar(text(f"SHOW {name}"))


@pytest.mark.parametrize(
    "query",
    [
        "sslmode=require",
        "sslmode=require&channel_binding=require",
        "sslmode=verify-full&sslrootcert=system",
        "options=endpoint%3Dep-cool-name-123456",
        "pgbouncer=true",
        "application_name=orders&target_session_attrs=read-write",
        "host=/run/postgresql",
        "application_name=me@host",
    ],
)
@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg"])
def test_url_of_a_provider_is_valid(monkeypatch: pytest.MonkeyPatch, scheme: str, query: str) -> None:
    monkeypatch.setenv("DATABASE_URL", f"{scheme}://user:secret@host:5432/name?{query}")
    assert cli.main(program(), ["check"]) == 0


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("ssl-mode=REQUIRED", "ssl-mode (add sslmode=require instead)"),
        ("schema=public", "schema (add options=-csearch_path=NAME instead)"),
        ("prepare_threshold=0", "prepare_threshold (for PgBouncer, add pgbouncer=true instead)"),
        ("connect_timeout=10", "connect_timeout (set DATABASE_CONNECT_TIMEOUT_SECONDS instead)"),
        ("keepalives_idle=10", "keepalives_idle (set DATABASE_KEEPALIVE_IDLE_SECONDS instead)"),
        ("pgbouncer=yes", "has an invalid value for pgbouncer; use true or false"),
        ("options=search_path&pgbouncer=true", "has invalid options; use the form options=-csearch_path=NAME"),
        ("sslrootcert=missing.pem", "has sslrootcert=missing.pem, which is not a readable file"),
    ],
)
def test_url_that_would_fail_later_is_rejected_by_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], query: str, error: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgresql://user:hunter2@host/name?{query}")
    assert cli.main(program(), ["check"]) == 78
    output = capsys.readouterr().err
    assert error in output
    assert "hunter2" not in output


def test_url_with_several_ports_is_rejected_with_the_form_to_use(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """libpq accepts both forms, but only one of them is a URL."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:hunter2@one:5432,two:5433/name")
    assert cli.main(program(), ["check"]) == 78
    output = capsys.readouterr().err
    assert "DATABASE_URL: has several hosts; use the form postgresql://user:password@/name?host=" in output
    assert "hunter2" not in output


def test_url_with_several_hosts_uses_the_one_that_accepts_writes(url: Url) -> None:
    there = make_url(url())
    hosts = (f"127.0.0.1:{free_port()}", f"{there.host}:{there.port}")
    several = there.set(host=None, port=None, query={"host": hosts, "target_session_attrs": "read-write"})
    with engine(database_url=several.render_as_string(hide_password=False)) as opened:
        assert show(opened, "port") == str(there.port)


@pytest.mark.parametrize("pooled", [False, True], ids=["directly", "through PgBouncer"])
def test_options_of_the_url_and_the_timeouts_are_in_force(
    request: pytest.FixtureRequest, url: Url, pooled: bool
) -> None:
    options = "-csearch_path=app,public --work_mem=5MB -c application_name=or\\ ders"
    there = url(options=options)
    if pooled:
        there = request.getfixturevalue("through")(url(options=options, pgbouncer="true"))
    with engine(database_url=there, database_statement_timeout_seconds=7) as opened:
        names = ("search_path", "work_mem", "application_name", "statement_timeout")
        assert [show(opened, name) for name in names] == ["app,public", "5MB", "or ders", "7s"]
        assert show(opened, "idle_in_transaction_session_timeout") == "42s"


def test_pgbouncer_enforces_the_statement_timeout(start: Start, url: Url, through: Callable[[str], str]) -> None:
    """The server cancels the statement, and the connection still works."""
    chassis: list[Any] = []
    start(
        install=chassis.append,
        started=False,
        database_url=through(url(pgbouncer="true")),
        database_statement_timeout_seconds=1,
    )
    with sessions(chassis[0]) as in_session:
        with pytest.raises(DBAPIError, match="canceling statement due to statement timeout"):
            in_session([server.SLEEP.format(seconds=60)])
        in_session(["SELECT 1"])


def test_pgbouncer_shares_one_connection_among_clients(url: Url, through: Callable[[str], str]) -> None:
    """Two clients that repeat the same statement would otherwise prepare it under the same name."""
    there = through(url(pgbouncer="true"))
    with engine(database_url=there) as one, engine(database_url=there) as other:
        for opened in [one, other] * 10:
            with opened.connect() as connected:
                assert connected.scalar(text("SELECT CAST(:number AS integer)"), {"number": 7}) == 7


def test_migrate_through_pgbouncer_holds_the_lock(
    migrated: None, url: Url, through: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock belongs to a transaction, so it is neither lost nor left in the pool."""
    monkeypatch.setenv("DATABASE_URL", through(url(pgbouncer="true")))
    assert cli.main(program(), ["migrate", "downgrade", "base"]) == 0
    with engine() as opened, engine() as other, backend.migration_lock(opened, 1):
        waiting = backend.migration_lock(other, 0.2)
        with pytest.raises(module("chassis.database.backend").MigrationError):
            waiting.__enter__()
    assert cli.main(program(), ["migrate"]) == 0
    assert "alembic_version" in tables()
    assert rows("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [0]


def test_migration_lock_does_not_block_an_index_that_is_created_concurrently(folder: Path) -> None:
    """Such a statement waits for all older transactions, so the lock must not belong to one."""
    run("CREATE TABLE things (number integer)")()
    with engine() as opened, backend.migration_lock(opened, 1), opened.connect() as connected:
        connected.execution_options(isolation_level="AUTOCOMMIT")
        connected.execute(text("CREATE INDEX CONCURRENTLY by_number ON things (number)"))


def test_pgbouncer_that_the_url_does_not_mention_is_named(url: Url, through: Callable[[str], str]) -> None:
    with engine(database_url=through(url())) as opened, pytest.raises(DBAPIError) as caught:
        opened.connect()
    assert "pgbouncer=true" in backend.url_problem(caught.value)


@pytest.mark.skipif(not (CHASSIS / "backup").is_dir(), reason="the service makes no backups")
def test_backup_through_pgbouncer_is_refused(
    migrated: None,
    url: Url,
    through: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`pg_dump` changes the session, which PgBouncer would hand to other clients."""
    monkeypatch.setenv("DATABASE_URL", through(url(pgbouncer="true")))
    assert cli.main(program(), ["backup"]) == 1
    assert "PgBouncer" in capsys.readouterr().err
