"""The database: one engine, one session a unit of work, migrations. Written once for every database and framework."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, SecretStr, field_validator
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from . import backup


class Settings(backup.Settings):
    """Migrations"""

    # How a dialect's URL begins, and an example of one; `database_url` itself is a field of the dialect's settings.
    url_schemes: ClassVar[tuple[str, ...]]
    url_example: ClassVar[str]

    database_migration_timeout_seconds: float = Field(
        600.0, gt=0, description="How long a migration waits for another one, and how long its statements may take."
    )

    @field_validator("database_url", check_fields=False)
    @classmethod
    def _is_a_url_of_this_database(cls, value: str | SecretStr) -> str | SecretStr:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        try:
            scheme = make_url(text).get_backend_name()
        except ArgumentError:
            scheme = ""
        if scheme not in cls.url_schemes:
            raise ValueError(f"is no URL of this database; write it like {cls.url_example}")
        return value
