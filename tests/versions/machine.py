"""A machine with other versions: a folder with a suite of Debian, in which `chroot` runs commands.

It needs root, `mmdebstrap` and a Debian mirror, but no container engine and no image registry.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from questions import ROOT
from rendering import Renderer

# Without it, mmdebstrap uses the mirror of Debian.
MIRROR = os.environ.get("DEBIAN_MIRROR")
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
TOOLS = ("ca-certificates", "git", "make", "netbase", "procps", "tzdata")
# Separate mounts and processes, which end with the command. `$1` is the machine, `$2` the folder in it.
ENTER = """
machine=$1 folder=$2; shift 2
mount -t proc proc "$machine/proc"; mount --rbind /dev "$machine/dev"; mount -t tmpfs tmpfs "$machine/tmp"
exec chroot "$machine" sh -c 'cd "$0" && exec "$@"' "$folder" "$@"
"""
VARIABLES = {
    "CI": "true",  # an absent server is a failure
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "SSL_CERT_FILE": f"/{CERTIFICATES}",
    "UV_LINK_MODE": "copy",
    "UV_PYTHON_DOWNLOADS": "never",
}


@dataclass(frozen=True)
class Suite:
    """A suite of Debian, the Pythons in it, and the packages of its servers."""

    name: str
    pythons: tuple[str, ...]
    servers: tuple[str, ...]


@dataclass(frozen=True)
class Machine:
    """The folder of an installed suite."""

    root: Path

    def path(self, folder: str) -> Path:
        """Return a folder of the machine as a path of this one."""
        return self.root / folder.lstrip("/")

    def run(self, folder: str, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command in a folder of the machine, and return its exit code and output."""
        entered = ["unshare", "--mount", "--pid", "--fork", "sh", "-ec", ENTER, "enter", str(self.root), folder]
        return subprocess.run(
            [*entered, *command],
            env=VARIABLES,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def must(self, folder: str, *command: str) -> str:
        """Run a command that has to succeed, and return its output."""
        done = self.run(folder, *command)
        if done.returncode:
            raise SystemExit(f"`{' '.join(command)}` on {self.root.name}: exit code {done.returncode}\n{done.stdout}")
        return done.stdout

    def install(self, stack: str, answers: Mapping[str, object], renderer: Renderer, python: str) -> str:
        """Render a stack, install it with this Python and the newest libraries, and return its folder."""
        folder = f"/srv/{python}/{stack}"
        shutil.rmtree(self.path(folder), ignore_errors=True)
        renderer(self.path(folder), answers)
        self.must(folder, "uv", "sync", "--quiet", "--upgrade", "--python", f"/usr/bin/python{python}")
        return folder


def machine(suite: Suite, folder: Path) -> Machine:
    """Install a suite into a folder, or take the one that was installed there before."""
    root, done = folder / suite.name, folder / f"{suite.name}.installed"
    if not done.exists():
        shutil.rmtree(root, ignore_errors=True)
        packages = [*TOOLS, *(f"python{version}-venv" for version in suite.pythons), *suite.servers]
        # The package list of a snapshot mirror has expired, but its packages are the wanted ones.
        options = ["Acquire::Retries 5", "Acquire::Check-Valid-Until false"]
        command = ["mmdebstrap", "--mode=root", "--variant=minbase", f"--include={','.join(packages)}"]
        where = [suite.name, str(root), *filter(None, [MIRROR])]
        subprocess.run([*command, *(f"--aptopt={each}" for each in options), *where], check=True)
        done.touch()
    # Give it the name servers, hosts and certificates of this machine, so that it reaches the same servers.
    for name in ("etc/resolv.conf", "etc/hosts", CERTIFICATES):
        shutil.copy(Path("/", name), root / name)
    shutil.copy(ROOT / ".tools/bin/uv", root / "usr/local/bin/uv")
    return Machine(root)
