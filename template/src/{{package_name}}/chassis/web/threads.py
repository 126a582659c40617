"""Runs a WSGI application (PEP 3333) in a bounded pool of threads behind the event loop.

The event loop reads the whole body first, so that a slow client holds no thread, and enforces the deadline without
interrupting a thread: a late response is dropped. A streamed response is sent part by part, as its client reads.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import lru_cache
from io import BytesIO
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import unquote_to_bytes

import structlog
from pydantic import Field

from .. import errors
from ..app import Receive, Scope, Send
from ..health.checks import Check, Outcome
from ..instrumentation import Measurement
from ..settings import BaseChassisSettings

Environ = dict[str, Any]
WSGIApp = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

# The key of the scope under which the environ of its request is found.
ENVIRON = "wsgi.environ"

# How long requests wait while no thread becomes free. Then all waiting ones get 503, and new ones get it immediately.
_STUCK_SECONDS = 0.75
_MAX_WAITING = 1000
# A response that announces at most this length is sent in one piece.
_WHOLE_BYTES = 65_536

_SERVER = {
    "wsgi.version": (1, 0),
    "wsgi.input_terminated": True,
    "wsgi.errors": sys.stderr,
    "wsgi.multithread": True,
    "wsgi.multiprocess": False,
    "wsgi.run_once": False,
}

_END = object()

log = structlog.get_logger(__name__)


class Settings(BaseChassisSettings):
    """Threads"""

    server_threads: int = Field(
        8, ge=1, le=512, description="How many requests run at once; if all threads hang, further requests get 503."
    )


class _Job:
    """One call of the application, shared by the request's task and a thread."""

    __slots__ = (
        "_app", "_context", "_credit", "_environ", "_loop", "body", "ended", "errors", "headers", "is_abandoned",
        "is_complete", "is_ended", "ready", "status", "stream", "thread_id",
    )  # fmt: skip

    def __init__(self, app: WSGIApp, environ: Environ, loop: asyncio.AbstractEventLoop) -> None:
        self._app = app
        self._environ = environ
        self._loop = loop
        self._context = contextvars.copy_context()
        self._credit: threading.Semaphore | None = None  # for the next part of a stream
        self.is_abandoned = self.is_complete = self.is_ended = False
        self.thread_id = 0  # while it waits for a thread
        # Resolved when the response is complete, when a stream begins, or when the application fails.
        self.ready: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[None] | None = None
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.stream: asyncio.Queue[bytes | None] | None = None  # the parts of the stream, then None
        # An error is removed when it is raised: its traceback refers to this job, and the cycle would retain memory.
        self.errors: list[Exception] = []

    # -- on the event loop ---------------------------------------------------------------------------------------------

    def deliver(self, part: bytes | None) -> None:
        """Hand over a part of a stream, or None when the response is complete or has failed."""
        if self.stream is not None:
            self.stream.put_nowait(part)
        if not self.ready.done():
            self.ready.set_result(None)

    def request_part(self) -> None:
        """Let the thread produce the next part of a stream."""
        if self._credit is not None:
            self._credit.release()

    def abandon(self) -> None:
        """Drop the response; a stream ends with its current part."""
        self.is_abandoned = True
        self.request_part()
        self.deliver(None)

    # -- in the thread -------------------------------------------------------------------------------------------------

    def run(self, report: Callable[[_Job], None]) -> None:
        try:
            self._context.run(self._call, report)
        except Exception as error:
            self.errors.append(error)
        except BaseException as error:  # SystemExit ends a handler, not the service
            failure = RuntimeError(f"the handler raised {type(error).__name__}")
            failure.__cause__ = error
            self.errors.append(failure)

    def _call(self, report: Callable[[_Job], None]) -> None:
        body = self._app(self._environ, self._start_response)
        try:
            if self._is_whole(body):
                self.body = b"".join(body)
            else:
                self._stream(iter(body))
            if not self.status:
                raise RuntimeError("the WSGI application did not call start_response")
            self.is_complete = True  # an error from now on does not change the response
            report(self)
        finally:
            # Called when the response is complete (PEP 3333). Flask runs the functions of `call_on_close` here.
            close = getattr(body, "close", None)
            if close is not None:
                close()

    def _start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[..., Any]:
        self.status = int(status.partition(" ")[0])
        self.headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        return _reject_write

    def _is_whole(self, body: Iterable[bytes]) -> bool:
        if isinstance(body, (list, tuple)):
            return True
        return any(name == b"content-length" and int(value) <= _WHOLE_BYTES for name, value in self.headers)

    def _stream(self, parts: Iterator[bytes]) -> None:
        part = next(parts, _END)  # a generator calls start_response with its first part
        self._credit = threading.Semaphore(0)
        self.stream = asyncio.Queue()
        while part is not _END and not self.is_abandoned:
            if not isinstance(part, bytes):
                raise TypeError(f"the WSGI application returned a part of type {type(part).__name__} instead of bytes")
            self._loop.call_soon_threadsafe(self.deliver, part)
            self._credit.acquire()
            part = next(parts, _END)


