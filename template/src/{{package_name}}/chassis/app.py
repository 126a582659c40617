"""The chassis object. Features write to it and adapters read from it, so that they do not depend on each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple, Protocol, TypeVar, cast

import stamina
import structlog
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError
from stamina.instrumentation import set_on_retry_hooks

from . import errors
from .health.checks import HealthRegistry
from .instrumentation import MeasurementSource, OperationObserver, measure_counters
from .lifecycle import Lifecycle, Lifespan, on_retry
from .request_context import RequestContext
from .settings import BaseChassisSettings, ServiceSettings, view

log = structlog.get_logger(__name__)

# Translates an exception of a library into a ServiceError, or returns None.
ErrorTranslator = Callable[[BaseException], errors.ServiceError | None]
# Called with each 5xx except those of health probes: the exception, its error_id, and the request or None.
ErrorReporter = Callable[[BaseException, str, RequestContext | None], None]
# Called on the event loop with the request and all its headers (lower-case names) before the framework sees it. It
# raises a ServiceError to reject the request, and may return an awaitable. It must not block.
BeforeRequest = Callable[[RequestContext, Mapping[str, str]], Awaitable[None] | None]
# Called on the event loop once when a request has ended, rejected ones included.
RequestObserver = Callable[[RequestContext], None]
# Called with each redacted log entry, except those of the access log, and with the exception that the entry reports, or
# None. It may run in any thread, and must not block.
LogObserver = Callable[[Mapping[str, Any], BaseException | None], None]

# ASGI 3 (https://asgi.readthedocs.io).
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

T = TypeVar("T")
SettingsT = TypeVar("SettingsT", bound=BaseChassisSettings)


class RouteTable(Protocol):
    """The application's routes, for features that need an endpoint before the framework has chosen the route."""

    def prefixes(self) -> Iterable[tuple[str, object]]:
        """Return the literal start of each route's path, with its endpoint."""

    def resolve(self, method: str, path: str) -> object | None:
        """Return the endpoint that will serve a request, or None."""


class Endpoint(NamedTuple):
    """A route of a feature: `handler` is called with the body of a POST request, and returns a model too."""

    path: str
    body: type[BaseModel]
    handler: Callable[[Any], BaseModel]


@dataclass
class Chassis:
    """The contributions of all features, as plain lists that `main.py` and your own features may extend."""

    settings: BaseChassisSettings
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    health: HealthRegistry = field(default_factory=HealthRegistry)
    lifespans: list[tuple[str, Lifespan]] = field(default_factory=list)
    error_translators: list[ErrorTranslator] = field(default_factory=list)
    error_reporters: list[ErrorReporter] = field(default_factory=list)
    # Called like `before_request` but before the policy, so that they also count requests that the policy rejects.
    request_limiters: list[BeforeRequest] = field(default_factory=list)
    before_request: list[BeforeRequest] = field(default_factory=list)
    # Each sets `principal` or `authentication_error` of a request, if its headers have credentials of the right kind.
    authenticators: list[BeforeRequest] = field(default_factory=list)
    endpoints: list[Endpoint] = field(default_factory=list)
    # ASGI middleware around the framework, within the deadline and after the hooks; the first one is the innermost.
    asgi_middleware: list[Callable[[ASGIApp], ASGIApp]] = field(default_factory=list)
    request_observers: list[RequestObserver] = field(default_factory=list)
    operation_observers: list[OperationObserver] = field(default_factory=list)
    log_observers: list[LogObserver] = field(default_factory=list)
    measurements: list[MeasurementSource] = field(default_factory=list)
    response_headers: dict[str, str] = field(default_factory=dict)
    https_response_headers: dict[str, str] = field(default_factory=dict)
    # Further arguments of `uvicorn.Config`, such as limits for WebSockets.
    server_options: dict[str, Any] = field(default_factory=dict)
    routes: RouteTable | None = None
    # The application with everything around it, for a server; the adapter sets it.
    asgi: ASGIApp | None = None
    _resources: dict[type, Any] = field(default_factory=dict)

    def settings_as(self, cls: type[SettingsT]) -> SettingsT:
        """Return the settings as the class of one feature.

        Raises:
            TypeError: The service's settings do not include that class.
        """
        return view(self.settings, cls)

    def provide(self, resource: object) -> None:
        """Make an object available by its type for as long as the service lives."""
        self._resources[type(resource)] = resource

    def get(self, kind: type[T]) -> T:
        """Return the object that was provided as `kind`.

        Raises:
            LookupError: No object of that type was provided.
        """
        try:
            return cast(T, self._resources[kind])
        except KeyError:
            raise LookupError(f"{kind.__name__} was not provided; add its feature to FEATURES") from None

    def get_or_provide(self, kind: type[T]) -> T:
        """Return the service's only `kind()`, created on first use."""
        if kind not in self._resources:
            self._resources.setdefault(kind, kind())
        return self.get(kind)

    def authenticate(self, context: RequestContext, headers: Mapping[str, str]) -> Awaitable[None] | None:
        """Let the authenticators look for credentials in the headers of a request, once."""
        for authenticator in self.authenticators:
            pending = authenticator(context, headers)
            if pending is not None or context.principal is not None or context.authentication_error is not None:
                return pending
        return None

    def to_service_error(self, cause: BaseException) -> errors.ServiceError:
        """Translate an exception, or the only one in a group, into the error that the caller gets."""
        if isinstance(cause, errors.ServiceError):
            return cause
        for translate in self.error_translators:
            if (error := translate(cause)) is not None:
                return error
        if isinstance(cause, BaseExceptionGroup) and len(cause.exceptions) == 1:
            return self.to_service_error(cause.exceptions[0])
        encoding_errors = (UnicodeEncodeError, TypeError, PydanticSerializationError)  # orjson raises TypeError
        if type(cause) in encoding_errors and str(cause).endswith("surrogates not allowed"):
            return errors.ValidationError("A text has a character that cannot be encoded.")  # JSON can contain it
        return errors.InternalError()

    @asynccontextmanager
    async def open_lifespans(self) -> AsyncIterator[None]:
        """Open the service's resources in order and close them in reverse order.

        An unavailable resource is retried for `STARTUP_TIMEOUT_SECONDS`. Synchronous ones open and close in a thread.
        """

        def is_retryable(error: Exception) -> bool:
            # Do not wait for dependencies once shutdown was requested.
            return not self.lifecycle.draining and isinstance(self.to_service_error(error), errors.UnavailableError)

        timeout_seconds = self.settings_as(ServiceSettings).startup_timeout_seconds
        async with AsyncExitStack() as stack:
            for name, lifespan in self.lifespans:
                attempts = stamina.retry_context(
                    on=is_retryable, attempts=None, timeout=timeout_seconds, wait_initial=0.1, wait_max=2.0
                )
                async for attempt in attempts.with_name(f"open {name}", (), {}):
                    with attempt:
                        await _open(stack, lifespan)
                log.info("dependency_opened", dependency=name)
            yield


