"""A database server that restarts, hangs, stops, is slow or full, and how the service behaves meanwhile."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import URL, create_engine, make_url

from ..package import CHASSIS, ROOT, module, program
from ..servers import GIVEN_URL, Server
from .conftest import FAULTS, Logs, Start, settings_for_tests
from .process import Process, until
from .sql import backend, connection, run, server
from .sql_server import TABLE
from .test_errors import assert_is_problem
from .unit_of_work import Database, in_request, sessions

QUERY = ["SELECT 1"]
# Short, so that the tests are fast.
LIMITS: dict[str, Any] = {
    "database_connect_timeout_seconds": 2,
    "database_statement_timeout_seconds": 1,
    "database_pool_timeout_seconds": 1,
    "database_pool_size": 2,
    "database_pool_max_overflow": 1,
}
# For tests that are not about timeouts: so long that even a busy machine does not reach them.
LONG = {name: 60 for name in LIMITS if "timeout" in name}
# The timeout for an idle or new connection, plus the delay of a busy machine.
BOUND_SECONDS = 2 + 18

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def own() -> Iterator[tuple[Server, str]]:
    """Start a server for this module only, because its tests stop and freeze it."""
    assert server is not None
    here, url = server.start()
    yield here, url
    here.remove()


@pytest.fixture
def opened() -> list[Any]:
    """The chassis objects that `open_pool` has made."""
    return []


@pytest.fixture
def open_pool(own: tuple[Server, str], start: Start, opened: list[Any]) -> Iterator[Callable[..., Run]]:
    """Open the service's pool with some settings, and return a function that runs statements and names the outcome."""
    here, url = own
    contexts: list[Any] = []

    def open_one(**settings: Any) -> Run:
        start(install=opened.append, started=False, database_url=url, **(LIMITS | settings))
        chassis = opened[-1]
        context = sessions(chassis)
        contexts.append(context)
        in_session = context.__enter__()

        def run(statements: list[str]) -> str:
            try:
                in_session(statements)
            except Exception as error:
                return type(chassis.to_service_error(error)).__name__
            return "done"

        return run

    yield open_one
    here.thaw()
    here.bring_back()
    for context in contexts:
        context.__exit__(None, None, None)