class ThreadPool:
    """The threads, the requests that they serve, and the requests that wait."""

    def __init__(self, count: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.count = count
        self._clock = clock
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._started = 0
        # Only the event loop uses the following attributes, except `_finished`.
        self._outstanding: dict[_Job, None] = {}
        self._finished: deque[_Job] = deque()
        self._is_waking = False
        self._is_stuck = False
        self._last_progress = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def _waiting(self) -> int:
        return max(0, len(self._outstanding) - self.count)

    async def details(self) -> Mapping[str, int]:
        """Return the result of `usage`. This is a coroutine function, so that the health check needs no thread."""
        return self.usage()

    def measure(self) -> Iterator[Measurement]:
        usage = self.usage()
        yield Measurement("server.threads.max", "Threads that serve requests.", usage["threads"])
        yield Measurement("server.threads.busy", "Threads that are serving a request.", usage["busy"])
        yield Measurement("server.threads.overdue", "Threads past the deadline of their request.", usage["overdue"])
        yield Measurement("server.threads.waiting", "Requests that wait for a thread.", usage["waiting"])

    def usage(self) -> Mapping[str, int]:
        """Return the number of threads, of busy and overdue ones, and of waiting requests."""
        overdue = sum(job.is_abandoned for job in self._outstanding)
        busy = len(self._outstanding) - self._waiting
        return {"threads": self.count, "busy": busy, "overdue": overdue, "waiting": self._waiting}

    def submit(self, app: WSGIApp, environ: Environ) -> _Job:
        """Let a thread call the application. Must be called on the event loop.

        Raises:
            UnavailableError: All threads are busy, and none has become free for a while.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._attach_to(loop)
        is_full = len(self._outstanding) >= self.count
        if is_full and (self._is_stuck or self._waiting >= _MAX_WAITING):
            raise errors.UnavailableError()
        job = _Job(app, environ, loop)
        self._outstanding[job] = None
        if self._started < min(self.count, len(self._outstanding)):
            self._start_thread()
        if is_full and self._timer is None:
            self._last_progress = self._clock()
            self._timer = loop.call_later(_STUCK_SECONDS, self._look_for_progress)
        self._queue.put(job)
        return job

    async def wait_until_ended(self, job: _Job) -> None:
        """Wait until the thread has finished its work after the response. Usually it already has."""
        if job in self._outstanding:
            job.ended = asyncio.get_running_loop().create_future()
            await job.ended

    def abandon(self, job: _Job) -> None:
        """Drop a job's response. Its thread continues and counts as overdue until it ends."""
        job.abandon()
        if job.thread_id and job.ready.cancelled():  # the deadline passed before the response
            frame = sys._current_frames().get(job.thread_id)  # documented, despite its name
            stack = "".join(traceback.format_stack(frame)) if frame is not None else ""
            log.warning("thread_overdue", stack=stack)

    def stop(self) -> None:
        """Let each thread end after its request."""
        for _ in range(self._started):
            self._queue.put(None)
        self._started = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _attach_to(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._is_waking = self._is_stuck = False
        self._timer = None
        self._outstanding.clear()

    def _start_thread(self) -> None:
        # A daemon thread: a handler that hangs must not keep the process from ending.
        threading.Thread(target=self._work, name=f"request-{self._started}", daemon=True).start()
        self._started += 1

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            job.thread_id = threading.get_ident()
            if not job.is_abandoned:
                job.run(self._report)
            job.is_ended = True
            self._report(job)

    def _report(self, job: _Job) -> None:
        """Tell the event loop that a response is complete, and then that its thread is free.

        One wake-up collects everything that was reported, which is cheaper under load.
        """
        self._finished.append(job)
        if self._is_waking or self._loop is None:
            return
        self._is_waking = True
        try:
            self._loop.call_soon_threadsafe(self._collect)
        except RuntimeError:  # the event loop has ended, and its requests with it
            self._is_waking = False

    def _collect(self) -> None:
        self._is_waking = False
        while self._finished:
            job = self._finished.popleft()
            job.deliver(None)
            if job.is_ended:
                self._outstanding.pop(job, None)
                if job.ended is not None and not job.ended.done():
                    job.ended.set_result(None)
                self._is_stuck = False
                self._last_progress = self._clock()

    def _look_for_progress(self) -> None:
        """Reject the requests that wait if no thread has become free for a while."""
        self._timer = None
        if not self._waiting or self._loop is None:
            return
        left_seconds = self._last_progress + _STUCK_SECONDS - self._clock()
        if left_seconds > 0:
            self._timer = self._loop.call_later(left_seconds, self._look_for_progress)
            return
        self._is_stuck = True
        with suppress(Empty):
            while (job := self._queue.get_nowait()) is not None:
                self._outstanding.pop(job, None)
                job.errors.append(errors.UnavailableError())
                job.deliver(None)


class ThreadsCheck(Check):
    """Shows how busy the threads are, and warns while any of them works on a request past its deadline."""

    def __init__(self, pool: ThreadPool) -> None:
        super().__init__("threads", pool.details)

    def evaluate(self, value: Any) -> Outcome:
        if value["overdue"]:
            return Outcome("warning", "threads are past the deadline of their request", value)
        return Outcome(details=value)


class WSGIBridge:
    """An ASGI application that calls a WSGI application in the threads of a pool."""

    def __init__(self, app: WSGIApp, pool: ThreadPool) -> None:
        self._app = app
        self._pool = pool

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """End the threads when the service stops."""
        try:
            yield
        finally:
            self._pool.stop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _whole_body(receive)
        environ = scope[ENVIRON] = _environ(scope, body)
        job = self._pool.submit(self._app, environ)
        try:
            await job.ready
            if job.errors and not job.is_complete:
                raise job.errors.pop()
            await send({"type": "http.response.start", "status": job.status, "headers": job.headers})
            if job.stream is None:
                await send({"type": "http.response.body", "body": job.body})
            else:
                await _send_stream(job, job.stream, receive, send)
            await self._pool.wait_until_ended(job)
            if job.errors:
                raise job.errors.pop()
        finally:
            self._pool.abandon(job)


async def _send_stream(job: _Job, parts: asyncio.Queue[bytes | None], receive: Receive, send: Send) -> None:
    """Send parts until the stream ends or the client disconnects."""
    watcher = asyncio.ensure_future(_abandon_after_disconnection(job, receive))
    try:
        while (part := await parts.get()) is not None:
            await send({"type": "http.response.body", "body": part, "more_body": True})
            job.request_part()
    finally:
        watcher.cancel()
    if job.is_complete or not job.errors:
        await send({"type": "http.response.body", "body": b""})


async def _abandon_after_disconnection(job: _Job, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    job.abandon()


async def _whole_body(receive: Receive) -> bytes:
    """Return the request body, which the middleware keeps under its limit.

    Raises:
        BadRequestError: The client disconnected before its end.
    """
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise errors.BadRequestError("The request ended early.")
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _environ(scope: Scope, body: bytes) -> Environ:
    """Return the environ of a request (PEP 3333); text is decoded as Latin-1, as WSGI requires."""
    raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
    root_path: str = scope.get("root_path", "")
    path = unquote_to_bytes(raw_path).removeprefix(root_path.encode())
    host, port = scope.get("server") or ("localhost", 80)
    client = scope.get("client") or ("", 0)
    environ: Environ = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": root_path,
        "PATH_INFO": path.decode("latin-1"),
        "QUERY_STRING": scope.get("query_string", b"").decode("latin-1"),
        "SERVER_NAME": host,
        "SERVER_PORT": str(port or 0),
        "SERVER_PROTOCOL": f"HTTP/{scope.get('http_version', '1.1')}",
        "REMOTE_ADDR": client[0],
        "REMOTE_PORT": str(client[1]),
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.url_scheme": scope.get("scheme", "http"),
        "wsgi.input": BytesIO(body),
        **_SERVER,
    }
    for name, value in scope["headers"]:
        key = _key(name)
        if key is not None:
            environ[key] = value.decode("latin-1")
    return environ


@lru_cache(maxsize=256)
def _key(name: bytes) -> str | None:
    """Return the key of a header in the environ, or None if the header must not be in it.

    A name with an underscore would be mistaken for the one with a hyphen. The length is that of the body that was read.
    """
    if b"_" in name or name in (b"content-length", b"transfer-encoding"):
        return None
    if name == b"content-type":
        return "CONTENT_TYPE"
    return f"HTTP_{name.decode('latin-1').upper().replace('-', '_')}"


def _reject_write(_data: bytes) -> None:
    raise NotImplementedError("write() is not supported; return an iterable (PEP 3333 keeps write() for old code only)")
