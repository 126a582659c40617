"""The one object that features write into and adapters read from: features never meet, adapters never meet features."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, cast
from weakref import WeakKeyDictionary

import structlog

from . import errors
from .health.registry import HealthRegistry
from .lifecycle import Lifecycle
from .request_context import RequestContext

log = structlog.get_logger(__name__)

# Opened in order before the service has started, closed in reverse after it has drained.
Lifespan = Callable[[], AbstractContextManager[object] | AbstractAsyncContextManager[object]]
# Says which ServiceError a foreign exception means, or None when it is somebody else's.
Translator = Callable[[BaseException], errors.ServiceError | None]
# Told of every 5xx but those of /health: the cause, its error_id and the request (None outside of one).
ErrorReporter = Callable[[BaseException, str, RequestContext | None], None]
# Judges a request by its context and its wanted headers before the framework sees it; raises a ServiceError to refuse.
# On ASGI it may return something to await.
Admission = Callable[[RequestContext, Mapping[str, str]], Any]

T = TypeVar("T")


class Endpoints(Protocol):
    """The handlers of an application, for those who must know one before the framework has chosen it."""

    def starts(self) -> Iterable[tuple[str, object]]:
        """Return what the paths of each handler start with, and the handler."""

    def find(self, method: str, path: str) -> object | None:
        """Return the handler that will serve a request, if any will."""


@dataclass
class Service:
    """What the features put together, as plain lists. `settings` holds the settings of them all."""

    settings: Any
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    health: HealthRegistry = field(default_factory=HealthRegistry)
    lifespans: list[tuple[str, Lifespan]] = field(default_factory=list)
    translators: list[Translator] = field(default_factory=list)
    error_reporters: list[ErrorReporter] = field(default_factory=list)
    admissions: list[Admission] = field(default_factory=list)
    endpoints: Endpoints | None = None
    response_headers: dict[str, str] = field(default_factory=dict)
    https_response_headers: dict[str, str] = field(default_factory=dict)
    resources: dict[type, Any] = field(default_factory=dict)

    def provide(self, resource: object) -> None:
        """Make something that lives as long as the service available by its type."""
        self.resources[type(resource)] = resource

    def get(self, kind: type[T]) -> T:
        """Return what was provided as `kind`.

        Raises:
            LookupError: nothing of that type was provided.
        """
        try:
            return cast(T, self.resources[kind])
        except KeyError:
            raise LookupError(f"no {kind.__name__} was provided; is its feature in FEATURES?") from None

    def get_or_provide(self, kind: type[T]) -> T:
        """Return the one `kind()` of this service, made on first use."""
        if kind not in self.resources:
            self.resources.setdefault(kind, kind())
        return cast(T, self.resources[kind])


class Feature(Protocol):
    """What a feature offers, be it a module or an object; yours may stand beside the chassis's in `FEATURES`.

    One that also has `add_commands(commands)` adds commands to `python -m <package>`; one that has `production_rows()`
    adds rows to `prod-check`.
    """

    def install(self, service: Service) -> None: ...


def build(settings: Any, features: Sequence[Feature]) -> Service:
    """Return the service that these features make, installed in their order."""
    service = Service(settings)
    for feature in features:
        feature.install(service)
    log.info("features_installed", features=[getattr(f, "__name__", type(f).__name__) for f in features])
    return service


_services: WeakKeyDictionary[object, Service] = WeakKeyDictionary()


def attach(app: object, service: Service) -> None:
    """Remember which service an application was installed with."""
    _services[app] = service


def service_of(app: object) -> Service:
    """Return the service of an application.

    Raises:
        LookupError: `install` was not called for it.
    """
    try:
        return _services[app]
    except KeyError:
        raise LookupError("this application has no chassis; call install(app, settings, FEATURES) first") from None
