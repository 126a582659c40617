"""One event a line on stdout, JSON or coloured text; standard-library loggers come out of the same pipe.

Log with `structlog.get_logger(__name__).info("note_created", note_id=7)`: an event name, and fields.
"""

from __future__ import annotations

import logging
import time
from collections.abc import MutableMapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import structlog
from pydantic import Field, ValidationInfo, field_validator

from . import request_context
from .json_text import to_json
from .log_sink import SINK
from .redaction import redact_event
from .service import Service
from .settings import BaseChassisSettings, CommaSeparated

log = structlog.get_logger(__name__)

# Libraries that talk too much at INFO; name one in LOG_VERBOSE_LOGGERS to hear it.
_NOISY = ("aiosqlite", "alembic", "asyncio", "httpcore", "httpx", "sqlalchemy", "urllib3", "watchfiles")


class Settings(BaseChassisSettings):
    """Logs"""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = Field(
        "INFO", description="Lowest level that is written."
    )
    log_format: Literal["json", "console"] = Field(
        "json", description="`console` is coloured text for a person, in development only."
    )
    log_verbose_loggers: CommaSeparated = Field(
        [], description="Noisy libraries to hear at LOG_LEVEL, such as `httpx,sqlalchemy.engine`."
    )
    log_file: Path | None = Field(None, description="Also write to this file, rotated.")
    log_file_max_bytes: int = Field(50_000_000, gt=0, description="Size at which LOG_FILE is rotated.")
    log_file_backups: int = Field(10, ge=0, description="How many rotated files are kept.")

    @field_validator("log_format")
    @classmethod
    def _console_is_for_development(cls, value: str, info: ValidationInfo) -> str:
        if value == "console" and info.data.get("environment") != "development":
            raise ValueError("is for ENVIRONMENT=development only; set LOG_FORMAT=json")
        return value


Event = MutableMapping[str, Any]


class _ServiceFields:
    """Adds when, where from and, in a request, which one."""

    def __init__(self, settings: Any) -> None:
        self._fields = service_fields(settings)

    def __call__(self, _logger: object, method: str, event: Event) -> Event:
        context = request_context.current()
        level = "error" if method == "exception" else method
        asked = context.log_fields() if context else {}
        return {"timestamp": utc_now(), "level": level, **self._fields, **asked, **event}


def service_fields(settings: Any) -> dict[str, str]:
    """Return the resource attributes of every line (OpenTelemetry resource semantic conventions)."""
    return {
        "service.name": settings.service_name,
        "service.version": settings.service_version,
        "deployment.environment.name": settings.environment,
    }


def utc_now() -> str:
    """Return now in RFC 3339, UTC, with microseconds."""
    second, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return f"{_to_the_second(second)}.{nanoseconds // 1000:06}Z"


@lru_cache(maxsize=2)
def _to_the_second(second: int) -> str:
    """Write a second once, for all lines of it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


class _PipeHandler(logging.Handler):
    """Sends standard-library records through the same processors."""

    def __init__(self, processors: list[Any]) -> None:
        super().__init__()
        self._processors = processors

    def emit(self, record: logging.LogRecord) -> None:
        try:
            event: Any = {"event": record.getMessage(), "logger": record.name}
            if record.exc_info:
                event["exc_info"] = record.exc_info
            for processor in self._processors:
                event = processor(None, record.levelname.lower(), event)
            SINK.msg(event)
        except Exception:
            self.handleError(record)


def configure(settings: Any) -> None:
    """Set up structlog and the standard library's logging; calling it again replaces what was there."""
    # A traceback becomes text first: redaction would take its three parts for a list.
    processors = [_ServiceFields(settings), structlog.processors.format_exc_info, redact_event, *_renderers(settings)]
    structlog.configure(
        processors=[_name_logger, *processors],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(settings.log_level)),
        logger_factory=_NamedSink,
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=settings.log_level, handlers=[_PipeHandler(processors)], force=True)
    logging.captureWarnings(True)
    for name in _NOISY:
        logging.getLogger(name).setLevel("WARNING")
    for name in settings.log_verbose_loggers:
        logging.getLogger(name).setLevel(settings.log_level)
    SINK.close_file()
    if settings.log_file:
        SINK.add_file(settings.log_file, settings.log_file_max_bytes, settings.log_file_backups)


class _NamedSink:
    """The sink under a logger's name."""

    def __init__(self, name: str = "app") -> None:
        self.name = name

    def __getattr__(self, _level: str) -> Any:
        return SINK.msg


def _name_logger(logger: _NamedSink, _method: str, event: Event) -> Event:
    event.setdefault("logger", logger.name)
    return event


def _renderers(settings: Any) -> list[Any]:
    if settings.log_format == "json":
        return [_to_json]
    return [structlog.dev.ConsoleRenderer(colors=True), _to_bytes]


def _to_json(_logger: object, _method: str, event: Event) -> bytes:
    return to_json(event)


def _to_bytes(_logger: object, _method: str, line: str) -> bytes:
    return line.encode("utf-8", "backslashreplace")


def install(service: Service) -> None:
    """Configure logging before any other feature has something to say."""
    settings = service.settings
    configure(settings)
    log.info("settings_loaded", environment=settings.environment)
    log.info("logging_configured", log_level=settings.log_level, log_format=settings.log_format)
