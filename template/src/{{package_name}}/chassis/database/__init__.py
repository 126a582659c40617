"""The database: one engine, one session per unit of work, and migrations."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, SecretStr, field_validator
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from ..settings import BaseChassisSettings


class Settings(BaseChassisSettings):
    """Migrations"""

    # The URL schemes of the backend, and the example and the hint that errors about a URL show.
    url_schemes: ClassVar[tuple[str, ...]]
    url_example: ClassVar[str]
    url_hint: ClassVar = ""

    if TYPE_CHECKING:
        # Each backend declares this field, with its own default; a URL with a password is a secret.
        database_url: str | SecretStr

    database_migration_timeout_seconds: float = Field(
        600.0, gt=0, description="Time limit for waiting for another migration, and for each statement of a migration."
    )

    @field_validator("database_url", check_fields=False)
    @classmethod
    def _is_a_url_of_this_database(cls, value: str | SecretStr) -> str | SecretStr:
        cls.parse_url(value.get_secret_value() if isinstance(value, SecretStr) else value)
        return value

    @classmethod
    def parse_url(cls, text: str) -> URL:
        """Parse `DATABASE_URL`.

        Raises:
            ValueError: It is invalid. The message contains no part of it that may be secret.
        """
        try:
            url = make_url(text)
        except (ArgumentError, ValueError):  # their texts may contain a part of the password
            raise cls.invalid_url() from None
        if url.get_backend_name() not in cls.url_schemes or (url.database or "").startswith("file:"):
            raise cls.invalid_url()
        return url

    @classmethod
    def invalid_url(cls) -> ValueError:
        return ValueError(f"is not a URL of this database; use the form {cls.url_example}{cls.url_hint}")
