"""A TCP relay between a service and its server, in a separate process, that simulates network faults.

It reads commands from stdin and answers each with `ok`: `refuse`, `pass`, `cut`, and `delay <seconds>` in both
directions.
"""

import asyncio
import subprocess
import sys
from contextlib import suppress


class Relay:
    """The relay inside the process."""

    def __init__(self, port: int, to_port: int) -> None:
        self._port, self._to_port = port, to_port
        self._delay_seconds = 0.0
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._running: set[asyncio.Task[None]] = set()

    async def obey(self, word: str, *arguments: str) -> None:
        if word == "delay":
            self._delay_seconds = float(arguments[0])
        elif word == "pass" and self._server is None:
            self._server = await asyncio.start_server(self._relay, "127.0.0.1", self._port)
        elif word == "refuse" and self._server is not None:
            self._server.close()
            self._server = None
        if word in ("cut", "refuse"):
            for writer in self._open:
                writer.transport.abort()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._to_port)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, to_writer}
        self._open |= both
        ways = [asyncio.create_task(self._pass_on(*way)) for way in ((reader, to_writer), (to_reader, writer))]
        await asyncio.wait(ways)
        self._open -= both

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while part := await reader.read(65_536):
                if self._delay_seconds:
                    await asyncio.sleep(self._delay_seconds)
                writer.write(part)
                await writer.drain()
        writer.close()


async def main() -> None:
    relay = Relay(int(sys.argv[1]), int(sys.argv[2]))
    while words := (await asyncio.to_thread(sys.stdin.readline)).split():
        await relay.obey(*words)
        print("ok", flush=True)


class Proxy:
    """Starts the process and sends it commands."""

    def __init__(self, port: int, to_port: int) -> None:
        self.port = port
        command = [sys.executable, __file__, str(port), str(to_port)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.say("pass")

    def say(self, words: str) -> None:
        """Send a command and wait until it is done."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(words + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "ok\n"

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()


if __name__ == "__main__":
    asyncio.run(main())
