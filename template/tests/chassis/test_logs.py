"""Logs: one line per entry on stdout, in one format, and without secrets."""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import structlog
from pydantic import BaseModel, SecretStr

from ..package import module
from .conftest import Logs, Start
from .process import PATIENCE_SECONDS

ALWAYS = {
    "timestamp", "level", "event", "logger", "service.name", "service.version", "deployment.environment.name",
}  # fmt: skip
IN_A_REQUEST = {
    "request_id", "trace_id", "span_id", "http.request.method", "url.path", "http.route", "client.address",
}  # fmt: skip

log = structlog.get_logger("orders")

# Values that contain themselves, the second one ten times.
ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)
BUSHY: dict[str, Any] = {}
BUSHY.update((str(number), BUSHY) for number in range(10))


class Unreadable:
    """A value whose own code fails wherever it is used."""

    def __repr__(self) -> str:
        raise RuntimeError("no text")

    def __hash__(self) -> int:
        return 1


class UnreadableMapping(dict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError("no items")


# -- the form of an entry ----------------------------------------------------------------------------------------------


def test_entry_has_time_level_logger_and_service(start: Start, logs: Logs) -> None:
    """The fields of the event are next to them in the entry."""
    start()
    log.info("order_placed", order_id=7)
    (entry,) = logs("order_placed")
    assert entry.keys() >= ALWAYS
    assert (entry["level"], entry["logger"], entry["order_id"]) == ("info", "orders", 7)
    assert (entry["service.name"], entry["service.version"]) == ("demo", "1.2.3")
    assert entry["deployment.environment.name"] == "test"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", entry["timestamp"])
    assert not IN_A_REQUEST & entry.keys()


def test_entry_of_a_request_has_the_fields_of_the_request(start: Start, logs: Logs) -> None:
    start({"work": lambda: log.info("said")}, peer="192.0.2.7").get("/api/here/work")
    (entry,) = logs("said")
    assert entry.keys() >= ALWAYS | IN_A_REQUEST
    assert entry["http.request.method"] == "GET"
    assert entry["url.path"] == "/api/here/work"
    assert entry["client.address"] == "192.0.2.7"


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/api/things/7?limit=3", "/api/things/{thing_id}"),
        ("/api/things/framed/by-us", "/api/things/framed/by-us"),
        ("/nowhere", None),
    ],
)
def test_route_of_a_request_is_the_whole_template(start: Start, logs: Logs, path: str, route: str | None) -> None:
    """The template includes nested routers. It is null where no route matched, and never a raw path."""
    start().get(path)
    assert [entry["http.route"] for entry in logs("request_finished")] == [route]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/api/things/7", 200, None),
        ("/nowhere", 404, "NOT_FOUND"),
        ("/api/here/crash", 500, "INTERNAL"),
        ("/crash-in-middleware", 500, "INTERNAL"),
    ],
)
def test_request_has_one_access_log_entry(start: Start, logs: Logs, path: str, status: int, code: str | None) -> None:
    """The entry has the status, the `error_code` and the duration, however the request ended."""
    start({"crash": lambda: 1 // 0}).get(path)
    (entry,) = logs("request_finished")
    assert entry.keys() >= ALWAYS | IN_A_REQUEST
    assert (entry["http.response.status_code"], entry.get("error_code")) == (status, code)
    assert 0 < entry["duration_ms"] < 60_000
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", entry["timestamp"])


def test_request_rejected_before_the_framework_has_its_access_log_entry(start: Start, logs: Logs) -> None:
    start().get("/", headers={"host": "evil.example"})
    (entry,) = logs("request_finished")
    assert (entry["http.response.status_code"], entry["error_code"]) == (400, "BAD_REQUEST")


def test_query_string_is_not_logged(start: Start, logs: Logs) -> None:
    """A query string may contain a token."""
    start().get("/api/things/7?token=hunter2")
    assert "hunter2" not in str(logs())


# -- standard-library logging ------------------------------------------------------------------------------------------


def test_standard_library_entry_has_the_same_form(start: Start, logs: Logs) -> None:
    """The `extra` of a record becomes fields."""
    start()
    logging.getLogger("library.part").warning("low on %s", "paper", extra={"sheets": 7})
    (entry,) = logs("low on paper")
    assert entry.keys() >= ALWAYS
    assert (entry["level"], entry["logger"], entry["sheets"]) == ("warning", "library.part", 7)


def test_logged_exception_has_its_traceback(start: Start, logs: Logs) -> None:
    """Structlog and the standard library both log the exception in one entry."""
    start()
    try:
        raise KeyError("lost")
    except KeyError:
        logging.getLogger("library").exception("failed")
        log.exception("failed")
    for entry in logs("failed"):
        assert entry["level"] == "error"
        assert "KeyError: 'lost'" in entry["exception"]
        assert "Traceback" in entry["exception"]


def test_exception_logged_after_its_handling_has_its_traceback(start: Start, logs: Logs) -> None:
    """Event loops log "Task exception was never retrieved" this way."""
    start()
    try:
        raise KeyError("lost")
    except KeyError as error:
        caught = error
    logging.getLogger("library").error("failed", exc_info=(KeyError, caught, caught.__traceback__))
    log.error("failed", exc_info=caught)
    assert ["KeyError: 'lost'" in entry["exception"] for entry in logs("failed")] == [True, True]


def test_warning_of_python_is_a_log_entry(start: Start, logs: Logs) -> None:
    start()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("this goes away", DeprecationWarning, stacklevel=1)
    assert [entry["logger"] for entry in logs() if "this goes away" in entry["event"]] == ["py.warnings"]


def test_noisy_library_is_logged_at_info_only_if_named(start: Start, logs: Logs) -> None:
    """LOG_VERBOSE_LOGGERS names the libraries to log."""
    start()
    logging.getLogger("httpx").info("chatter one")
    logging.getLogger("httpx").warning("trouble")
    start(log_verbose_loggers=["httpx"])
    logging.getLogger("httpx").info("chatter two")
    start()
    logging.getLogger("httpx").info("chatter three")
    assert [entry["event"] for entry in logs() if entry["logger"] == "httpx"] == ["trouble", "chatter two"]


# -- levels ------------------------------------------------------------------------------------------------------------


def test_entries_below_log_level_are_not_written(start: Start, logs: Logs) -> None:
    """LOG_LEVEL applies to structlog, the standard library and the access log, which is at INFO."""
    client = start(log_level="WARNING")
    for logger in (log, logging.getLogger("library")):
        logger.info("quiet")
        logger.warning("loud")
    client.get("/nowhere")
    assert [entry["event"] for entry in logs()] == ["loud", "loud"]


def test_debug_entries_are_written_at_log_level_debug_only(start: Start, logs: Logs) -> None:
    start()
    log.debug("detail_off")
    start(log_level="DEBUG")
    log.debug("detail_on")
    assert [entry["event"] for entry in logs() if entry["event"].startswith("detail")] == ["detail_on"]


# -- secrets -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        "authorization", "Authorization", "cookie", "set-cookie", "Set_Cookie", "x-api-key", "X_API_KEY",
        "password", "db_password", "client_secret", "SECRET", "access_token", "sentry_dsn", "api_key", "apiKey",
        "private_key", "passphrase", "backup_key", "SigningKey", "password_hash", "token_value", "userpassword",
        "aws.credentials", "cookies",
    ],
)  # fmt: skip
def test_secret_is_redacted_by_the_name_of_its_key(start: Start, logs: Logs, key: str) -> None:
    """Secrets are redacted at any depth."""
    start()
    log.info("order_placed", **{key: "hunter2"})
    log.info("order_placed", sent={"headers": [{key: "hunter2"}]})
    assert len(logs("order_placed")) == 2
    assert "hunter2" not in str(logs())


