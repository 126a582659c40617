"""Measures the broadcaster: how long a message takes to reach every client in a room, and its CPU time in the service.

`python benchmarks/rooms.py` prints the figures of decision record 11. It is not part of `make bench`.
"""

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

import renders
from cpu import cpu_ns
from servers import PATIENCE_SECONDS, environment, reserved_port
from websockets.asyncio.client import ClientConnection, connect

ANSWERS = {"framework": "fastapi", "database": "none", "features": ["websocket"], "monitoring": []}
MESSAGES = 50


async def measure(port: int, pid: int, clients: int) -> tuple[list[float], float]:
    """Return the milliseconds until all clients have each message, and the CPU milliseconds per message."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        opened = [await _open(port) for _ in range(clients)]
        milliseconds, before = [], cpu_ns([pid])
        for number in range(MESSAGES):
            began = time.perf_counter()
            await opened[0].send(f"message {number}")
            await asyncio.gather(*(client.recv() for client in opened))
            milliseconds.append((time.perf_counter() - began) * 1000)
        used = (cpu_ns([pid]) - before) / 1e6 / MESSAGES
        await asyncio.gather(*(client.close() for client in opened))
    return milliseconds, used


async def _open(port: int) -> ClientConnection:
    while True:
        try:
            return await connect(f"ws://127.0.0.1:{port}/rooms/all", compression=None)
        except OSError:  # it still starts
            await asyncio.sleep(0.1)


def serve() -> int:
    """Serve one room with the rendered service's own function."""
    from fastapi import FastAPI, WebSocket

    package = "my_service.chassis"
    features, web = import_module(f"{package}.features"), import_module(f"{package}.web.fastapi")
    settings = import_module(f"{package}.settings").load(features.ChassisSettings)
    app = FastAPI()
    rooms = web.install(app, settings, features.FEATURES).get(
        import_module(f"{package}.websocket.broadcaster").Broadcaster
    )

    @app.websocket("/rooms/{room}")
    async def chat(websocket: WebSocket, room: str) -> None:
        async with rooms.join(websocket, room) as connection:
            async for message in connection:
                await rooms.send(room, message)

    code: int = features.serve(lambda: app, settings)
    return code


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--serve", action="store_true", help="serve; the script starts itself with this option")
    options = parser.parse_args()
    if options.serve:
        return serve()
    with tempfile.TemporaryDirectory() as name, reserved_port() as port:
        folder = Path(name)
        service = renders.render(renders.export(folder / "source"), folder / "service", ANSWERS)
        limits = {"WEBSOCKET_MAX_CONNECTIONS": "10000", "WEBSOCKET_MAX_MESSAGES_PER_SECOND": "1000"}
        command = [sys.executable, __file__, "--serve"]
        process = subprocess.Popen(command, env=environment(service, port) | limits, stdout=subprocess.DEVNULL)
        try:
            milliseconds, used = asyncio.run(measure(port, process.pid, options.clients))
        finally:
            process.terminate()
            process.wait(PATIENCE_SECONDS)
    middle, longest = statistics.median(milliseconds), max(milliseconds)
    print(f"{options.clients} clients: a message reaches all in {middle:.0f} ms (median; longest {longest:.0f} ms),")
    print(f"and costs the service {used:.1f} ms of CPU time, {used * 1000 / options.clients:.0f} us per client.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
