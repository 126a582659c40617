"""Serves metrics from threads, so that Prometheus gets the most important ones even while the event loop hangs."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from inspect import isawaitable
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import structlog
from prometheus_client import CollectorRegistry, Gauge, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from ..instrumentation import Measurement, MeasurementSource
from ..settings import SettingsError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

log = structlog.get_logger(__name__)

# How long a scrape waits for measurements, and how much longer for an event loop that hangs. Prometheus waits for
# 10 seconds.
_READ_SECONDS = 3.0
_GRACE_SECONDS = 1.0
# How long a connection may stall.
_STALLED_SECONDS = 10.0
# How long the server waits after it could not accept a connection, for example because no file descriptor is left.
# Without this wait, it would try again immediately and use a whole CPU.
_ACCEPT_RETRY_SECONDS = 0.1
_UNITS = {"": "", "s": "seconds", "By": "bytes"}
_PROBE_SECONDS = 0.25
_PROBES_PER_MINUTE = 240


class EventLoopLag:
    """Measures how late the event loop resumes a task that is due."""

    def __init__(self) -> None:
        self._delays: deque[float] = deque([0.0], maxlen=_PROBES_PER_MINUTE)
        self._due = 0.0

    def longest_seconds(self) -> float:
        """Return the longest delay within the last minute, including one that still lasts."""
        return max(*self._delays.copy(), time.monotonic() - self._due if self._due else 0.0)

    async def measure(self) -> None:
        """Measure until the task is cancelled."""
        while True:
            self._due = time.monotonic() + _PROBE_SECONDS
            await asyncio.sleep(_PROBE_SECONDS)
            self._delays.append(time.monotonic() - self._due)


class Measurements:
    """Reads the measurements of all features for one scrape."""

    def __init__(self, sources: Sequence[MeasurementSource], loop: asyncio.AbstractEventLoop) -> None:
        self._sources = sources
        self._loop = loop

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """Return the metrics, or none if the event loop hangs."""
        reading = asyncio.run_coroutine_threadsafe(self._read(), self._loop)
        try:
            found = reading.result(_READ_SECONDS + _GRACE_SECONDS)
        except TimeoutError:
            reading.cancel()
            log.warning("measurements_missing", cause="the event loop is blocked")
            return
        named: dict[str, list[Measurement]] = defaultdict(list)
        for measurement in found:
            named[measurement.name].append(measurement)
        for measurements in named.values():
            try:
                yield _family(measurements)
            except Exception:
                log.exception("measurement_failed", measurement=measurements[0].name)

    async def _read(self) -> list[Measurement]:
        found: list[Measurement] = []
        deadline = self._loop.time() + _READ_SECONDS
        for source in self._sources:
            try:
                async with asyncio.timeout_at(deadline):
                    read = source()
                    found += await read if isawaitable(read) else read
            except Exception:
                log.exception("measurement_failed")
        return found


def _family(measurements: Sequence[Measurement]) -> GaugeMetricFamily | CounterMetricFamily:
    """Convert measurements with the same name into one metric."""
    first = measurements[0]
    labels = sorted({name for measurement in measurements for name in measurement.attributes})
    kind = CounterMetricFamily if first.kind == "counter" else GaugeMetricFamily
    spelled = [name.replace(".", "_") for name in (first.name, *labels)]
    family = kind(spelled[0], first.description, labels=spelled[1:], unit=_UNITS[first.unit])
    for measurement in measurements:
        values = [str(measurement.attributes.get(name, "")).encode(errors="replace").decode() for name in labels]
        family.add_metric(values, float(measurement.value))
    return family


class _Handler(WSGIRequestHandler):
    timeout = _STALLED_SECONDS

    def log_message(self, *_: Any) -> None:
        """Log nothing: a scrape is not traffic."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    allow_reuse_port = False
    request_queue_size = 512  # with the default of 5, a burst of connections stalls until TCP retransmits

    def __init__(self, host: str, port: int) -> None:
        resolved = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        self.address_family, address = resolved[0], resolved[4]
        super().__init__(address[:2], _Handler)  # type: ignore[arg-type]

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            return super().get_request()
        except OSError:
            time.sleep(_ACCEPT_RETRY_SECONDS)
            raise

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # HTTPServer would look up the name of the host in the DNS
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()

    def handle_error(self, *_: Any) -> None:
        """Ignore a client that disconnects; the default writes a traceback to stderr."""


class MetricsServer:
    """Serves a registry and the measurements of the features, over HTTP/1.0 and one thread per request."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry, sources: Sequence[MeasurementSource]) -> None:
        self._host = host
        self._port = port
        self._registry = registry
        self._sources = sources

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Serve until the service stops.

        Raises:
            SettingsError: The address is in use or does not exist.
        """
        registry = CollectorRegistry()
        registry.register(self._registry)
        registry.register(Measurements(self._sources, asyncio.get_running_loop()))
        # Registered last, so that the delay includes the time that this scrape has waited for the event loop.
        lag, description = EventLoopLag(), "Longest delay of the event loop within the last minute."
        Gauge("event_loop_lag_seconds", description, registry=registry).set_function(lag.longest_seconds)
        server, self._is_closing = self._listen(), False
        server.set_app(_app(registry))
        thread = threading.Thread(target=self._serve, args=[server], name="metrics", daemon=True)
        thread.start()
        measuring = asyncio.create_task(lag.measure())
        log.info("metrics_listening", host=server.server_name, port=server.server_port)
        try:
            yield
        finally:
            measuring.cancel()
            self._is_closing = True
            await asyncio.to_thread(_wake, server, thread)
            server.server_close()

    def _listen(self) -> _Server:
        try:
            return _Server(self._host, self._port)
        except (OSError, UnicodeError) as error:  # UnicodeError: the name of the host is invalid
            where, cause = f"{self._host}:{self._port}", getattr(error, "strerror", None) or error
            raise SettingsError(
                [f"METRICS_PORT: cannot listen on {where} ({cause}); set another METRICS_HOST or METRICS_PORT"]
            ) from error

    def _serve(self, server: _Server) -> None:
        while not self._is_closing:
            server.handle_request()


def _wake(server: _Server, thread: threading.Thread) -> None:
    """Connect once, so that the thread, which waits for a connection, ends."""
    with suppress(OSError), socket.create_connection(server.server_address[:2], timeout=1):  # type: ignore[arg-type]
        thread.join(1)


def _app(registry: CollectorRegistry) -> WSGIApplication:
    serve = make_wsgi_app(registry)
    # Many scrapes at once would take the CPU from the event loop and its health checks.
    one_at_a_time = threading.Lock()

    def respond(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            with one_at_a_time:
                try:
                    return serve(environ, start_response)  # type: ignore[no-any-return]
                except (TypeError, ValueError):  # the library cannot parse some values of `Accept`
                    return serve({**environ, "HTTP_ACCEPT": ""}, start_response)  # type: ignore[no-any-return]
        except Exception:
            log.exception("scrape_failed")
            start_response("500 Internal Server Error", [("Content-Type", "text/plain")])
            return [b"The metrics cannot be read; the log of the service says why.\n"]

    return respond