@pytest.fixture
def never_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise the threshold, so that a busy machine is not mistaken for a server that hangs."""
    monkeypatch.setattr(module("chassis.database.pool"), "_HANGS_AFTER_SECONDS", 30)


def timed(run: Run, statements: list[str]) -> tuple[str, float]:
    began = time.monotonic()
    outcome = run(statements)
    return outcome, time.monotonic() - began


def test_restarted_server_fails_no_request(
    own: tuple[Server, str], open_pool: Callable[..., Run], never_hangs: None
) -> None:
    """Each idle connection is tested before use and replaced if it is dead."""
    run = open_pool(**LONG)
    assert run(QUERY) == "done"
    own[0].stop()
    own[0].bring_back()
    assert [run(QUERY) for _ in range(3)] == ["done"] * 3


def test_restarted_server_without_pre_ping_fails_one_request(
    own: tuple[Server, str], open_pool: Callable[..., Run], never_hangs: None
) -> None:
    """That request gets 503, and all connections of the same age are replaced."""
    run = open_pool(database_pool_pre_ping=False, **LONG)
    assert run(QUERY) == "done"
    own[0].stop()
    own[0].bring_back()
    assert [run(QUERY) for _ in range(3)] == ["UnavailableError", "done", "done"]


def test_idle_connection_is_tested_once_per_use_and_a_new_one_is_not(
    open_pool: Callable[..., Run], opened: list[Any], never_hangs: None
) -> None:
    """Every unit of work but the first one sends one ping."""
    run = open_pool(**LONG)
    dialect = opened[-1].get(Database).engine.dialect
    pings: list[Any] = []
    original = dialect.do_ping

    def do_ping(connection: Any) -> Any:
        pings.append(connection)
        return original(connection)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dialect, "do_ping", do_ping)
        assert [run(QUERY) for _ in range(3)] == ["done"] * 3
    assert len(pings) == 2


def test_stopped_server_is_unavailable_at_once_until_it_is_back(
    own: tuple[Server, str], open_pool: Callable[..., Run], never_hangs: None
) -> None:
    """The server refuses the connection, so no request waits for a timeout."""
    run = open_pool(**LONG)
    assert run(QUERY) == "done"
    own[0].stop()
    outcome, seconds = timed(run, QUERY)
    assert outcome == "UnavailableError"
    assert seconds < 20
    own[0].bring_back()
    assert run(QUERY) == "done"


@pytest.mark.parametrize("warm", [True, False], ids=["idle connection", "new connection"])
def test_hanging_server_is_unavailable_within_the_connect_timeout(
    own: tuple[Server, str], open_pool: Callable[..., Run], warm: bool
) -> None:
    """It accepts connections but sends nothing, so only timeouts of the client end the wait."""
    run = open_pool()
    if warm:
        until(lambda: run(QUERY) == "done")
    own[0].freeze()
    outcome, seconds = timed(run, QUERY)
    assert outcome == ("CircuitOpenError" if warm else "UnavailableError")
    assert seconds < BOUND_SECONDS
    own[0].thaw()
    until(lambda: run(QUERY) == "done")


def test_hanging_server_delays_one_request_and_fails_the_others_at_once(
    own: tuple[Server, str], open_pool: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module("chassis.database.pool"), "_RECOVERY_SECONDS", 600)
    run = open_pool()
    until(lambda: run(QUERY) == "done")
    own[0].freeze()
    run(QUERY)
    outcomes = [timed(run, QUERY) for _ in range(5)]
    assert [outcome for outcome, _ in outcomes] == ["CircuitOpenError"] * 5
    assert min(seconds for _, seconds in outcomes) < 0.5  # a busy machine does not delay all of them


def test_refusing_server_does_not_open_the_circuit(own: tuple[Server, str], open_pool: Callable[..., Run]) -> None:
    """A refusal costs nothing, so every request tries the server."""
    run = open_pool()
    own[0].stop()
    # On a busy machine a refusal may take so long that it opens the circuit for a second.
    until(lambda: [run(QUERY) for _ in range(3)] == ["UnavailableError"] * 3)
    own[0].bring_back()
    until(lambda: run(QUERY) == "done")


def test_slow_statement_is_cancelled_and_its_connection_still_works(open_pool: Callable[..., Run]) -> None:
    """The server cancels the statement and reports why."""
    assert server is not None
    run = open_pool()
    outcome, seconds = timed(run, [server.SLEEP.format(seconds=60)])
    assert outcome == "UnavailableError"
    assert 0.9 < seconds < BOUND_SECONDS
    until(lambda: run(QUERY) == "done")


def test_hanging_server_makes_the_service_unready_within_two_seconds(
    own: tuple[Server, str], start: Start, logs: Logs
) -> None:
    """The service stays alive, and is ready again once the server continues."""
    # The default timeout of a check, and database timeouts that are far longer.
    limits = LIMITS | LONG | {"health_check_timeout_seconds": 2, "health_check_cache_seconds": 0}
    client = start(database_url=own[1], **limits)
    until(lambda: client.get("/health/ready").status_code == 200)
    own[0].freeze()
    try:
        # Until the check has timed out, readiness is answered with its last result.
        until(lambda: client.get("/health/ready").status_code == 503, 20)
        assert "no result within 0.8 s" in [entry["error"] for entry in logs("health_check_failed")]
        details = client.get("/health").json()["checks"]["database"]["details"]
        assert details["pool_size"] == LIMITS["database_pool_size"]
        assert client.get("/health/live").status_code == 200
    finally:
        own[0].thaw()
    until(lambda: client.get("/health/ready").status_code == 200)


def test_full_server_is_unavailable_until_connections_are_free(
    own: tuple[Server, str], open_pool: Callable[..., Run]
) -> None:
    assert server is not None
    with server.filled(own[1]):
        assert open_pool()(QUERY) == "UnavailableError"
    run = open_pool()
    until(lambda: run(QUERY) == "done")  # the server notices closed connections with a delay


SCHEME = backend.Settings.url_schemes[0]


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("{scheme}://user:hunter2@host:hunter2/name", "is not a URL of this database"),
        ("'{scheme}://user:hunter2@host/name'", "the quotes are part of the value"),
        ("{scheme}://user:hunter2@host/name?conect_timeout=1", "has unknown parameters: conect_timeout (correct or"),
        ("{scheme}://user:hunter2@host", "names no database; use the form {scheme}://"),
        ("{scheme}://user:hunter2@host/name?connection_limit=1", "connection_limit (set DATABASE_POOL_SIZE instead)"),
    ],
    ids=["port", "literal quotes", "misspelt parameter", "no database", "parameter of a provider"],
)
def test_invalid_database_url_is_rejected_without_its_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str, error: str
) -> None:
    """The error of the URL parser quotes an invalid port, which may be a part of the password."""
    monkeypatch.setenv("DATABASE_URL", url.format(scheme=SCHEME))
    assert module("chassis.cli").main(program(), ["check"]) == 78
    output = "".join(capsys.readouterr())
    assert "DATABASE_URL: " in output
    assert error.format(scheme=SCHEME) in output
    assert "hunter2" not in output


def test_password_in_the_database_url_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = make_url(backend.Settings.url_example).set(password="hunter2").render_as_string(hide_password=False)
    monkeypatch.setenv("DATABASE_URL", secret)
    settings = settings_for_tests()
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in str(module("chassis.settings").in_force(settings))
    assert connection.url_for(settings, backend.SYNC_DRIVER).password == "hunter2"


@pytest.mark.parametrize(
    "url",
    [
        "{scheme}://weird:p@ss%/:#$ w@host/db",
        "{scheme}://u:abc@def:S3cretTail@db:5432/app",
        "{scheme}://u:pa?ss/w@rd=1@host/app",
        "{scheme}://u:ab@cd?x=ef@host/app",
        "{scheme}://u:50%off@host/app",
        "{scheme}://u:p@ss/x?y=1@host/app",
        "{scheme}://u@corp:secret@host/app",
        "{scheme}://u:secret@host:99999/app",
    ],
)
def test_ambiguous_database_url_is_rejected_with_the_way_to_encode_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    """The whole output is this sentence, so it contains no part of the password."""
    monkeypatch.setenv("DATABASE_URL", url.format(scheme=SCHEME))
    assert module("chassis.cli").main(program(), ["check"]) == 78
    assert capsys.readouterr().err == (
        "The settings have 1 problem:\n  DATABASE_URL: is not a URL of this database; use the form "
        f"{backend.Settings.url_example}; write each of @ : / ? # % and spaces in the password as % with two hex "
        "digits, @ as %40\n"
    )


@pytest.mark.parametrize("character", "/:#$ +&=?!'\"\\|[]{}^`<>*~")
def test_password_that_is_not_encoded_reaches_the_driver_unchanged(character: str) -> None:
    settings = settings_for_tests(database_url=f"{SCHEME}://user:a{character}b@host/name")
    url = connection.url_for(settings, backend.SYNC_DRIVER)
    assert (url.password, url.host, url.database) == (f"a{character}b", "host", "name")


# -- a URL, or a user, that the server rejects -------------------------------------------------------------------------


@pytest.fixture
def reader(folder: Path) -> Iterator[URL]:
    """Return the URL of the test's database with a user that may only read it."""
    assert server is not None
    if GIVEN_URL:
        pytest.skip("a server that was given is not for users of the tests")
    url = make_url(server.url(folder))
    server.create_user("reader", "hunter2", reads=url.database)
    yield url.set(username="reader", password="hunter2")
    server.remove(folder)
    server.drop_user("reader")


