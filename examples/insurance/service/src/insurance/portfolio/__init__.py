"""Policies, their claims, and the reserve behind them."""

from flask import Flask

from ..chassis.app import chassis_of
from .reserves import add_reserves
from .router import blueprint


def install(app: Flask) -> None:
    """Add the routes, the client of the node and the health checks."""
    app.register_blueprint(blueprint, url_prefix="/api/v1")
    add_reserves(chassis_of(app))
