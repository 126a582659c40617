"""Your settings: a field here is read from the environment variable of the same name, in capitals."""

from decimal import Decimal
from importlib.metadata import version

from pydantic import Field

from .chassis.features import ChassisSettings


class Settings(ChassisSettings):
    """Settings of your own"""

    service_name: str = "insurance"
    service_version: str = Field(default_factory=lambda: version("insurance"))

    node_url: str = Field(
        "", description="The external node that holds the reserve. If it is empty, the reserve is RESERVE_AMOUNT."
    )
    node_check_cache_seconds: float = Field(15.0, ge=0, description="How long the health of the node is cached.")
    reserve_amount: Decimal = Field(Decimal(1_000_000), ge=0, description="The reserve, if there is no node.")
    reserve_ratio_warning: float = Field(
        1.5, gt=0, description="`/health` warns if the reserve divided by the open claims is below this."
    )
    reserve_ratio_minimum: float = Field(1.0, gt=0, description="`/health` fails below this ratio.")
