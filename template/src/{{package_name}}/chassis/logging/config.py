"""Configures logging: one event per entry on stdout, as JSON or coloured text. Standard-library loggers look the same.

Log with `structlog.get_logger(__name__).info("note_created", note_id=7)`: an event name, and fields.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any, Literal

import structlog
from pydantic import Field, ValidationInfo, field_validator

from .. import request_context
from ..app import Chassis
from ..formats import to_json, utc_now
from ..settings import BaseChassisSettings, CommaSeparated, ServiceSettings, view
from .redaction import redact_event
from .sink import SINK

log = structlog.get_logger(__name__)

# Libraries that log too much at INFO. LOG_VERBOSE_LOGGERS names those to log anyway.
_NOISY = ("aiosqlite", "alembic", "asyncio", "httpcore", "httpx", "sqlalchemy", "urllib3", "watchfiles")
_MAX_TEXT_CHARACTERS = 65_536
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
    log_file: Path | None = Field(None, description="File to log to in addition to stdout; it is rotated.")
    log_file_max_bytes: int = Field(50_000_000, gt=0, description="Size at which LOG_FILE is rotated.")
    log_file_backups: int = Field(10, ge=0, description="Number of rotated files to retain.")

    @field_validator("log_format")
    @classmethod
    def _console_is_for_development(cls, value: str, info: ValidationInfo) -> str:
        if value == "console" and info.data.get("environment") != "development":
            raise ValueError("requires ENVIRONMENT=development; set LOG_FORMAT=json")
        return value


Event = MutableMapping[str, Any]
Processor = Callable[[Any, str, Event], Any]


def service_fields(settings: BaseChassisSettings) -> dict[str, str]:
    """Return the resource attributes of every entry (OpenTelemetry resource semantic conventions)."""
    service = view(settings, ServiceSettings)
    return {
        "service.name": service.service_name,
        "service.version": service.service_version,
        "deployment.environment.name": service.environment,
    }


class _CommonFields:
    """Adds the time, the service's attributes and, in a request, the request's fields."""

    def __init__(self, settings: BaseChassisSettings) -> None:
        self._fields = service_fields(settings)

    def __call__(self, _logger: object, method: str, event: Event) -> Event:
        context = request_context.current()
        level = "error" if method == "exception" else method
        request_fields = context.log_fields() if context else {}
        return {"timestamp": utc_now(), "level": level, **self._fields, **request_fields, **event}


class _StructlogHandler(logging.Handler):
    """Sends standard-library records through the same processors; `extra=` becomes fields."""

    def __init__(self, processors: list[Processor]) -> None:
        super().__init__()
        self._processors = processors

    def emit(self, record: logging.LogRecord) -> None:
        try:
            extra = {name: value for name, value in vars(record).items() if name not in _RECORD_ATTRIBUTES}
            event: Any = {**extra, "event": record.getMessage(), "logger": record.name}
            if record.exc_info:
                event["exc_info"] = record.exc_info
            for processor in self._processors:
                event = processor(None, record.levelname.lower(), event)
            SINK.msg(event)
        except Exception:
            self.handleError(record)


def configure(settings: BaseChassisSettings) -> None:
    """Configure structlog and the standard library's logging; a second call replaces the first."""
    chosen = view(settings, Settings)
    # A traceback becomes text before redaction, which would treat its three parts as a list.
    processors: list[Any] = [
        _CommonFields(settings),
        structlog.processors.format_exc_info,
        redact_event,
        _bound,
        *_renderers(chosen),
    ]
    structlog.configure(
        processors=[_name_logger, *processors],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(chosen.log_level)),
        logger_factory=_NamedSink,
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=chosen.log_level, handlers=[_StructlogHandler(processors)], force=True)
    logging.captureWarnings(True)
    for name in _NOISY:
        logging.getLogger(name).setLevel("WARNING")
    for name in chosen.log_verbose_loggers:
        logging.getLogger(name).setLevel(chosen.log_level)
    SINK.close_file()
    if chosen.log_file:
        SINK.add_file(chosen.log_file, chosen.log_file_max_bytes, chosen.log_file_backups)


class _NamedSink:
    """The logger of structlog: writes to the sink and has a name."""

    def __init__(self, name: str = "app") -> None:
        self.name = name

    def __getattr__(self, _level: str) -> Any:
        return SINK.msg


def _name_logger(logger: _NamedSink, _method: str, event: Event) -> Event:
    event.setdefault("logger", logger.name)
    return event


def _renderers(settings: Settings) -> list[Any]:
    if settings.log_format == "json":
        return [_to_json]
    return [structlog.dev.ConsoleRenderer(colors=True), _to_bytes]


def _bound(_logger: object, _method: str, event: Event) -> Event:
    """Cut long texts, such as the message of an exception that quotes its input."""
    for name, value in event.items():
        if isinstance(value, str) and len(value) > _MAX_TEXT_CHARACTERS:
            event[name] = f"{value[:_MAX_TEXT_CHARACTERS]} [cut: {len(value)} characters]"
    return event


def _to_json(_logger: object, _method: str, event: Event) -> bytes:
    return to_json(event)


def _to_bytes(_logger: object, _method: str, text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def install(chassis: Chassis) -> None:
    """Configure logging before any other feature logs."""
    settings = chassis.settings_as(Settings)
    configure(settings)
    log.info("settings_loaded", environment=settings.environment)
    log.info("logging_configured", log_level=settings.log_level, log_format=settings.log_format)
