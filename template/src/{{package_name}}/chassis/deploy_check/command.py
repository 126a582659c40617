"""`python -m <package> deploy-check`: runs the checks, and prints evidence, remedies and a score."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Container, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import SecretStr

from ..settings import SettingsError, is_secret, load, shown, variable
from . import CheckContext, CheckResult, DeployCheck, result_of

if TYPE_CHECKING:
    from ..app import Feature
    from ..cli import Program

_TIMEOUT_SECONDS = 3600  # long enough for the backup of a large database
_MIN_SECRET_LENGTH = 8
_PLACEHOLDER = re.compile(r"change.?me|example|placeholder|^<.*>$", re.IGNORECASE)
_NEEDS_VALID_SETTINGS = CheckResult("not_checked", "the settings are invalid")

Check = Callable[[CheckContext], CheckResult]


def read_context(program: Program, env_file: Path | None) -> CheckContext:
    """Read the settings under the rules of production. Only the check `settings` tests ENVIRONMENT itself."""
    variables = {name: value for name, value in dotenv_values(env_file).items() if value} if env_file else {}
    variables |= os.environ
    try:
        settings = load(program.settings, _env_file=env_file, environment="production")
    except SettingsError as error:
        return CheckContext(program, None, error.problems, variables, env_file)
    # A process that a check starts here also reads a developer's .env. Variables take precedence over that file.
    for name in dotenv_values(".env").keys() - variables.keys():
        if name.lower() in type(settings).model_fields:
            value = getattr(settings, name.lower())
            variables[name] = value.get_secret_value() if isinstance(value, SecretStr) else shown(value)
    return CheckContext(program, settings, [], variables, env_file)


def settings(context: CheckContext) -> CheckResult:
    """Check that the settings classes accept all values under the rules of production."""
    environment = context.variables.get("ENVIRONMENT", "development")
    faults = [f"ENVIRONMENT={environment}"] if environment != "production" else []
    faults += context.problems
    return result_of(not faults, "; ".join(faults) or "ENVIRONMENT=production; all settings are valid")


def warnings(context: CheckContext) -> CheckResult:
    """Check that no settings class warns about a valid value."""
    if context.settings is None:
        return _NEEDS_VALID_SETTINGS
    found = context.settings.production_warnings()
    return result_of(not found, "; ".join(found) or "the settings have no warnings")


def secrets(context: CheckContext) -> CheckResult:
    """Check that secrets are not those of an example, and that other users cannot open their file."""
    cls = context.program.settings
    names = [name for name in cls.model_fields if is_secret(cls, name)]
    faults = []
    if context.env_file and context.env_file.stat().st_mode & 0o006:
        faults.append(f"every user of this machine can open {context.env_file}")
    examples = {**dotenv_values(".env.example"), **dotenv_values(".env.production.example")}
    for name in names if context.settings else []:
        value = getattr(context.settings, name)
        text = value.get_secret_value() if isinstance(value, SecretStr) else ""
        # In a URL only the password is secret. A URL may have none, for example with peer authentication over a socket.
        secret = (urlsplit(text).password or "") if "://" in text else text
        if secret and (text == examples.get(variable(name)) or _PLACEHOLDER.search(secret)):
            faults.append(f"{variable(name)} has the value of an example")
        elif secret and len(secret) < _MIN_SECRET_LENGTH:
            faults.append(f"{variable(name)} has fewer than {_MIN_SECRET_LENGTH} characters")
    return result_of(not faults, "; ".join(faults) or f"{len(names)} secret settings, none with an example's value")


def container(measure: Callable[[Path], tuple[bool, str]]) -> Check:
    """Return a check of the container that the command runs in. Outside of a container it is not checked."""

    def check(context: CheckContext) -> CheckResult:
        marked = any((context.root / mark).exists() for mark in (".dockerenv", "run/.containerenv"))
        if not marked and "KUBERNETES_SERVICE_HOST" not in context.variables:
            return CheckResult("not_checked", "not in a container; run deploy-check in the image")
        try:
            return result_of(*measure(context.root))
        except OSError as error:
            return CheckResult("not_checked", f"cannot read {error.filename}")

    return check


def user(root: Path) -> tuple[bool, str]:
    found = re.search(r"^Uid:\s*(\d+)", (root / "proc/self/status").read_text(encoding="utf-8"), re.MULTILINE)
    uid = found[1] if found else "unknown"
    return uid != "0", f"user {uid}"


def read_only(root: Path) -> tuple[bool, str]:
    mounts = [line.split() for line in (root / "proc/self/mounts").read_text(encoding="utf-8").splitlines()]
    mode = [options.split(",")[0] for _, path, _, options, *_ in mounts if path == "/"][-1]
    return mode == "ro", f"/ is mounted {mode}"


def limits(root: Path) -> tuple[bool, str]:
    memory, cpu = ((root / "sys/fs/cgroup" / name).read_text(encoding="utf-8") for name in ("memory.max", "cpu.max"))
    return "max" not in memory + cpu, f"memory.max {memory.strip()}, cpu.max {cpu.strip()}"


def command(*arguments: str, folder_variable: str = "") -> Check:
    """Return a check that passes if a command of the service exits with 0. The evidence is the command's last line.

    If the command writes files, `folder_variable` names the variable for their folder: a temporary one.
    """

    def check(context: CheckContext) -> CheckResult:
        if context.settings is None:
            return _NEEDS_VALID_SETTINGS
        full = [sys.executable, "-m", context.program.app.partition(".")[0], *arguments]
        with TemporaryDirectory() as folder:
            variables = {**context.variables, **({folder_variable: folder} if folder_variable else {})}
            done = subprocess.run(full, env=variables, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS)
        lines = (done.stderr if done.returncode else done.stdout).strip().splitlines()
        return result_of(done.returncode == 0, lines[-1] if lines else f"exit code {done.returncode}")

    return check


CHECKS = (
    DeployCheck("settings", settings, "copy .env.production.example to .env.production and fill it in"),
    DeployCheck("secrets", secrets, "generate new values, and run `chmod 600` on the file"),
    DeployCheck("warnings", warnings, "change the settings that the warnings name", required=False),
    DeployCheck("user", container(user), "end the Dockerfile with `USER 1000`"),
    DeployCheck("read-only", container(read_only), "start the container with read_only: true", required=False),
    DeployCheck("container-limits", container(limits), "limit its memory and CPU time", required=False),
)
# Checks that run a command of a feature, by the command's first word. Without the feature they are left out.
OF_COMMANDS = {
    "migrate": DeployCheck("migrations", command("migrate", "check"), "run `migrate` with these settings"),
    "backup": DeployCheck(
        "backup", command("backup", "--verify", folder_variable="BACKUP_DIRECTORY"), "see docs/backup.md"
    ),
    "sentry-test": DeployCheck(
        "error-tracking", command("sentry-test"), "set SENTRY_DSN; see docs/options/sentry.md", required=False
    ),
}


def deploy_check(program: Program, env_file: Path | None, commands: Container[str]) -> int:
    """Run all checks and return the exit code: 1 if a required check fails."""
    env_file = env_file or next((path for path in (Path(".env.production"), Path(".env")) if path.is_file()), None)
    if env_file and not env_file.is_file():
        print(f"{env_file}: no such file; copy .env.production.example to it and fill it in", file=sys.stderr)
        return 1
    context = read_context(program, env_file)
    results = [(check, run(check, context)) for check in all_checks(program.features, commands)]
    for check, result in results:
        failed = "FAILED" if check.required else "warning"
        mark = {"passed": "ok", "failed": failed, "not_checked": "not checked"}[result.outcome]
        print(f"{mark:<12}{check.name}: {result.evidence}")
        if result.outcome == "failed":
            print(f"{'':<12}Remedy: {check.remedy}.")
    outcomes = [result.outcome for _, result in results]
    print(f"Score: {outcomes.count('passed')} of {len(outcomes) - outcomes.count('not_checked')} checks passed.")
    return int(any(check.required and result.outcome == "failed" for check, result in results))


def all_checks(features: Iterable[Feature], commands: Container[str]) -> list[DeployCheck]:
    """Return the chassis's checks, those of the service's commands, and those of features with `deploy_checks()`."""
    of_commands = [check for command, check in OF_COMMANDS.items() if command in commands]
    return [*CHECKS, *of_commands, *(one for f in features for one in getattr(f, "deploy_checks", tuple)())]


def run(check: DeployCheck, context: CheckContext) -> CheckResult:
    """Run one check. A check that raises has failed, and the others still run."""
    try:
        return check.check(context)
    except Exception as error:
        return result_of(False, f"the check raised {type(error).__name__}")
