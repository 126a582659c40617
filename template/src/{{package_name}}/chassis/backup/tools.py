"""Runs the tools of a database server: finds them, checks their version, limits their time, and masks secrets."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from . import BackupError, ToolUnavailableError


def find(package: str, *names: str) -> str:
    """Return the path of the first of these programs that is installed.

    Raises:
        ToolUnavailableError: None is installed. The error names the Debian `package` that contains it.
    """
    for name in names:
        path = shutil.which(name)
        if path:
            return path
    raise ToolUnavailableError(
        f"{names[0]} is not installed; install {package}, or run this in the image of the target `backup`"
    )


def version_of(path: str) -> str:
    """Return the line that a program prints for `--version`."""
    return subprocess.run([path, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def require_not_older(tool: str, server: str, package: str, form: str) -> None:
    """Compare two versions by the numbers that the groups of the pattern `form` match.

    Raises:
        ToolUnavailableError: The tool is older than the server.
    """
    tool_numbers, server_numbers = (re.search(form, version) for version in (tool, server))
    if not (tool_numbers and server_numbers):
        return  # the versions are of different products
    if tuple(map(int, tool_numbers.groups())) < tuple(map(int, server_numbers.groups())):
        raise ToolUnavailableError(f"{tool} is older than the server, {server}; install {package} of that version")


def run(
    command: Sequence[str],
    timeout_seconds: float,
    *,
    secret: str = "",
    stdin: IO[bytes] | None = None,
    variables: Mapping[str, str] | None = None,
) -> None:
    """Run a tool to its end.

    Raises:
        BackupError: It failed or took too long. The message has the first error that it printed, without the secret.
    """
    try:
        done = subprocess.run(
            command,
            env={**os.environ, "LC_ALL": "C.UTF-8", **(variables or {})},
            stdin=stdin or subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=timeout_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        name = Path(command[0]).name
        raise BackupError(f"{name} took longer than BACKUP_TIMEOUT_SECONDS, {timeout_seconds:g} s") from None
    if done.returncode != 0:
        raise failure(command[0], done.stderr, secret)


def failure(path: str, stderr: bytes, secret: str) -> BackupError:
    """Return an error with the reason why a tool failed."""
    lines = stderr.decode(errors="replace").strip().splitlines() or ["no error message"]
    reason = next((line for line in lines if "error" in line.lower()), lines[-1])
    return BackupError(f"{Path(path).name} failed: {reason.replace(secret, '********') if secret else reason}")
