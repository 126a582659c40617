"""The outbox: messages are sent after the commit, survive a crash, and are sent by one replica."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update

from ..package import module
from .conftest import Logs, settings_for_tests
from .notifying import Sender, running
from .process import PATIENCE_SECONDS, until
from .sql import engine, rows
from .upstream import Upstream, serving_upstream, status

notifications = module("chassis.notifications")
outbox = module("chassis.notifications.outbox")
dispatcher = module("chassis.notifications.outbox.dispatcher")
errors = module("chassis.errors")
request_context = module("chassis.request_context")
Message, Result = notifications.Message, notifications.Result

WANTED = {"logging.config", "DatabaseFeature", "notifications.notifier", "Outbox"}
DEAL = Message("Deal found", "Tea for 5 EUR")
LONG_SECONDS = 60
NUMBER, BATCH = 25, outbox.BATCH

Open = Callable[..., Sender]


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = datetime(2030, 5, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **time: float) -> None:
        self.now += timedelta(**time)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def upstream_server() -> Iterator[Upstream]:
    with serving_upstream() as serving:
        yield serving


@pytest.fixture
def upstream(upstream_server: Upstream) -> Upstream:
    upstream_server.received.clear()
    upstream_server.respond(status(204))
    return upstream_server


@pytest.fixture
def replica(folder: Any, upstream: Upstream, clock: Clock) -> Iterator[Open]:
    """Run one more replica of a service with a webhook. One that is not started sends nothing."""
    with engine() as opened:
        module("chassis.database.base").Base.metadata.create_all(opened, [outbox.OutboxMessage.__table__])
    features = [
        feature
        for feature in module("chassis.features").FEATURES
        if getattr(feature, "__name__", type(feature).__name__).rpartition("chassis.")[2] in WANTED
    ]
    with ExitStack() as stack:

        def run(*, started: bool = True, **settings: Any) -> Sender:
            given = {
                "discord_webhook_url": f"{upstream.url}/discord",
                "notifications_timeout_seconds": LONG_SECONDS,
            }
            chassis = module("chassis.app").build(settings_for_tests(**given | settings), features)
            chassis.get(dispatcher.Dispatcher)._clock = clock
            return stack.enter_context(running(chassis, started=started))

        yield run


def stored(column: str) -> list[Any]:
    return rows(f"SELECT {column} FROM notifications_outbox")


def unfinished() -> int:
    return rows("SELECT COUNT(*) FROM notifications_outbox WHERE due_at IS NOT NULL")[0]


def look(sender: Sender) -> Any:
    """Let a replica send the messages that are due, as its task does."""
    return sender.call(sender.chassis.get(dispatcher.Dispatcher).send_due, "discord")


def test_message_is_sent_after_the_commit_and_forgotten(
    replica: Open, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit wakes the channel. The table keeps the key and the result, but neither text nor recipient."""
    monkeypatch.setattr(dispatcher, "POLL_SECONDS", 3600)
    assert replica().in_unit_of_work(DEAL) == {"discord": Result("queued")}
    until(lambda: upstream.received and not unfinished())
    assert [one.path for one in upstream.received] == ["/discord?wait=true"]
    assert (stored("message"), stored("error"), stored("attempts")) == ([""], [None], [1])


def test_message_of_a_unit_of_work_that_failed_is_not_sent(replica: Open, upstream: Upstream, logs: Logs) -> None:
    sender = replica()
    with pytest.raises(KeyError):
        sender.in_unit_of_work(DEAL, error=KeyError())
    assert (look(sender), upstream.received, stored("id"), logs("notification_queued")) == (0, [], [], [])


@pytest.mark.parametrize(
    ("responses", "events"),
    [([204], ["notification_sent"]), ([503, 400], ["notification_postponed", "notification_failed"])],
    ids=["sent", "failed"],
)
def test_entries_of_a_message_lead_to_the_request_that_queued_it(
    responses: list[int], events: list[str], replica: Open, upstream: Upstream, clock: Clock, logs: Logs
) -> None:
    """The entry of the commit has the ids of the request and of the message, and all others the id of the message."""
    sender = replica(started=False)
    token = request_context.bind(request_context.new_context("POST", "/deals", request_id=b"rid-1"))
    try:
        sender.in_unit_of_work(DEAL)
    finally:
        request_context.reset(token)
    (queued,) = logs("notification_queued")
    assert (queued["request_id"], queued["channel"]) == ("rid-1", "discord")
    for code, event in zip(responses, events, strict=True):
        upstream.respond(status(code))
        assert look(sender) == 1
        clock.advance(seconds=LONG_SECONDS)
        (entry,) = logs(event)
        assert entry["delivery_id"] == queued["delivery_id"] == stored("id")[0]


def test_message_survives_a_crash_after_the_commit(replica: Open, upstream: Upstream) -> None:
    """Another replica sends it."""
    replica(started=False).in_unit_of_work(DEAL)
    assert (unfinished(), upstream.received) == (1, [])
    replica()
    until(lambda: not unfinished())
    assert len(upstream.received) == 1


