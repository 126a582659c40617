"""A service as its owner would deploy it, and the faults that `deploy-check` must name."""

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyrage  # type: ignore[import-untyped]
from live import environment, run

# These depend on the container, and on a Sentry that accepts events.
ELSEWHERE = {"user", "read-only", "container-limits", "error-tracking"}
FILLED_IN = {
    "ALLOWED_HOSTS": "api.example.com",
    "TRUSTED_PROXIES": "10.0.0.0/8",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318",
    "SENTRY_DSN": "https://public@sentry.example.com/1",
    "JWT_ISSUER": "https://id.example.com/",
    "JWT_AUDIENCE": "orders",
    "JWT_JWKS_URL": "https://id.example.com/jwks.json",
    "BACKUP_KEY": str(pyrage.x25519.Identity.generate()),
}


@dataclass(frozen=True)
class Production:
    """An installed service with its `.env.production` filled in and its database migrated."""

    service: Path
    package: str
    variables: Mapping[str, str]

    def check(self) -> tuple[int, dict[str, str]]:
        """Run `deploy-check`; return its exit code, and the outcome of each check, such as `ok`.

        Without the checks of what the tests do not have: a protected container, and Sentry.
        """
        command = [str(self.service / ".venv/bin/python"), "-m", self.package, "deploy-check"]
        done = subprocess.run(
            command, cwd=self.service, env=environment(**self.variables), capture_output=True, text=True, check=False
        )
        assert "Score: " in done.stdout, done.stderr
        lines = [line for line in done.stdout.splitlines() if not line.startswith((" ", "Score"))]
        outcomes = {line[12:].partition(":")[0]: line[:12].strip() for line in lines}
        return done.returncode, {name: outcome for name, outcome in outcomes.items() if name not in ELSEWHERE}


def produce(service: Path, package: str, variables: Mapping[str, str]) -> Production:
    """Prepare a service for production as its owner would."""
    env_file = service / ".env.production"
    env_file.write_text("\n".join(_lines(service)) + "\n", encoding="utf-8")
    env_file.chmod(0o600)
    # Variables take precedence over the file, so the database is that of the test.
    if (service / "migrations").is_dir():
        run(str(service / ".venv/bin/python"), "-m", package, "migrate", cwd=service, **variables)
    return Production(service, package, variables)


def filled_in(service: Path) -> dict[str, str]:
    """The settings in `.env.production.example` after the owner has filled them in, without those left empty."""
    assigned = (line.partition("=") for line in _lines(service) if not line.startswith("#"))
    return {name: value for name, _, value in assigned if value}


def _lines(service: Path) -> list[str]:
    example = (service / ".env.production.example").read_text(encoding="utf-8")
    return [_filled_in(line) for line in example.splitlines()]


def _filled_in(line: str) -> str:
    """Fill in a setting that the example leaves empty, even one that it leaves out."""
    name = line.removeprefix("# ").removesuffix("=")
    return f"{name}={FILLED_IN[name]}" if name in FILLED_IN else line


# One fault for each check that depends on more than settings: (file, text, text with the fault).
FAULTS = {
    "migrations": ("src/{package}/notes/models.py", "tag: Mapped[", "color: Mapped[str]\n    tag: Mapped["),
    "backup": ("src/{package}/chassis/backup/commands.py", "verify(made.path,", "verify(made.path.parent,"),
}


@contextmanager
def edited(path: Path, old: str, new: str) -> Iterator[None]:
    """Change the text of a file for as long as the block lasts."""
    text, times = path.read_text(encoding="utf-8"), path.stat()
    assert old in text, f"{path} does not contain {old!r}; plant another fault"
    path.write_text(text.replace(old, new), encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(text, encoding="utf-8")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@contextmanager
def faulty(production: Production) -> Iterator[None]:
    """Plant all faults for as long as the block lasts."""
    with ExitStack() as planted:
        for file, old, new in FAULTS.values():
            planted.enter_context(edited(production.service / file.format(package=production.package), old, new))
        yield
