"""Logs: one event a line on stdout, in one form whoever wrote it, and without secrets."""

from __future__ import annotations

import json
import logging
import re
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import structlog
from pydantic import BaseModel

from ..package import module
from .conftest import Logs, Start

ALWAYS = {
    "timestamp", "level", "event", "logger", "service.name", "service.version", "deployment.environment.name",
}  # fmt: skip
IN_A_REQUEST = {
    "request_id", "trace_id", "span_id", "http.request.method", "url.path", "http.route", "client.address",
}  # fmt: skip

log = structlog.get_logger("orders")

# A value that contains itself.
ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)


# -- the form of a line ------------------------------------------------------------------------------------------------


def test_a_line_says_what_when_and_where_from(start: Start, logs: Logs) -> None:
    """Every line has these fields; what the event adds stands beside them."""
    start()
    log.info("order_placed", order_id=7)
    (line,) = logs("order_placed")
    assert line.keys() >= ALWAYS
    assert (line["level"], line["logger"], line["order_id"]) == ("info", "orders", 7)
    assert (line["service.name"], line["service.version"]) == ("demo", "1.2.3")
    assert line["deployment.environment.name"] == "test"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["timestamp"])
    assert not IN_A_REQUEST & line.keys()


def test_a_line_of_a_request_says_which_one(start: Start, logs: Logs) -> None:
    """The fields of the request stand in every line that is written while it is served."""
    start({"work": lambda: log.info("said")}, peer="192.0.2.7").get("/api/here/work")
    (line,) = logs("said")
    assert line.keys() >= ALWAYS | IN_A_REQUEST
    assert line["http.request.method"] == "GET"
    assert line["url.path"] == "/api/here/work"
    assert line["client.address"] == "192.0.2.7"


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/api/things/7?limit=3", "/api/things/{thing_id}"),
        ("/api/things/framed/by-us", "/api/things/framed/by-us"),
        ("/nowhere", None),
    ],
)
def test_the_route_is_the_whole_template(start: Start, logs: Logs, path: str, route: str | None) -> None:
    """Behind two routers too; never a raw path, of which there are endlessly many, and none where nothing matched."""
    start().get(path)
    assert [line["http.route"] for line in logs("request_finished")] == [route]


