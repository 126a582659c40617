"""Runs the checks on the event loop, side by side; a hundred probes at once cost one run."""

from __future__ import annotations

import asyncio
import inspect
import time

from .monitor import Monitor, Run
from .registry import Check, Result


class AsyncMonitor(Monitor):
    """Health for ASGI applications."""

    _flight: asyncio.Task[list[Result]] | None = None

    async def answer(self, path: str) -> tuple[int, bytes]:
        """Return status and body for one of `PATHS`."""
        return self.without_checks(path) or self.with_checks(path, await self.results())

    async def results(self) -> list[Result]:
        kept = self.kept()
        if kept is not None:
            return kept
        if self._flight is None or self._flight.done():
            self._flight = asyncio.create_task(self._run_all())
        # A probe that gives up must not cancel the run that others wait for.
        return await asyncio.shield(self._flight)

    async def _run_all(self) -> list[Result]:
        return self.keep(list(await asyncio.gather(*map(self._run, self.service.health.checks))))

    async def _run(self, check: Check) -> Result:
        try:
            async with asyncio.timeout(self.limit_seconds(check)):
                return self.result(check, await self._measured(check))
        except TimeoutError:
            return self.result(check, self.late(check))

    async def _measured(self, check: Check) -> Run:
        """Await what is asynchronous here, and what blocks in a thread."""
        if not inspect.iscoroutinefunction(check.measure):
            return await asyncio.shield(asyncio.wrap_future(self.start(check)))
        began = time.perf_counter()
        try:
            measured, failure = await check.measure(), None
        except Exception as error:
            measured, failure = None, error
        return Run((time.perf_counter() - began) * 1000, measured, failure)
