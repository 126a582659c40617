"""Configures logging: one event per entry on stdout, as JSON or coloured text. Standard-library loggers look the same.

Log with `structlog.get_logger(__name__).info("note_created", note_id=7)`: an event name, and fields.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Any, Literal

import structlog
from pydantic import Field, ValidationInfo, field_validator

from .. import request_context
from ..app import Chassis, LogObserver
from ..formats import redact, to_json, utc_now
from ..settings import (
    BaseChassisSettings,
    CommaSeparated,
    ServiceSettings,
    SettingsError,
    is_secret,
    source_warnings,
    view,
)
from . import console
from .sink import SINK

log = structlog.get_logger(__name__)

# Libraries that log too much at INFO. LOG_VERBOSE_LOGGERS names those to log anyway.
_NOISY = ("aiosqlite", "alembic", "asyncio", "httpcore", "httpx", "sqlalchemy", "urllib3", "watchfiles")
# The attributes that every LogRecord has. Any other attribute comes from `extra=`.
_RECORD_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


class Settings(BaseChassisSettings):
    """Logs"""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = Field(
        "INFO", description="Lowest level to log."
    )
    log_format: Literal["json", "console"] = Field(
        "json", description="`console` is coloured text for people, allowed in development only."
    )
    log_verbose_loggers: CommaSeparated = Field(
        [], description="Noisy libraries to log at LOG_LEVEL, such as `httpx,sqlalchemy.engine`."
    )
    log_file: Path | None = Field(
        None, description="File for a copy of the log, in the format of stdout without colours; it is rotated."
    )
    log_file_max_bytes: int = Field(50_000_000, gt=0, description="Size at which LOG_FILE is rotated.")
    log_file_backups: int = Field(10, ge=0, description="Number of rotated files to retain.")

    @field_validator("log_format")
    @classmethod
    def _console_is_for_development(cls, value: str, info: ValidationInfo) -> str:
        if value == "console" and info.data.get("environment") != "development":
            raise ValueError("requires ENVIRONMENT=development; set LOG_FORMAT=json")
        return value


def service_fields(settings: BaseChassisSettings) -> dict[str, str]:
    """Return the resource attributes of every entry (OpenTelemetry resource semantic conventions)."""
    service = view(settings, ServiceSettings)
    return {
        "service.name": service.service_name,
        "service.version": service.service_version,
        "deployment.environment.name": service.environment,
    }


class _NamedSink:
    """The logger of structlog: writes to the sink and has a name."""

    def __init__(self, name: str = "app") -> None:
        self.name = name

    def __getattr__(self, _level: str) -> Any:
        return SINK.msg


class _Renderer:
    """Turns an event into the bytes of an entry, with the fields of the service and of the current request."""

    def __init__(self, settings: BaseChassisSettings, observers: Sequence[LogObserver]) -> None:
        cls = type(settings)
        self._observers = observers
        self._fields = service_fields(settings)
        self._secret_names = frozenset(name for name in cls.model_fields if is_secret(cls, name))
        self._write = to_json if view(settings, Settings).log_format == "json" else console.to_line

    def __call__(self, logger: _NamedSink, method: str, event: MutableMapping[str, Any]) -> bytes:
        level = "error" if method == "exception" else method
        entry = {"timestamp": utc_now(), "level": level, "logger": logger.name, **self._fields}
        try:
            cause = _exception(event.get("exc_info"))
            # A traceback becomes text before redaction, which would treat its three parts as a list.
            event = structlog.processors.format_exc_info(logger, method, event)
            for name in entry.keys() & event.keys():
                event[f"{name}_"] = event.pop(name)
            context = request_context.current()
            request_fields = context.log_fields() if context else {}
            # The fields that every entry needs come first, because redaction cuts an entry that is too large.
            own = {name: event.pop(name) for name in ("event", "exception") if name in event}
            entry = redact({**entry, **request_fields, **own, **event}, self._secret_names)
            for observe in self._observers:
                try:
                    observe(entry, cause)
                except Exception as error:  # logging the error would call the observer again
                    entry["log_observer_error"] = type(error).__name__
            return self._write(entry)
        except Exception as error:  # a log entry must never fail a request
            return to_json({**entry, "event": "log_entry_failed", "cause": type(error).__name__})


def _exception(exc_info: Any) -> BaseException | None:
    """Return the exception of an entry, in each form that structlog and the standard library accept."""
    given = exc_info[1] if isinstance(exc_info, tuple) else exc_info
    return sys.exc_info()[1] if given is True else given


class _StructlogHandler(logging.Handler):
    """Sends standard-library records through the same renderer; `extra=` becomes fields."""

    def __init__(self, render: _Renderer) -> None:
        super().__init__()
        self._render = render

    def emit(self, record: logging.LogRecord) -> None:
        event = {name: value for name, value in vars(record).items() if name not in _RECORD_ATTRIBUTES}
        if "event" in event:
            event["event_"] = event.pop("event")
        try:
            event["event"] = record.getMessage()
        except Exception:  # the arguments do not fit the message
            event |= {"event": record.msg, "args": record.args}
        if record.exc_info:
            event["exc_info"] = record.exc_info
        if record.stack_info:
            event["stack"] = record.stack_info
        SINK.msg(self._render(_NamedSink(record.name), record.levelname.lower(), event))


def configure(settings: BaseChassisSettings, observers: Sequence[LogObserver] = ()) -> None:
    """Configure structlog and the standard library's logging; a second call replaces the first."""
    chosen = view(settings, Settings)
    render = _Renderer(settings, observers)
    structlog.configure(
        processors=[render],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(chosen.log_level)),
        logger_factory=_NamedSink,
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=chosen.log_level, handlers=[_StructlogHandler(render)], force=True)
    logging.captureWarnings(True)
    for name in _NOISY:
        logging.getLogger(name).setLevel("WARNING")
    for name in chosen.log_verbose_loggers:
        logging.getLogger(name).setLevel(chosen.log_level)
    SINK.close_file()
    if chosen.log_file:
        try:
            SINK.add_file(chosen.log_file, chosen.log_file_max_bytes, chosen.log_file_backups)
        except OSError as error:
            problem = f"cannot be written: {error.strerror}; use another path (got '{chosen.log_file}')"
            raise SettingsError([f"LOG_FILE: {problem}"]) from error


def install(chassis: Chassis) -> None:
    """Configure logging before any other feature logs."""
    settings = chassis.settings_as(Settings)
    configure(settings, chassis.log_observers)
    log.info("settings_loaded", environment=settings.environment)
    log.info("logging_configured", log_level=settings.log_level, log_format=settings.log_format)
    for warning in source_warnings(type(settings)):
        log.warning("settings_source_doubtful", warning=warning)