WRONG_PASSWORD, UNKNOWN_DATABASE = {"password": "wrong-hunter2"}, {"database": "no_such_database"}
COMMANDS = [["migrate"]] + [["backup"]] * (CHASSIS / "backup").is_dir()


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("change", [WRONG_PASSWORD, UNKNOWN_DATABASE, {}], ids=["password", "database", "privilege"])
def test_command_with_a_rejected_url_fails_with_one_sentence(
    folder: Path,
    reader: URL,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    change: dict[str, str],
) -> None:
    """It says what the server rejects and what to do, and exits with 78."""
    if not change and command == ["backup"]:
        pytest.skip("this user may read, so it may make a backup")
    (folder / "migrations").symlink_to(ROOT / "migrations")
    monkeypatch.setenv("DATABASE_URL", reader.set(**change).render_as_string(hide_password=False))
    assert module("chassis.cli").main(program(), command) == 78
    output, error = capsys.readouterr()
    assert output == ""
    assert re.fullmatch(r"The \w+ (was not run|failed): DATABASE_URL: [^\n]+; [^\n]+\n", error)
    assert "hunter2" not in error


@pytest.mark.parametrize("change", [WRONG_PASSWORD, UNKNOWN_DATABASE], ids=["password", "database"])
def test_start_with_a_rejected_url_fails_at_once(reader: URL, start: Start, change: dict[str, str]) -> None:
    """A retry would not help."""
    opened: list[Any] = []
    url = reader.set(**change).render_as_string(hide_password=False)
    start(install=opened.append, started=False, database_url=url)

    async def open_all() -> None:
        async with opened[0].open_lifespans():
            pass

    with pytest.raises(module("chassis.settings").SettingsError, match=r"^DATABASE_URL: "):
        asyncio.run(open_all())


