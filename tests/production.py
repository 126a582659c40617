"""A service as it would go into production, and the faults that its own checklist must name."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from live import environment, run

FORM = {"ALLOWED_HOSTS": "api.example.com", "TRUSTED_PROXIES": "10.0.0.0/8"}


@dataclass(frozen=True)
class Production:
    """An installed service in a repository of its own, its production form filled in, its database migrated."""

    service: Path
    package: str
    variables: Mapping[str, str]

    def check(self, *rows: str) -> tuple[int, dict[str, Any]]:
        """Run `prod-check` for these rows, or for all; return the exit code and the report."""
        wanted = [part for row in rows for part in ("--row", row)]
        command = [str(self.service / ".venv/bin/python"), "-m", self.package, "prod-check", "--json", *wanted]
        done = subprocess.run(
            command, cwd=self.service, env=environment(**self.variables), capture_output=True, text=True, check=False
        )
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)


def produce(service: Path, package: str, variables: Mapping[str, str]) -> Production:
    """Make a service ready for production, as its owner would; its tests have been run."""
    form = (service / ".env.production.example").read_text(encoding="utf-8")
    lines = [f"{line}{FORM[line[:-1]]}" if line[:-1] in FORM else line for line in form.splitlines()]
    filled = service / ".env.production"
    filled.write_text("\n".join(lines) + "\n", encoding="utf-8")
    filled.chmod(0o600)
    run("git", "init", "--quiet", cwd=service)
    run("git", "add", "--all", cwd=service)
    # Whatever the form says of a database, this one is the test's: a variable goes before the file.
    if (service / "migrations").is_dir():
        run(str(service / ".venv/bin/python"), "-m", package, "migrate", cwd=service, **variables)
    return Production(service, package, variables)


@contextmanager
def edited(path: Path, old: str, new: str) -> Iterator[None]:
    """Plant another text in a file for as long as the block lasts."""
    text, times = path.read_text(encoding="utf-8"), path.stat()
    assert old in text, f"{path} no longer holds {old!r}: plant something else"
    path.write_text(text.replace(old, new), encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(text, encoding="utf-8")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


Fault = Callable[[Production], AbstractContextManager[Production]]


def setting(name: str, value: str) -> Fault:
    """Plant a value of a setting."""

    @contextmanager
    def plant(production: Production) -> Iterator[Production]:
        yield replace(production, variables={**production.variables, name: value})

    return plant


def text(file: str, old: str, new: str) -> Fault:
    """Plant another text in a file."""

    @contextmanager
    def plant(production: Production) -> Iterator[Production]:
        with edited(production.service / file.format(package=production.package), old, new):
            yield production

    return plant


def done(planted: tuple[str, ...], undone: tuple[str, ...]) -> Fault:
    """Plant a fault with one command, and mend it with another."""

    @contextmanager
    def plant(production: Production) -> Iterator[Production]:
        run(*planted, cwd=production.service)
        try:
            yield production
        finally:
            run(*undone, cwd=production.service)

    return plant


# A fault for each row, as owners make them. The dependency audit has none: it would need a service with a known hole.
FAULTS: dict[str, Fault] = {
    "settings": setting("ENVIRONMENT", "staging"),
    "debug": setting("DEBUG", "true"),
    "hosts": setting("ALLOWED_HOSTS", "*"),
    "cors": setting("CORS_ALLOWED_ORIGINS", "*"),
    "proxies": text(".env.production", "TRUSTED_PROXIES=10.0.0.0/8", "TRUSTED_PROXIES="),
    "request-limits": setting("MAX_REQUEST_BODY_BYTES", "10000000000"),
    "secrets": done(
        ("git", "add", "--force", ".env.production"), ("git", "rm", "--quiet", "--cached", ".env.production")
    ),
    "private-settings": done(("chmod", "644", ".env.production"), ("chmod", "600", ".env.production")),
    "lock": done(("git", "rm", "--quiet", "--cached", "uv.lock"), ("git", "add", "uv.lock")),
    "coverage": text("pyproject.toml", "fail_under = 80", "fail_under = 100"),
    "image-user": text("Dockerfile", "USER 1000", "USER root"),
    "container-limits": text("compose.yaml", "memory: 512M", "swap: 512M"),
    "probes": text("Dockerfile", "/health/live", "/health/ready"),
    "grace": text("compose.yaml", "stop_grace_period: 60s", "stop_grace_period: 10s"),
    "service": text("src/{package}/main.py", "install(app, settings, FEATURES)", "install(app, settings, ())"),
    "migrations": text("src/{package}/notes/models.py", "tag: Mapped[", "color: Mapped[str]\n    tag: Mapped["),
    "backup": text("src/{package}/chassis/database/backup/restore.py", "return _fill(", "return 1 + _fill("),
}