class OwnSettings(module("chassis.features").ChassisSettings):
    demo_pin: SecretStr = SecretStr("0000")


@pytest.mark.parametrize("key", ["demo_pin", "DEMO_PIN", "demo-pin"])
def test_secret_is_redacted_by_the_name_of_its_setting(start: Start, logs: Logs, key: str) -> None:
    """A setting of the type SecretStr is a secret, whatever its name."""
    module("chassis.logging.config").configure(OwnSettings(_env_file=None))
    log.info("order_placed", **{key: "hunter2"})
    logging.getLogger("library").info("low", extra={key: "hunter2"})
    assert [entry[key] for entry in logs()] == ["[redacted]"] * 2


class Credentials(BaseModel):
    user: str = "ann"
    password: str = "hunter2"


@dataclass(slots=True)
class Account:
    password: str = "hunter2"


class Headers:
    """Headers as frameworks store them: not a mapping, because a name may occur twice."""

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
def test_secret_in_a_container_is_redacted(start: Start, logs: Logs, value: Any) -> None:
    """Models, dataclasses and headers are logged with their contents, but without secrets."""
    start()
    log.info("order_placed", value=value)
    assert len(logs("order_placed")) == 1
    assert "hunter2" not in str(logs())


@pytest.mark.parametrize("key", ["author", "tokens_left", "passwords_changed", "note", "monkey", "cache_key"])
def test_value_of_another_key_is_not_redacted(start: Start, logs: Logs, key: str) -> None:
    start()
    log.info("order_placed", **{key: "visible"})
    assert logs("order_placed")[0][key] == "visible"


