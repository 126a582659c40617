"""Your settings: a field here is read from the environment variable of the same name, in capitals."""

from decimal import Decimal
from importlib.metadata import version

from pydantic import Field

from .chassis.features import ChassisSettings


class Settings(ChassisSettings):
    """Settings of your own"""

    service_name: str = "prices"
    service_version: str = Field(default_factory=lambda: version("prices"))

    spot_url: str = Field("", description="The upstream of prices. If it is empty, no prices are collected.")
    chain_url: str = Field("", description="The upstream of transfers. If it is empty, none are watched.")
    poll_interval_seconds: float = Field(60.0, gt=0, description="The pause between two calls of an upstream.")
    whale_threshold_btc: Decimal = Field(Decimal(1000), gt=0, description="A transfer of this size is reported.")
