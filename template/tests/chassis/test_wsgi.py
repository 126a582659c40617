"""What only a service of threads has to see to."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import pytest

from ..package import module
from .conftest import Start
from .process import PATIENCE_SECONDS

access_lines = module("chassis.access_lines.wsgi")
errors = module("chassis.errors")
limits = module("chassis.limits.wsgi")
RequestContext = module("chassis.request_context").RequestContext


@pytest.mark.parametrize(("content", "ends"), [(b" " * 1001, True), (b"", False)], ids=["body", "no body"])
def test_a_refusal_with_its_body_unread_says_that_the_connection_ends(start: Start, content: bytes, ends: bool) -> None:
    """The server closes a connection on which half a request was read; a client must not send the next one there."""
    answer = start(max_request_body_bytes=1000).post("/nowhere", content=content)
    assert answer.status_code == (413 if ends else 404)
    assert ("connection" in answer.headers) == ends


def test_lines_are_written_after_one_write_has_failed() -> None:
    """A disk that is full for a moment must not end the thread that writes them."""
    failed, written = threading.Event(), threading.Event()

    def write(_ended: object) -> None:
        if failed.is_set():
            written.set()
        else:
            failed.set()
            raise OSError("no space left on device")

    lines = access_lines.LineWriter(write)
    with lines.in_background():
        lines.add(RequestContext("first", "", "", "GET", "/", ""))
        assert failed.wait(PATIENCE_SECONDS)
        lines.add(RequestContext("second", "", "", "GET", "/", ""))
        assert written.wait(PATIENCE_SECONDS)


# -- slots -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send nobody away because this machine is busy with other things for a while."""
    monkeypatch.setattr(limits, "_PATIENCE_SECONDS", 15)


def test_who_waits_gets_a_slot_that_becomes_free(threads: ThreadPoolExecutor, patient: None) -> None:
    """Even when nobody ends another request after that."""
    slots = limits.Slots(1)
    slots.take()
    late = threads.submit(slots.take)
    slots.give_back()
    late.result(PATIENCE_SECONDS)


def test_who_waits_has_a_turn_however_busy_the_others_are(threads: ThreadPoolExecutor, patient: None) -> None:
    """A thread that takes every slot it gives back hands it over in the end, and loses none."""
    slots, enough = limits.Slots(1), threading.Event()

    def work() -> None:
        while not enough.is_set():
            slots.take()
            time.sleep(0.002)
            slots.give_back()

    slots.take()
    late = [threads.submit(slots.take) for _ in range(3)]
    busy = threads.submit(work)
    slots.give_back()
    try:
        for one in as_completed(late, PATIENCE_SECONDS):  # the first to look for a slot need not be the first that came
            one.result()
            slots.give_back()
    finally:
        enough.set()
    busy.result(PATIENCE_SECONDS)
    slots.take()


def test_when_no_request_ends_those_that_wait_are_sent_away() -> None:
    """The first after a while, others at once, nobody any more when one has ended."""
    slots = limits.Slots(2)
    slots.take()
    slots.take()
    with pytest.raises(errors.UnavailableError):
        slots.take()
    assert min(seconds_until_refused(slots) for _ in range(5)) < 0.5  # a busy machine does not hold up all of them
    slots.give_back()
    slots.take()


def seconds_until_refused(slots: Any) -> float:
    began = time.monotonic()
    with pytest.raises(errors.UnavailableError):
        slots.take()
    return time.monotonic() - began


def test_no_more_are_worked_on_than_there_are_slots(threads: ThreadPoolExecutor, patient: None) -> None:
    """Whoever comes, waits and goes meanwhile."""
    slots, at_once, most = limits.Slots(3), [], []

    def work() -> None:
        for _ in range(200):
            slots.take()
            at_once.append(None)
            most.append(len(at_once))
            time.sleep(0.0001)
            at_once.pop()
            slots.give_back()

    for one in [threads.submit(work) for _ in range(8)]:
        one.result(PATIENCE_SECONDS)
    assert max(most) <= 3