def test_number_of_tokens_is_not_redacted(start: Start, logs: Logs) -> None:
    """A number under a plural is a count. A list under the same name is redacted."""
    start()
    log.info("prompted", prompt_tokens=512, access_tokens=["hunter2"])
    (entry,) = logs("prompted")
    assert (entry["prompt_tokens"], entry["access_tokens"]) == (512, "[redacted]")


# -- any value ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        "two\nlines", "\ud800", 2**70, float("nan"), float("inf"), b"\xff", object(), {1: {2, 3}}, Path("/x"), None,
        ENDLESS, BUSHY, Mock(), Account, {(1, 2): 2**70}, [2**70, "\ud800", float("nan"), float("inf")],
        10**5000, [10**5000], Unreadable(),
        {"one": [Unreadable()]}, {Unreadable(): 1}, UnreadableMapping(), {10**5000: 1}, ValueError(10**5000),
        "x" * 10**6, ["x" * 70_000] * 100, list(range(10**5)), set(range(10**5)), {"x" * 10**6: 1}, b"x" * 10**6,
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_value_of_any_kind_is_written_in_one_line(start: Start, logs: Logs, value: Any) -> None:
    """A newline cannot forge a second entry. Values that JSON does not support are written as text."""
    start()
    log.info("order_placed", value=value)
    logging.getLogger("library").info("order_placed", extra={"value": value})
    entries = logs("order_placed")
    assert len(entries) == 2
    assert all("value" in entry and len(json.dumps(entry)) < 500_000 for entry in entries)


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_value_that_cannot_be_read_does_not_fail_the_request(start: Start, log_format: str) -> None:
    """A log entry must never fail a request."""

    def work() -> None:
        log.info("order_placed", value=Unreadable(), number=10**5000, endless=BUSHY)
        logging.getLogger("library").info("%d sheets", "no number", extra={"value": Unreadable()})

    client = start({"work": work}, environment="development", log_format=log_format)
    assert client.get("/api/here/work").status_code == 200


def test_standard_library_entry_whose_arguments_do_not_fit_is_written(start: Start, logs: Logs) -> None:
    start()
    logging.getLogger("library").info("%d sheets", "no number")
    (entry,) = logs("%d sheets")
    assert entry["args"] == ["no number"]


