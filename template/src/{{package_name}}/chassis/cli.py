"""The commands of the service: `serve`, `check`, `settings`, and those of its features, such as `migrate`."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from . import settings as chassis_settings
from .app import Feature
from .lifecycle import EX_CONFIG, flush_stdout
from .settings import BaseChassisSettings, SettingsError


@dataclass(frozen=True)
class Program:
    """The service that the commands run. `app` is the path of its factory, such as `orders.main:create_app`."""

    app: str
    settings: type[BaseChassisSettings]
    features: Sequence[Feature]
    serve: Callable[[Callable[[], Any], BaseChassisSettings], int]

    def create_app(self) -> Any:
        module, _, factory = self.app.partition(":")
        return getattr(import_module(module), factory)()


def main(program: Program, arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, or 78 if the settings are invalid."""
    try:
        options = _parser(program).parse_args(arguments)
        code: int = options.run(program, options)
    except SettingsError as error:
        return print_problems(error)
    except BrokenPipeError:  # the program that reads the output, such as `head`, has ended
        return 1
    finally:
        flush_stdout()
    return code


def print_problems(error: SettingsError) -> int:
    """Print each problem on its own line to stderr, and return the exit code."""
    count = len(error.problems)
    print(f"The settings have {count} problem{'s' if count > 1 else ''}:", file=sys.stderr)
    for sentence in error.problems:
        print(f"  {sentence}", file=sys.stderr)
    return EX_CONFIG


def _parser(program: Program) -> argparse.ArgumentParser:
    package = program.app.partition(".")[0]
    parser = argparse.ArgumentParser(prog=f"python -m {package}", description="Run and inspect the service.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="serve until SIGTERM or SIGINT")
    serve.add_argument("--reload", action="store_true", help="restart whenever the code changes")
    serve.set_defaults(run=_serve)
    commands.add_parser("check", help="validate the settings and list every problem").set_defaults(run=_check)
    show = commands.add_parser("settings", help="print the effective settings, with secrets masked")
    show.set_defaults(run=_settings)
    for feature in program.features:
        add_commands = getattr(feature, "add_commands", None)
        if add_commands:
            add_commands(commands)
    return parser


def _serve(program: Program, options: argparse.Namespace) -> int:
    settings = chassis_settings.load(program.settings)
    if options.reload:
        return _serve_and_reload(program)
    return program.serve(program.create_app, settings)


def _serve_and_reload(program: Program) -> int:
    from watchfiles import PythonFilter, watch  # a development dependency

    package = program.app.partition(".")[0]
    # Development has no load balancer, so a restart need not wait for a drain.
    os.environ.setdefault("SHUTDOWN_DRAIN_SECONDS", "0")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    changes = watch(import_module(package).__path__[0], watch_filter=PythonFilter(), raise_interrupt=False)
    changed = True
    while changed:
        # A separate process group: Ctrl-C in a terminal reaches this process only, which then stops the service.
        with subprocess.Popen([sys.executable, "-m", package, "serve"], process_group=0) as service:
            changed = next(changes, None) is not None
            service.terminate()
    return 0


def _check(program: Program, _options: argparse.Namespace) -> int:
    settings = chassis_settings.load(program.settings)
    print(f"The settings are valid for ENVIRONMENT={settings.environment}.")
    warnings = settings.production_warnings() if settings.is_production else []
    for sentence in [*warnings, *chassis_settings.source_warnings(program.settings)]:
        print(f"Warning: {sentence}.", file=sys.stderr)
    return 0


def _settings(program: Program, _options: argparse.Namespace) -> int:
    for name, value in chassis_settings.in_force(chassis_settings.load(program.settings)).items():
        print(f"{name}={value}")
    return 0
