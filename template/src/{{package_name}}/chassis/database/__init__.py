"""The database: one engine, one session per unit of work, and migrations."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, SecretStr, field_validator
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from ..settings import BaseChassisSettings


class Settings(BaseChassisSettings):
    """Migrations"""

    # The URL schemes of the backend, and an example of a URL.
    url_schemes: ClassVar[tuple[str, ...]]
    url_example: ClassVar[str]
    # The names of the URL parameters (after `?`) that the driver accepts; None if they are not known.
    url_parameters: ClassVar[frozenset[str] | None] = None

    if TYPE_CHECKING:
        # Each backend declares this field, with its own default; a URL with a password is a secret.
        database_url: str | SecretStr

    database_migration_timeout_seconds: float = Field(
        600.0, gt=0, description="Time limit for waiting for another migration, and for each statement of a migration."
    )

    @field_validator("database_url", check_fields=False)
    @classmethod
    def _is_a_url_of_this_database(cls, value: str | SecretStr) -> str | SecretStr:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        try:
            url = make_url(text)
            is_valid = url.get_backend_name() in cls.url_schemes
        except (ArgumentError, ValueError):  # their texts may contain a part of the password
            is_valid = False
        if not is_valid:
            raise ValueError(f"is not a URL of this database; use the form {cls.url_example}")
        unknown = [] if cls.url_parameters is None else sorted(set(url.query) - cls.url_parameters)
        if unknown:
            raise ValueError(f"has unknown parameters: {', '.join(unknown)}; correct or remove them")
        return value
