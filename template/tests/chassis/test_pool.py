"""A database that is a server: it is restarted, frozen, gone, slow and full, and the service lives through it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import make_url

from ..package import module
from ..servers import Server
from .conftest import Logs, Start, settings_for_tests
from .process import until
from .sql import connection, dialect, server
from .unit_of_work import sessions

ASK = ["SELECT 1"]
# Short, so that the tests are; what each may take in all is worked out from them.
LIMITS: dict[str, Any] = {
    "database_connect_timeout_seconds": 2,
    "database_statement_timeout_seconds": 1,
    "database_pool_timeout_seconds": 1,
    "database_pool_size": 2,
    "database_pool_max_overflow": 1,
}
# Where nothing is to be waited for: so long that a busy machine is no outage.
UNHURRIED = {name: 60 for name in LIMITS if "timeout" in name}
# The try of a connection, kept or new, and what a busy machine adds.
BOUND_SECONDS = 2 + 18

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def own() -> Iterator[tuple[Server, str]]:
    """A server of this module's own, because it is about to suffer."""
    assert server is not None
    here, url = server.start()
    yield here, url
    here.remove()


@pytest.fixture
def ask(own: tuple[Server, str], start: Start) -> Iterator[Callable[..., Run]]:
    """Run statements in the service's own pool, with settings of choice; whatever is raised is put as its meaning."""
    here, url = own
    opened: list[Any] = []

    def open_pool(**settings: Any) -> Run:
        services: list[Any] = []
        start(install=services.append, started=False, database_url=url, **(LIMITS | settings))
        context = sessions(services[0])
        opened.append(context)
        in_session = context.__enter__()

        def run(statements: list[str]) -> str:
            try:
                in_session(statements)
            except Exception as error:
                return type(module("chassis.problem").meaning(services[0], error)).__name__
            return "done"

        return run

    yield open_pool
    here.thaw()
    here.bring_back()
    for context in opened:
        context.__exit__(None, None, None)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take nothing for silence that comes late because this machine is busy."""
    monkeypatch.setattr(module("chassis.database.circuit"), "_SILENCE_SECONDS", 30)


def timed(run: Run, statements: list[str]) -> tuple[str, float]:
    began = time.monotonic()
    outcome = run(statements)
    return outcome, time.monotonic() - began


def test_a_restart_of_the_server_costs_no_request(
    own: tuple[Server, str], ask: Callable[..., Run], patient: None
) -> None:
    """A connection is tried before it is used, and replaced when it is dead."""
    run = ask(**UNHURRIED)
    assert run(ASK) == "done"
    own[0].stop()
    own[0].bring_back()
    assert [run(ASK) for _ in range(3)] == ["done"] * 3


def test_without_the_try_it_costs_one_request(own: tuple[Server, str], ask: Callable[..., Run], patient: None) -> None:
    """The first hears 503, and with it all connections of that age are replaced."""
    run = ask(database_pool_pre_ping=False, **UNHURRIED)
    assert run(ASK) == "done"
    own[0].stop()
    own[0].bring_back()
    assert [run(ASK) for _ in range(3)] == ["UnavailableError", "done", "done"]


def test_a_server_that_is_gone_is_unavailable_at_once_until_it_is_back(
    own: tuple[Server, str], ask: Callable[..., Run], patient: None
) -> None:
    """Nothing listens any more: nobody waits for a time-out."""
    run = ask(**UNHURRIED)
    assert run(ASK) == "done"
    own[0].stop()
    outcome, seconds = timed(run, ASK)
    assert outcome == "UnavailableError"
    assert seconds < 20
    own[0].bring_back()
    assert run(ASK) == "done"


@pytest.mark.parametrize("warm", [True, False], ids=["kept connection", "new connection"])
def test_a_server_that_is_frozen_is_unavailable_in_bounded_time(
    own: tuple[Server, str], ask: Callable[..., Run], warm: bool
) -> None:
    """It accepts connections and says nothing, so only the client's own time-outs end the wait."""
    run = ask()
    if warm:
        until(lambda: run(ASK) == "done")
    own[0].freeze()
    outcome, seconds = timed(run, ASK)
    assert outcome == ("CircuitOpenError" if warm else "UnavailableError")
    assert seconds < BOUND_SECONDS
    own[0].thaw()
    until(lambda: run(ASK) == "done")


def test_a_server_that_is_frozen_makes_one_request_wait_and_no_more(
    own: tuple[Server, str], ask: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the next try, the others hear at once that nobody answers."""
    monkeypatch.setattr(module("chassis.database.circuit"), "_RECOVERY_SECONDS", 600)
    run = ask()
    until(lambda: run(ASK) == "done")
    own[0].freeze()
    run(ASK)
    heard = [timed(run, ASK) for _ in range(5)]
    assert [outcome for outcome, _ in heard] == ["CircuitOpenError"] * 5
    assert min(seconds for _, seconds in heard) < 0.5  # a busy machine does not hold up all of them


def test_a_server_that_refuses_is_asked_again_at_once(own: tuple[Server, str], ask: Callable[..., Run]) -> None:
    """To hear a refusal costs nothing, so nobody is kept away."""
    run = ask()
    own[0].stop()
    # One that comes late, on a busy machine, is taken for silence: for a second the others are kept away then.
    until(lambda: [run(ASK) for _ in range(3)] == ["UnavailableError"] * 3)
    own[0].bring_back()
    until(lambda: run(ASK) == "done")


def test_a_statement_that_takes_too_long_is_ended(ask: Callable[..., Run]) -> None:
    """By the server, which says so; the connection is as good as before."""
    assert server is not None
    run = ask()
    outcome, seconds = timed(run, [server.SLEEP.format(seconds=60)])
    assert outcome == "UnavailableError"
    assert 0.9 < seconds < BOUND_SECONDS
    until(lambda: run(ASK) == "done")


def test_a_frozen_server_makes_the_service_unready_within_two_seconds(
    own: tuple[Server, str], start: Start, logs: Logs
) -> None:
    """And leaves it alive; it is ready again when the server goes on."""
    # The time that a check has by default, and a database that is waited for far longer.
    limits = LIMITS | UNHURRIED | {"health_check_timeout_seconds": 2, "health_check_interval_seconds": 0}
    client = start(database_url=own[1], **limits)
    until(lambda: client.get("/health/ready").status_code == 200)
    own[0].freeze()
    try:
        began = time.monotonic()
        assert client.get("/health/ready").status_code == 503
        assert time.monotonic() - began < 20
        assert "no result within 0.8 s" in [line["error"] for line in logs("health_check_failed")]
        details = client.get("/health").json()["checks"]["database"]["details"]
        assert details["pool_size"] == LIMITS["database_pool_size"]
        assert client.get("/health/live").status_code == 200
    finally:
        own[0].thaw()
    until(lambda: client.get("/health/ready").status_code == 200)


def test_a_server_that_is_full_is_unavailable(own: tuple[Server, str], ask: Callable[..., Run]) -> None:
    """Until somebody leaves."""
    assert server is not None
    with server.filled(own[1]):
        assert ask()(ASK) == "UnavailableError"
    run = ask()
    until(lambda: run(ASK) == "done")  # it takes note of those who leave in its own time


def test_the_password_is_never_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither by `settings`, nor when the URL is wrong."""
    secret = make_url(dialect.Settings.url_example).set(password="hunter2").render_as_string(hide_password=False)
    monkeypatch.setenv("DATABASE_URL", secret)
    settings = settings_for_tests()
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in str(module("chassis.settings").in_force(settings))
    assert connection.url_for(settings, dialect.SYNC_DRIVER).password == "hunter2"