@pytest.mark.parametrize(
    ("path", "status"),
    [("/api/things/7", 200), ("/nowhere", 404), ("/api/here/crash", 500), ("/crash-in-middleware", 500)],
)
def test_a_request_has_one_line_of_its_own(start: Start, logs: Logs, path: str, status: int) -> None:
    """`request_finished` once, with status and duration, however the request ended."""
    start({"crash": lambda: 1 // 0}).get(path)
    (line,) = logs("request_finished")
    assert line.keys() >= ALWAYS | IN_A_REQUEST
    assert line["http.response.status_code"] == status
    assert 0 < line["duration_ms"] < 60_000
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["timestamp"])


def test_a_request_that_is_refused_at_the_door_has_its_line_too(start: Start, logs: Logs) -> None:
    """A foreign host never reaches the application, and is seen all the same."""
    start().get("/", headers={"host": "evil.example"})
    assert [line["http.response.status_code"] for line in logs("request_finished")] == [400]


def test_a_query_string_is_not_logged(start: Start, logs: Logs) -> None:
    """It may hold a token."""
    start().get("/api/things/7?token=hunter2")
    assert "hunter2" not in str(logs())


# -- standard-library logging ------------------------------------------------------------------------------------------


def test_standard_library_loggers_come_out_in_the_same_form(start: Start, logs: Logs) -> None:
    """A library's line has the fields of ours."""
    start()
    logging.getLogger("library.part").warning("low on %s", "paper")
    (line,) = logs("low on paper")
    assert line.keys() >= ALWAYS
    assert (line["level"], line["logger"]) == ("warning", "library.part")


def test_their_exceptions_keep_the_traceback(start: Start, logs: Logs) -> None:
    """In one line, as ours do."""
    start()
    try:
        raise KeyError("lost")
    except KeyError:
        logging.getLogger("library").exception("failed")
        log.exception("failed")
    for line in logs("failed"):
        assert line["level"] == "error"
        assert "KeyError: 'lost'" in line["exception"]
        assert "Traceback" in line["exception"]


def test_an_exception_that_is_told_of_later_keeps_its_traceback(start: Start, logs: Logs) -> None:
    """An event loop tells of a task's failure when nobody is handling it any more."""
    start()
    try:
        raise KeyError("lost")
    except KeyError as error:
        kept = error
    logging.getLogger("library").error("failed", exc_info=(KeyError, kept, kept.__traceback__))
    log.error("failed", exc_info=kept)
    assert ["KeyError: 'lost'" in line["exception"] for line in logs("failed")] == [True, True]


def test_warnings_of_python_are_log_lines(start: Start, logs: Logs) -> None:
    """A deprecated call does not write past the pipe."""
    start()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("this goes away", DeprecationWarning, stacklevel=1)
    assert [line["logger"] for line in logs() if "this goes away" in line["event"]] == ["py.warnings"]


def test_noisy_libraries_are_quiet_and_can_be_named_back(start: Start, logs: Logs) -> None:
    """LOG_VERBOSE_LOGGERS gives a library its voice."""
    start()
    logging.getLogger("httpx").info("chatter one")
    logging.getLogger("httpx").warning("trouble")
    start(log_verbose_loggers=["httpx"])
    logging.getLogger("httpx").info("chatter two")
    start()
    logging.getLogger("httpx").info("chatter three")
    assert [line["event"] for line in logs() if line["logger"] == "httpx"] == ["trouble", "chatter two"]


# -- levels ------------------------------------------------------------------------------------------------------------


def test_log_level_is_the_lowest_that_is_written(start: Start, logs: Logs) -> None:
    """Both for our loggers and the standard library's; the access line is at INFO."""
    client = start(log_level="WARNING")
    for logger in (log, logging.getLogger("library")):
        logger.info("quiet")
        logger.warning("loud")
    client.get("/nowhere")
    assert [line["event"] for line in logs()] == ["loud", "loud"]


def test_debug_can_be_switched_on(start: Start, logs: Logs) -> None:
    """It is off by default."""
    start()
    log.debug("detail_off")
    start(log_level="DEBUG")
    log.debug("detail_on")
    assert [line["event"] for line in logs() if line["event"].startswith("detail")] == ["detail_on"]


# -- secrets -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        "authorization", "Authorization", "cookie", "set-cookie", "Set_Cookie", "x-api-key", "X_API_KEY",
        "password", "db_password", "client_secret", "SECRET", "access_token", "sentry_dsn",
    ],
)  # fmt: skip
def test_secrets_are_redacted_by_the_name_of_their_key(start: Start, logs: Logs, key: str) -> None:
    """At the top and however deep they lie."""
    start()
    log.info("order_placed", **{key: "hunter2"})
    log.info("order_placed", sent={"headers": [{key: "hunter2"}]})
    assert len(logs("order_placed")) == 2
    assert "hunter2" not in str(logs())


class Credentials(BaseModel):
    user: str = "ann"
    password: str = "hunter2"


@dataclass(slots=True)
class Account:
    password: str = "hunter2"


class Headers:
    """As the frameworks have them: no mapping, because a name may stand in them twice."""

    def items(self) -> Iterator[tuple[str, str]]:
        yield "Authorization", "hunter2"

    def __repr__(self) -> str:
        return str(list(self.items()))


