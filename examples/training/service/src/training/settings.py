"""Your settings: a field here is read from the environment variable of the same name, in capitals."""

from importlib.metadata import version

from pydantic import Field

from .chassis.features import ChassisSettings


class Settings(ChassisSettings):
    """Settings of your own"""

    service_name: str = "training"
    service_version: str = Field(default_factory=lambda: version("training"))

    plan_max_weeks: int = Field(52, ge=1, le=520, description="The longest plan.")
    schedule_slow_milliseconds: float = Field(
        250.0, ge=0, description="A schedule that takes longer to build is logged as `slow_operation`."
    )