async def _open(stack: AsyncExitStack, lifespan: Lifespan) -> None:
    resource = lifespan()
    if isinstance(resource, AbstractAsyncContextManager):
        await stack.enter_async_context(resource)
        return
    await asyncio.to_thread(resource.__enter__)
    stack.push_async_callback(asyncio.to_thread, resource.__exit__, None, None, None)


class Feature(Protocol):
    """The interface of a feature, which is a module or an object. Add your own to `FEATURES` in `main.py`.

    A feature may also have `add_commands(commands)`, which adds commands to `python -m <package>`, and
    `deploy_checks()`, which returns checks for `deploy-check`.
    """

    def install(self, chassis: Chassis) -> None: ...


def build(settings: BaseChassisSettings, features: Sequence[Feature]) -> Chassis:
    """Return a chassis with these features installed in their order."""
    set_on_retry_hooks([on_retry])
    chassis = Chassis(settings, measurements=[measure_counters])
    for feature in features:
        feature.install(chassis)
    log.info("features_installed", features=[_name(feature) for feature in features])
    return chassis


def _name(feature: object) -> str:
    return getattr(feature, "__name__", type(feature).__module__).rpartition("chassis.")[2]


def attach(app: Any, chassis: Chassis) -> None:
    """Store a chassis on its application."""
    app.chassis = chassis


def chassis_of(app: object) -> Chassis:
    """Return the chassis of an application.

    Raises:
        LookupError: `install` was not called for it.
    """
    chassis = getattr(app, "chassis", None)
    if not isinstance(chassis, Chassis):
        raise LookupError("this application has no chassis; call install(app, settings, FEATURES) first")
    return chassis


def asgi_app(app: object) -> ASGIApp:
    """Return an application with its middleware, as any ASGI server serves it and tests call it.

    Raises:
        LookupError: `install` was not called for it.
    """
    asgi = chassis_of(app).asgi
    if asgi is None:
        raise LookupError("this application has no middleware; call install(app, settings, FEATURES) first")
    return asgi


def load_domains(main: str, *names: str) -> list[ModuleType]:
    """Import the domains with these names: packages next to the module `main`, each with `install(app)`.

    `main.py` imports them when it is imported itself, so that a migration knows their models without an application.
    """
    package = main.rpartition(".")[0]
    return [import_module(f"{package}.{name}") for name in names]