def test_process_with_a_wrong_password_exits_with_78_and_one_sentence(folder: Path, reader: URL) -> None:
    url = reader.set(**WRONG_PASSWORD).render_as_string(hide_password=False)
    process = Process(folder, *FAULTS, DATABASE_URL=url)
    assert process.exit_code() == 78
    (failed,) = [entry for entry in process.lines if entry["level"] == "error"]
    assert failed["event"] == "startup_failed"
    assert failed["cause"].startswith("DATABASE_URL: ")
    assert "Traceback" not in str(failed)
    assert process.stderr == ""


@pytest.mark.skipif(not (CHASSIS / "backup").is_dir(), reason="the service makes no backups")
def test_daily_backup_with_a_wrong_password_exits_with_78_and_one_sentence(
    reader: URL, monkeypatch: pytest.MonkeyPatch, logs: Logs, capsys: pytest.CaptureFixture[str]
) -> None:
    """A retry would read the same setting. Only a new process reads the corrected one."""
    url = reader.set(**WRONG_PASSWORD).render_as_string(hide_password=False)
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("ENVIRONMENT", "test")
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("it tries again"))
    assert module("chassis.cli").main(program(), ["backup", "--daily-at", "02:00"]) == 78
    (failed,) = logs("backup_failed")
    assert failed["error"].startswith("DATABASE_URL: ")
    assert "hunter2" not in str(failed)


def test_user_that_is_rejected_later_makes_the_service_unready_with_the_cause(
    reader: URL, start: Start, logs: Logs
) -> None:
    """The response of the health check is public, so only the log has the name of the user."""
    assert server is not None
    url = reader.render_as_string(hide_password=False)
    client = start(database_url=url, health_check_cache_seconds=0.01, database_pool_recycle_seconds=1)
    assert client.get("/health/ready").status_code == 200
    server.drop_user("reader")
    until(lambda: client.get("/health/ready").status_code == 503)
    assert client.get("/health").json()["checks"]["database"]["error"] == "the settings are rejected"
    (cause,) = {entry["cause"] for entry in logs("health_check_failed")}
    assert re.fullmatch(r"DATABASE_URL: .*reader.*; [^\n]+", cause)
    assert "hunter2" not in cause


def test_statement_without_privilege_is_an_internal_error_with_the_cause_in_the_log(
    reader: URL, start: Start, logs: Logs
) -> None:
    """A missing GRANT is a fault of the deployment: a retry does not help, and the service can do other work."""
    chassis: list[Any] = []
    run(TABLE)()
    client = start(
        {"write": lambda: in_request(chassis[0], "INSERT INTO written (number) VALUES (1)")},
        install=chassis.append,
        database_url=reader.render_as_string(hide_password=False),
    )
    assert_is_problem(client.get("/api/here/write"), 500, "INTERNAL")
    (failed,) = logs("request_failed")
    assert re.search("(permission|command) denied", failed["exception"])
    assert client.get("/health/ready").status_code == 200


def test_cancelled_connection_does_not_open_the_circuit(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine, a health check reaches its time limit before a connection is open."""
    pool = module("chassis.database.pool")
    monkeypatch.setattr(pool, "_HANGS_AFTER_SECONDS", 0)
    without_ping = SimpleNamespace(database_pool_pre_ping=False)
    guarded = pool.guard(create_engine("sqlite://"), without_ping, lambda *_: None)
    with pytest.raises(asyncio.CancelledError), guarded():
        raise asyncio.CancelledError
    with guarded():
        pass
