"""Your settings: a field here is read from the environment variable of the same name, in capitals."""

from importlib.metadata import version

from pydantic import Field

from .chassis.features import ChassisSettings


class Settings(ChassisSettings):
    """Settings of your own"""

    service_name: str = "deals"
    service_version: str = Field(default_factory=lambda: version("deals"))

    marketplace_url: str = Field("http://127.0.0.1:8080", description="The marketplace from which offers are imported.")
    alert_score: int = Field(75, ge=0, le=100, description="An offer with this score or more is reported.")
    alert_email: str = Field("", description="The address that gets alerts. If it is empty, no emails are sent.")
    alert_phone: str = Field("", description="The number that gets alerts, such as +4930123456. If empty, no SMS.")
