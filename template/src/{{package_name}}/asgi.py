"""The service as an ASGI application, for any ASGI server.

`python -m <package> serve` does not need this module. It also drains before a stop and limits connections, which
another server must do itself.
"""

from .chassis.app import asgi_app
from .main import create_app

app = asgi_app(create_app())