def test_message_whose_sending_crashed_is_sent_after_the_claim(replica: Open, upstream: Upstream, clock: Clock) -> None:
    crashed, other = replica(started=False), replica(started=False)
    crashed.in_unit_of_work(DEAL)
    mine = crashed.chassis.get(dispatcher.Dispatcher)
    claim = lambda session: outbox.claim(session, "discord", clock(), mine._lease, skip_locked=mine._shared)  # noqa: E731
    assert len(crashed.call(mine._transact, claim)) == 1
    assert (look(other), upstream.received) == (0, [])
    clock.now += mine._lease
    assert (look(other), len(upstream.received)) == (1, 1)
    assert stored("attempts") == [2]


def test_key_is_sent_once(replica: Open, upstream: Upstream) -> None:
    sender = replica()
    assert sender.in_unit_of_work(DEAL, key="deal-7") == {"discord": Result("queued")}
    assert sender.in_unit_of_work(DEAL, DEAL, key="deal-7") == {"discord": Result("duplicate")}
    assert sender.in_unit_of_work(DEAL, DEAL, key="deal-8") == {"discord": Result("duplicate")}
    until(lambda: not unfinished())
    assert len(upstream.received) == 2


def test_failed_message_is_retried_when_it_is_due(replica: Open, upstream: Upstream, clock: Clock, logs: Logs) -> None:
    upstream.respond(status(429, retry_after="120"), status(404), status(204))
    sender = replica(started=False)
    sender.in_unit_of_work(DEAL)
    assert (look(sender), len(upstream.received)) == (1, 1)
    clock.advance(seconds=119)
    assert look(sender) == 0
    clock.advance(seconds=2)
    assert (look(sender), stored("error")) == (1, ["the channel responded with 404; check its settings"])
    clock.advance(minutes=5)
    assert (look(sender), len(upstream.received), unfinished()) == (1, 3, 0)
    assert [entry["attempts"] for entry in logs("notification_postponed")] == [1, 2]


@pytest.mark.parametrize(("code", "hours"), [(400, 0), (503, 25)])
def test_message_that_cannot_be_sent_is_given_up(
    code: int, hours: int, replica: Open, upstream: Upstream, clock: Clock, logs: Logs
) -> None:
    upstream.respond(status(code))
    sender = replica(started=False)
    sender.in_unit_of_work(DEAL)
    clock.advance(hours=hours)
    assert (look(sender), unfinished(), stored("error")) == (1, 0, [f"the channel responded with {code}"])
    (entry,) = logs("notification_failed")
    assert (entry["channel"], entry["attempts"]) == ("discord", 1)


@pytest.mark.parametrize("early", [0, 1])
def test_channel_that_is_back_sends_all_that_is_due(
    early: int, replica: Open, upstream: Upstream, clock: Clock
) -> None:
    """One message is the trial call of the open circuit, and the others do not wait for the next trial.

    The circuit still rejects those that are `early`.
    """
    upstream.respond(status(503))
    sender = replica(started=False)
    for number in range(BATCH):
        sender.in_unit_of_work(Message(f"Deal {number}", "Tea"))
    breaker = sender.chassis.get(module("chassis.notifications.notifier").Notifier)._checks["discord"].breaker
    assert (look(sender), breaker.state) == (BATCH, "open")
    passed_seconds = [0] * early
    breaker._clock = lambda: time.monotonic() + (passed_seconds.pop() if passed_seconds else LONG_SECONDS)
    upstream.respond(status(204))
    clock.advance(seconds=LONG_SECONDS)
    assert (look(sender), unfinished(), breaker.state) == (BATCH, early, "closed")


def test_message_that_waits_for_an_open_circuit_is_not_logged_again(
    replica: Open, upstream: Upstream, clock: Clock, logs: Logs
) -> None:
    """Otherwise each waiting message would write an entry at every attempt during an outage."""
    upstream.respond(status(503))
    sender = replica(started=False)
    for number in range(BATCH):
        sender.in_unit_of_work(Message(f"Deal {number}", "Tea"))
    look(sender)
    assert [entry["state"] for entry in logs("circuit_changed")] == ["open"]
    called = len(upstream.received)
    clock.advance(seconds=LONG_SECONDS)
    assert (look(sender), len(upstream.received), unfinished()) == (BATCH, called, BATCH)
    assert len(logs("notification_postponed")) == called