def test_standard_library_entry_keeps_every_extra_field(start: Start, logs: Logs) -> None:
    """If a field has the name of a field of the entry, it gets an underscore. The stack is kept too."""
    start()
    extra = {"bpm": 70, "level": "high", "timestamp": 1, "logger": "mine", "event": "other", "tags": {"a": [1]}}
    logging.getLogger("library").warning("beat", extra=extra, stack_info=True)
    (entry,) = logs("beat")
    assert (entry["bpm"], entry["tags"], entry["level"], entry["logger"]) == (70, {"a": [1]}, "warning", "library")
    assert [entry[f"{name}_"] for name in ("level", "timestamp", "logger", "event")] == ["high", 1, "mine", "other"]
    assert "test_logs.py" in entry["stack"]


@pytest.mark.parametrize("user_id", [2**70, "\ud800", Unreadable(), 10**5000], ids=["1", "2", "3", "4"])
def test_user_id_of_any_kind_loses_no_access_log_entry(start: Start, logs: Logs, user_id: Any) -> None:
    """Neither this entry nor the next one, which may share a write with it, is lost."""

    def work() -> None:
        context = module("chassis.request_context").current()
        context.user_id = user_id

    client = start({"work": work})
    client.get("/api/here/work")
    client.get("/nowhere")
    assert len(logs("request_finished")) == 2


@pytest.mark.parametrize(("length", "is_cut"), [(65_536, False), (65_537, True), (1_000_000, True)])
def test_text_over_the_limit_is_cut(start: Start, logs: Logs, length: int, is_cut: bool) -> None:
    """A field has at most 65,536 characters, followed by its original length."""
    start()
    log.info("order_placed", note="x" * length)
    (entry,) = logs("order_placed")
    assert entry["note"] == "x" * 65_536 + (f" [cut: {length} characters]" if is_cut else "")


# -- other destinations and forms --------------------------------------------------------------------------------------


def test_log_file_gets_a_copy_and_is_rotated(start: Start, logs: Logs, folder: Path) -> None:
    """The file is rotated at LOG_FILE_MAX_BYTES, and LOG_FILE_BACKUPS older files are retained."""
    path = folder / "logs" / "service.log"
    start(log_file=path, log_file_max_bytes=2000, log_file_backups=2)
    for number in range(50):
        log.info("counted", number=number)
    files = sorted(path.parent.iterdir())
    assert [file.name for file in files] == ["service.log", "service.log.1", "service.log.2"]
    assert all(0 < file.stat().st_size <= 2000 for file in files)
    newest = json.loads(path.read_text().splitlines()[-1])
    assert newest == logs("counted")[-1]


def test_log_file_that_cannot_be_written_is_a_settings_error(start: Start, folder: Path) -> None:
    (folder / "file").touch()
    with pytest.raises(module("chassis.settings").SettingsError, match=r"^LOG_FILE: cannot be written: "):
        start(log_file=folder / "file" / "service.log")


