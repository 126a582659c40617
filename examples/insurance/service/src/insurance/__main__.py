"""Commands of the service: `python -m insurance serve`, `check`, `settings`, `import` ..."""

import os
import signal
import sys


def run() -> int:
    # This comes before the imports, which take a moment, because process 1 of a container ignores SIGTERM without a
    # handler. `serve` replaces the handler. Other commands end as other programs do at this signal.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0 if "serve" in sys.argv else 128 + signal.SIGTERM))

    from .chassis.cli import Program, main
    from .chassis.features import FEATURES, serve
    from .portfolio import commands
    from .settings import Settings

    return main(Program("insurance.main:create_app", Settings, (*FEATURES, commands), serve))


if __name__ == "__main__":
    raise SystemExit(run())