def test_channel_that_was_called_is_logged_whatever_its_error_says(
    replica: Open, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A channel may call a service through another circuit, which is open."""

    async def send(message: Any, delivery_id: str) -> None:
        raise notifications.DeliveryError("unavailable", "the circuit is open")

    sender = replica(started=False)
    notifier = sender.chassis.get(module("chassis.notifications.notifier").Notifier)
    monkeypatch.setattr(notifier.channels["discord"], "send", send)
    sender.in_unit_of_work(DEAL)
    assert (look(sender), len(logs("notification_postponed"))) == (1, 1)


def test_replicas_share_the_messages(replica: Open, upstream: Upstream) -> None:
    """Each message is sent by one replica, even if all replicas read the table at once."""
    senders = [replica(started=False) for _ in range(2)]
    for number in range(NUMBER):
        senders[0].in_unit_of_work(Message(f"Deal {number}", "Tea"))
    failures: list[BaseException] = []

    def work(sender: Sender) -> None:
        while unfinished():
            try:
                look(sender)
            except Exception as error:  # a writer that waits too long, as on SQLite; the task looks again
                if not isinstance(sender.chassis.to_service_error(error), errors.UnavailableError):
                    failures.append(error)
                    return

    threads = [threading.Thread(target=work, args=[sender]) for sender in senders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert failures == []
    assert len({one.body for one in upstream.received}) == len(upstream.received) == NUMBER


def test_channel_that_hangs_does_not_delay_the_others(replica: Open, upstream: Upstream) -> None:
    release = threading.Event()

    def hang(request: Any) -> None:
        if request.path.startswith("/discord"):
            release.wait(PATIENCE_SECONDS)
        status(204)(request)

    upstream.respond(hang)
    sender = replica(slack_webhook_url=f"{upstream.url}/slack")
    try:
        sender.in_unit_of_work(DEAL)
        until(lambda: unfinished() == 1)
        assert rows("SELECT channel FROM notifications_outbox WHERE due_at IS NULL") == ["slack"]
    finally:
        release.set()


def test_shutdown_waits_for_messages_that_are_being_sent(replica: Open, upstream: Upstream) -> None:
    """The result is stored, so that no other replica sends them again."""
    begun, release = threading.Event(), threading.Event()

    def slow(request: Any) -> None:
        begun.set()
        release.wait(PATIENCE_SECONDS)
        status(204)(request)

    upstream.respond(slow)
    chassis = replica(started=False).chassis
    with running(chassis) as sender:
        sender.in_unit_of_work(DEAL)
        assert begun.wait(PATIENCE_SECONDS)
        threading.Timer(0.2, release.set).start()
    assert (len(upstream.received), unfinished()) == (1, 0)


def test_result_is_stored_once_the_database_is_back(
    replica: Open, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that was sent is not sent again because of a short outage."""
    monkeypatch.setattr(dispatcher, "STORE_RETRY_SECONDS", 0.01)
    sender = replica(started=False)
    sender.in_unit_of_work(DEAL)
    mine = sender.chassis.get(dispatcher.Dispatcher)
    transact, calls = mine._transact, []

    async def unavailable_twice(work: Any) -> Any:
        calls.append(work)
        if len(calls) in (2, 3):
            raise errors.UnavailableError()
        return await transact(work)

    mine._transact = unavailable_twice
    assert (look(sender), unfinished(), len(upstream.received)) == (1, 0, 1)


@pytest.mark.parametrize("message", ["{", "[]", '{"subject": "Deal", "text": "Tea", "colour": "red"}'])
def test_unreadable_message_fails_and_does_not_stop_the_channel(
    message: str, replica: Open, upstream: Upstream, logs: Logs
) -> None:
    """It may be one of a newer release, which was rolled back."""
    sender = replica(started=False)
    sender.in_unit_of_work(DEAL)
    with engine() as opened, opened.begin() as connection:
        connection.execute(update(outbox.OutboxMessage).values(message=message))
    sender.in_unit_of_work(DEAL)
    look(sender)
    assert look(sender) == 0
    assert (len(upstream.received), unfinished()) == (1, 0)
    assert sorted(stored("error"), key=str) == [None, "unreadable"]
    assert [entry["delivery_id"] in stored("id") for entry in logs("notification_failed")] == [True]


def test_failure_to_store_one_result_waits_for_the_others(replica: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    sender = replica(started=False)
    sender.in_unit_of_work(DEAL, DEAL)
    mine, begun, ended = sender.chassis.get(dispatcher.Dispatcher), [], []

    async def send(name: str, claimed: Any) -> None:
        begun.append(claimed.id)
        if len(begun) == 1:
            raise errors.UnavailableError
        await asyncio.sleep(0.05)
        ended.append(claimed.id)

    async def look_and_count() -> int:
        with pytest.raises(errors.UnavailableError):
            await mine.send_due("discord")
        return len(ended)

    monkeypatch.setattr(mine, "_send", send)
    assert sender.call(look_and_count) == 1


def test_finished_messages_are_deleted_after_the_retention(replica: Open, clock: Clock) -> None:
    sender = replica(started=False, notifications_retention_days=1)
    mine = sender.chassis.get(dispatcher.Dispatcher)
    sender.in_unit_of_work(DEAL)
    look(sender)
    sender.in_unit_of_work(DEAL)
    for days, left in ((0, 2), (2, 1)):
        clock.advance(days=days)
        mine._next_clean_up = clock()
        sender.call(mine._clean_up)
        assert len(stored("id")) == left
