"""The database and the cache of the tests. Each test has separate ones, and yours are never used.

Each kind has one module, such as `sqlite.py`, with `settings(folder)` and `remove(folder)`. A server is started once
for all tests, in a separate folder and on a free port, with the programs that are installed on this machine. If
`DATABASE_URL` or `REDIS_URL` is set, the tests use a separate part of that server instead.
"""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import pytest

# Read before any test begins, because tests never see your variables.
GIVEN_URL = os.environ.get("DATABASE_URL", "")
GIVEN_REDIS_URL = os.environ.get("REDIS_URL", "")
# How long a server may take to start on a busy machine.
PATIENCE_SECONDS = 180


# The folders of the chassis in which a module names a server: chassis/database/postgresql.py and chassis/redis.py.
_FOLDERS = ("database", ".")


def chosen(chassis: Path, folder: str = "database") -> ModuleType | None:
    """Return the module for the server that the service needs, or None. The module of Redis is in the folder `.`."""
    here = {path.stem for path in Path(__file__).parent.glob("[a-z]*.py")}
    names = here & {path.stem for path in (chassis / folder).glob("*.py")}
    return import_module(f"{__name__}.{names.pop()}") if names else None


def settings(chassis: Path, folder: Path) -> dict[str, str]:
    """Return the environment variables with the database and cache of the test that runs in `folder`."""
    modules = filter(None, (chosen(chassis, place) for place in _FOLDERS))
    return {name: value for module in modules for name, value in module.settings(folder).items()}


def database_file(chassis: Path, folder: Path) -> Path | None:
    """Return the file with the database of the test that runs in `folder`, or None if a server has it.

    A test may set another `DATABASE_URL`. The function does not return the file of that one.
    """
    file = getattr(chosen(chassis), "file", None)
    path: Path | None = file(folder) if file else None
    return path if str(path) in os.environ.get("DATABASE_URL", "") else None


def remove(chassis: Path, folder: Path) -> None:
    """Remove the database and cache of a test that has ended."""
    for place in _FOLDERS:
        module = chosen(chassis, place)
        if module:
            module.remove(folder)


def given_server() -> str:
    """Return the URL of the server that you provide, or an empty string.

    Raises:
        pytest.UsageError: The name of the database in the URL does not contain `test`.
    """
    if GIVEN_URL and "test" not in urlsplit(GIVEN_URL).path:
        raise pytest.UsageError("DATABASE_URL: there is no `test` in the name of the database, so tests stay away")
    return GIVEN_URL


def find(name: str, places: Sequence[str]) -> str | None:
    """Return the path of the newest version of a server's program, or None."""
    folders = [os.environ.get("PATH", ""), *(str(path) for place in places for path in sorted(Path("/").glob(place)))]
    return shutil.which(name, path=os.pathsep.join(reversed(folders)))


def program(name: str, package: str, places: Sequence[str]) -> str:
    """Return the path of a server's program. If it is missing, tests are skipped, or fail if CI is true."""
    found = find(name, places)
    if found is None:
        absent = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        absent(f"{name} is not installed; on Debian it is in the package {package}")
    return str(found)


class Server:
    """A private server with its folder, port and process. The server ends when this process ends."""

    def __init__(self, name: str, end: signal.Signals = signal.SIGQUIT) -> None:
        """`end` is the signal that ends the server immediately, even if clients are connected."""
        self.folder = Path(tempfile.mkdtemp(prefix=f"{name}-"))
        self.port = free_port()
        self._end = end
        self.process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        # These servers refuse to run as root.
        self._user = "nobody" if os.getuid() == 0 else None
        if self._user:
            os.chown(self.folder, pwd.getpwnam(self._user).pw_uid, -1)
        self.folder.chmod(0o700)
        atexit.register(self.remove)

    def run(self, *command: str) -> None:
        """Run a program of the server until it ends, as the server's user."""
        done = subprocess.run(
            command, cwd=self.folder, user=self._user, capture_output=True, env=_environment(), timeout=PATIENCE_SECONDS
        )
        assert done.returncode == 0, (done.stdout + done.stderr).decode()

    def start(self, *command: str, ready: Callable[[], Any]) -> None:
        """Start the server, and return when `ready()` no longer raises."""
        self._command, self._ready = command, ready
        self.bring_back()

    def bring_back(self) -> None:
        """Start the server again if it is not running."""
        if self.process and self.process.poll() is None:
            return
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                self._command, cwd=self.folder, user=self._user, stdout=log, stderr=log, env=_environment(),
                process_group=0,
            )  # fmt: skip
        self._watch()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                self._ready()
            except Exception:
                assert self.process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < deadline, f"the server did not start in {PATIENCE_SECONDS} s"
                time.sleep(0.05)
            else:
                return

    def _watch(self) -> None:
        """Start a process that ends the server if this one is killed, which closes the pipe between them."""
        if self._watcher:
            self._watcher.kill()
            self._watcher.communicate()
        assert self.process
        self._watcher = subprocess.Popen(
            ["sh", "-c", f'read -r _; kill -CONT "$1"; kill -{self._end:d} "$1"', "watch", str(self.process.pid)],
            stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, user=self._user, process_group=0,
        )  # fmt: skip

    def stop(self) -> None:
        """End the server immediately, even if clients are connected."""
        assert self.process
        self.process.send_signal(self._end)
        self.process.wait(PATIENCE_SECONDS)

    def freeze(self) -> None:
        """Freeze the server: it keeps its connections but does not respond."""
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        self._send(signal.SIGCONT)

    def _send(self, signum: signal.Signals) -> None:
        """Send a signal to the server and to the processes that it has started."""
        assert self.process
        if self.process.poll() is None:
            self.process.send_signal(signum)
        command = ["pgrep", "-P", str(self.process.pid)]
        found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS)
        for child in found.stdout.split():
            with suppress(ProcessLookupError):
                os.kill(int(child), signum)

    def remove(self) -> None:
        """End the server and remove its data."""
        if self.process and self.process.poll() is None:
            self.thaw()
            self.stop()
        if self._watcher:
            self._watcher.kill()
            self._watcher.communicate()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    """Mount a small disk at a folder, with its owner. If this user may not mount, the test is skipped."""
    owner, size = folder.stat(), f"size={megabytes}m"
    options = f"{size},mode=700,uid={owner.st_uid},gid={owner.st_gid}"
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("this user may not mount a disk")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> Path:
    """Use up the space of a disk, and return the file to delete."""
    file = folder / "filler"
    with file.open("wb", buffering=0) as opened, suppress(OSError):
        while opened.write(bytes(4096)):
            pass
    return file


def free_port() -> int:
    """Return a port on which nothing listens, and reserve it until the tests end.

    A socket that is bound to the port but does not listen reserves it. Clients are refused, but a server can listen on
    the port as often as it is started, because all these sockets set SO_REUSEADDR. Only Linux lets them share a port.
    """
    probe = socket.socket()
    if sys.platform == "linux":
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        atexit.register(probe.close)
    probe.bind(("127.0.0.1", 0))
    port: int = probe.getsockname()[1]
    if sys.platform != "linux":
        probe.close()
    return port


def _environment() -> dict[str, str]:
    """Return an environment without your settings, which some programs would read."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
