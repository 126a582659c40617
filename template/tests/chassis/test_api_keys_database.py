"""API keys in the database: the commands, revocation, the last use, and an unavailable database."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta
from typing import Any

import httpx
import pytest

from ..package import module, program
from .conftest import Logs, Start
from .process import until
from .sql import rows, run
from .test_authentication import PATH, bearer
from .test_errors import assert_is_problem

cli = module("chassis.cli")
api_keys = module("chassis.api_keys")
request_context = module("chassis.request_context")

Captured = pytest.CaptureFixture[str]


def created(capsys: Captured, name: str = "coffee-app", scopes: str = "notes:read") -> str:
    """Create a key and return it."""
    capsys.readouterr()
    assert cli.main(program(), ["api-keys", "create", name, "--scopes", scopes]) == 0
    return capsys.readouterr().out.removesuffix("\n")


class Clock:
    """The time of the service, which a test sets."""

    def __init__(self) -> None:
        self.now = api_keys.utc_now()

    def __call__(self) -> Any:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def authenticator() -> list[Any]:
    """Return a list that contains the authenticator of the service after its start."""
    return []


@pytest.fixture
def client(start: Start, migrated: None, clock: Clock, authenticator: list[Any]) -> httpx.Client:
    def install(chassis: Any) -> None:
        authenticator.append(chassis.authenticators[0])
        authenticator[0]._clock = clock

    return start(install=install)


def test_created_key_is_accepted_and_a_revoked_one_rejected_within_the_cache(
    client: httpx.Client, clock: Clock, capsys: Captured
) -> None:
    """Only hashes are stored. Two keys of a client are valid until one of them is revoked."""
    one, two = created(capsys), created(capsys)
    assert [client.get(PATH, headers=bearer(key)).json() for key in (one, two)] == ["coffee-app"] * 2
    assert set(rows("SELECT digest FROM api_keys")) == {api_keys.digest_of(key) for key in (one, two)}
    assert cli.main(program(), ["api-keys", "revoke", api_keys.digest_of(one)[:12]]) == 0
    clock.forward(1)
    assert [client.get(PATH, headers=bearer(key)).status_code for key in (one, two)] == [401, 200]


def test_new_key_is_rejected_until_the_keys_are_read_again(
    client: httpx.Client, clock: Clock, capsys: Captured
) -> None:
    """An unknown key is not looked up, because it may be invented."""
    old = created(capsys)
    assert client.get(PATH, headers=bearer(old)).status_code == 200
    new = created(capsys)
    assert client.get(PATH, headers=bearer(new)).status_code == 401
    clock.forward(1)
    assert client.get(PATH, headers=bearer(new)).status_code == 200


def test_revoked_key_is_rejected_after_the_clock_was_set_back(
    client: httpx.Client, clock: Clock, capsys: Captured
) -> None:
    key = created(capsys)
    assert client.get(PATH, headers=bearer(key)).status_code == 200
    assert cli.main(program(), ["api-keys", "revoke", api_keys.digest_of(key)[:12]]) == 0
    clock.forward(-3600)
    assert client.get(PATH, headers=bearer(key)).status_code == 401


def test_expired_key_is_rejected(client: httpx.Client, clock: Clock, capsys: Captured) -> None:
    key = created(capsys)
    clock.forward(90 * 86_400)
    assert client.get(PATH, headers=bearer(key)).status_code == 200
    clock.forward(86_400)
    assert client.get(PATH, headers=bearer(key)).status_code == 401


def test_invented_keys_cost_no_statements(client: httpx.Client, capsys: Captured) -> None:
    """All keys are read at once, however many requests have one."""
    key = created(capsys)
    assert client.get(PATH, headers=bearer(key)).status_code == 200
    run("DROP TABLE api_keys")()
    assert {client.get(PATH, headers=bearer(f"invented{n}")).status_code for n in range(5)} == {401}


def test_last_use_is_stored_at_most_once_a_minute(
    client: httpx.Client, clock: Clock, authenticator: list[Any], capsys: Captured
) -> None:
    key = created(capsys)
    writes: list[Any] = []
    transact = authenticator[0]._transact

    def count(work: Any) -> Any:
        if work is not module("chassis.api_keys.stored").read_keys:
            writes.append(work)
        return transact(work)

    def last_use() -> str:
        capsys.readouterr()
        cli.main(program(), ["api-keys", "list"])
        return str(re.sub(r".*\d\d-\d\d {2,}", "", capsys.readouterr().out.splitlines()[1]))

    authenticator[0]._transact = count
    assert last_use() == "-"
    for seconds in (0, 59, 61, -3600):  # the clock may be set back
        clock.forward(seconds)
        assert client.get(PATH, headers=bearer(key)).status_code == 200
        until(lambda: not authenticator[0]._writing)  # two writes at once may end in any order
    assert last_use() == f"{clock.now:%Y-%m-%d %H:%M}"
    assert len(writes) == 3


def test_unreadable_keys_are_an_error_of_the_service(
    client: httpx.Client, clock: Clock, capsys: Captured, logs: Logs
) -> None:
    """The client's key may be valid, so a 401 would be wrong. Requests without a key are served."""
    key = created(capsys)
    run("DROP TABLE api_keys")()
    assert_is_problem(client.get(PATH, headers=bearer(key)), 500, "INTERNAL")
    assert client.get("/api/things/1", headers=bearer(key)).status_code == 200
    assert client.get(PATH).status_code == 401
    assert len(logs("request_failed")) == 1


def test_migrate_creates_the_table_and_check_agrees(migrated: None) -> None:
    """The table needs no revision of the owner, whatever revisions there are."""
    assert cli.main(program(), ["migrate"]) == 0
    assert rows("SELECT digest FROM api_keys") == []
    assert cli.main(program(), ["migrate", "check"]) == 0


def test_command_without_a_database_fails_with_a_sentence(capsys: Captured) -> None:
    """The table is not there yet."""
    assert cli.main(program(), ["api-keys", "list"]) == 1
    assert "migrate`" in capsys.readouterr().err


def test_last_use_is_written_before_the_database_is_closed(start: Start, migrated: None, capsys: Captured) -> None:
    key = created(capsys)
    installed: list[Any] = []
    start(install=installed.append, started=False)
    context = request_context.RequestContext("rid-1", "a" * 32, "b" * 16, "GET", "/", "127.0.0.1")

    async def use_and_stop() -> None:
        async with installed[0].open_lifespans():
            await installed[0].authenticators[0](context, {"x-api-key": key})

    asyncio.run(use_and_stop())
    assert rows("SELECT name FROM api_keys WHERE last_used_at IS NOT NULL") == ["coffee-app"]