def test_log_file_in_the_console_format_has_no_colours(
    start: Start, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file is not a terminal. Its text is that of stdout."""
    path = folder / "service.log"
    start(environment="development", log_format="console", log_file=path)
    log.warning("order_placed", note="\x1b[31mred")
    line = path.read_text().splitlines()[-1]
    assert "\x1b" not in line
    assert line == re.sub(r"\x1b\[\d+m", "", capsys.readouterr().out.splitlines()[-1])


def test_log_file_of_an_earlier_configuration_is_not_written(start: Start, logs: Logs, folder: Path) -> None:
    path = folder / "service.log"
    start(log_file=path)
    start()
    size = path.stat().st_size
    log.info("counted")
    assert path.stat().st_size == size
    assert len(logs("counted")) == 1


def test_console_format_is_coloured_text(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    """The content and the redaction are the same as in JSON."""
    client = start(environment="development", log_format="console")
    log.info("order_placed", order_id=7, password="hunter2")
    client.get("/nowhere")
    written = capsys.readouterr().out
    assert "\x1b[" in written
    assert "order_placed" in written
    assert "request_finished" in written
    assert "error_code=NOT_FOUND" in written
    assert "hunter2" not in written
    assert not any(line.startswith("{") for line in written.splitlines())


def test_console_line_has_what_a_person_needs(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    """A line fits the width of a screen. It repeats neither the service nor the ids of the trace."""
    elsewhere = structlog.get_logger("library.client")  # the package's own logger is not named
    client = start(
        {"work": lambda: elsewhere.info("order_placed", order_id=7)}, environment="development", log_format="console"
    )
    client.get("/api/here/work", headers={"x-request-id": "0123456789abcdef0123456789abcdef"})
    lines = [re.sub(r"\x1b\[\d+m", "", line) for line in capsys.readouterr().out.splitlines()]
    assert [line for line in lines if len(line) > 120] == []
    placed, finished = (next(line for line in lines if word in line) for word in ("order_placed", "request_finished"))
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d info    order_placed \[library.client\] GET /api/here/work order_id=7 request=01234567", placed
    )
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d info    request_finished GET /api/here/work 200 duration_ms=[\d.]+ request=01234567", finished
    )


def test_console_line_cannot_be_forged(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    """A value with a line break or a control character is escaped, and a long one is cut."""
    start(environment="development", log_format="console")
    log.info("order_placed", note="a\nb\x1b[2J", long="x" * 1000)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "order_placed" in line]
    assert "note='a\\nb\\x1b[2J'" in line
    assert len(line) < 200


def test_console_shows_the_traceback(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    start(environment="development", log_format="console")
    try:
        raise KeyError("lost")
    except KeyError:
        log.exception("failed")
    assert "KeyError: 'lost'" in capsys.readouterr().out.splitlines()


def test_entry_is_flushed_at_once(start: Start, logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the process is killed, no entries are lost in a buffer."""
    start()
    flushed: list[bool] = []
    monkeypatch.setattr(sys.stdout.buffer, "flush", lambda: flushed.append(True), raising=False)
    log.info("order_placed")
    assert flushed


class ShortWriter:
    """A stream that takes at most three bytes at a time, and sometimes none, as an unbuffered pipe may."""

    def __init__(self) -> None:
        self.written = b""
        self._calls = 0

    def write(self, data: bytes) -> int | None:
        self._calls += 1
        if self._calls % 3 == 0:
            return None
        self.written += bytes(data[:3])
        return len(data[:3])

    def flush(self) -> None:
        pass


def test_short_write_of_an_entry_is_completed() -> None:
    """If the stream accepts only a part of an entry, the rest is written afterwards."""
    stream = ShortWriter()
    sink = module("chassis.logging.sink").LogSink(stream)
    sink.msg(b'{"event":"one"}')
    sink.write(b'{"event":"two"}\n{"event":"three"}\n')
    assert stream.written == b'{"event":"one"}\n{"event":"two"}\n{"event":"three"}\n'


class LoggingWriter:
    """A stream that logs while it is written, like a finalizer that garbage collection runs at this moment."""

    def __init__(self) -> None:
        self.sink = module("chassis.logging.sink").LogSink(self)
        self.written = b""
        self._has_logged = False

    def write(self, data: bytes) -> int:
        if not self._has_logged:
            self._has_logged = True
            self.sink.msg(b'{"event":"finalized"}')
        self.written += bytes(data)
        return len(data)

    def flush(self) -> None:
        pass


def test_entry_logged_while_an_entry_is_written_is_written_after_it() -> None:
    """The thread does not wait for its own write, and no entry is lost."""
    stream = LoggingWriter()
    writing = threading.Thread(target=stream.sink.msg, args=[b'{"event":"one"}'], daemon=True)
    writing.start()
    writing.join(PATIENCE_SECONDS)
    assert not writing.is_alive()
    assert stream.written == b'{"event":"one"}\n{"event":"finalized"}\n'


def test_entries_of_many_threads_do_not_mix(start: Start, logs: Logs) -> None:
    """Each entry is one line of JSON, which `logs` parses."""
    start()

    def work(number: int) -> None:
        for _ in range(100):
            log.info("counted", number=number, padding="x" * 1000)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert len(logs("counted")) == 800
