"""The service as an ASGI application, for any ASGI server.

`python -m <package> serve` does not need this module. It also drains before a stop and limits connections, which
another server must do itself.
"""

from .chassis.app import asgi_app
from .chassis.cli import print_problems
from .chassis.settings import SettingsError
from .main import create_app

try:
    app = asgi_app(create_app())
except SettingsError as error:
    raise SystemExit(print_problems(error)) from None