@pytest.mark.parametrize(
    "value",
    [
        Credentials(), Account(), Headers(), [Account()], [(b"authorization", b"hunter2"), (b"accept", b"*/*")],
        [["cookie", "hunter2"]], {"http.request.header.authorization": "hunter2"}, {b"x-api-key": "hunter2"},
    ],
    ids=["model", "dataclass", "headers", "in a list", "pairs", "lists", "attribute", "bytes"],
)  # fmt: skip
def test_whatever_has_keys_is_redacted(start: Start, logs: Logs, value: Any) -> None:
    """Models, dataclasses and headers are written with their contents, so they are looked into first."""
    start()
    log.info("order_placed", value=value)
    assert len(logs("order_placed")) == 1
    assert "hunter2" not in str(logs())


@pytest.mark.parametrize("key", ["author", "tokens_left", "passwords_changed", "note"])
def test_other_keys_are_left_alone(start: Start, logs: Logs, key: str) -> None:
    """Redaction goes by whole names and by endings."""
    start()
    log.info("order_placed", **{key: "visible"})
    assert logs("order_placed")[0][key] == "visible"


# -- what cannot break a line ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        "two\nlines", "\ud800", 2**70, float("nan"), float("inf"), b"\xff", object(), {1: {2, 3}}, Path("/x"), None,
        ENDLESS, Mock(), Account, {(1, 2): 2**70}, [2**70, "\ud800"],
    ],
    ids=repr,
)  # fmt: skip
def test_no_value_loses_or_breaks_a_line(start: Start, logs: Logs, value: Any) -> None:
    """A newline does not forge a second event; what JSON does not know is written as text."""
    start()
    log.info("order_placed", value=value)
    assert len(logs("order_placed")) == 1


@pytest.mark.parametrize("user_id", [2**70, "\ud800"], ids=["number", "surrogate"])
def test_no_user_id_loses_an_access_line(start: Start, logs: Logs, user_id: Any) -> None:
    """Neither its own nor that of the next request, which may be written together with it."""

    def work() -> None:
        context = module("chassis.request_context").current()
        context.user_id = user_id

    client = start({"work": work})
    client.get("/api/here/work")
    client.get("/nowhere")
    assert len(logs("request_finished")) == 2


# -- the other places and forms ----------------------------------------------------------------------------------------


def test_log_file_gets_a_copy_and_is_rotated(start: Start, logs: Logs, folder: Path) -> None:
    """At LOG_FILE_MAX_BYTES a new file begins; LOG_FILE_BACKUPS old ones are kept."""
    path = folder / "logs" / "service.log"
    start(log_file=path, log_file_max_bytes=2000, log_file_backups=2)
    for number in range(50):
        log.info("counted", number=number)
    files = sorted(path.parent.iterdir())
    assert [file.name for file in files] == ["service.log", "service.log.1", "service.log.2"]
    assert all(0 < file.stat().st_size <= 2000 for file in files)
    newest = json.loads(path.read_text().splitlines()[-1])
    assert newest == logs("counted")[-1]


def test_a_file_is_only_written_where_log_file_says_so(start: Start, logs: Logs, folder: Path) -> None:
    """Configuring again replaces what was there."""
    path = folder / "service.log"
    start(log_file=path)
    start()
    size = path.stat().st_size
    log.info("counted")
    assert path.stat().st_size == size
    assert len(logs("counted")) == 1


def test_console_is_text_for_a_person(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    """Coloured lines with the same content, the access line among them; secrets are redacted here too."""
    client = start(environment="development", log_format="console")
    log.info("order_placed", order_id=7, password="hunter2")
    client.get("/nowhere")
    written = capsys.readouterr().out
    assert "\x1b[" in written
    assert "order_placed" in written
    assert "request_finished" in written
    assert "hunter2" not in written
    assert not any(line.startswith("{") for line in written.splitlines())


def test_a_line_is_written_at_once(start: Start, logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process said before it was killed is not lost in a buffer."""
    start()
    flushed: list[bool] = []
    monkeypatch.setattr(sys.stdout.buffer, "flush", lambda: flushed.append(True), raising=False)
    log.info("order_placed")
    assert flushed
