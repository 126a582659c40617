"""The database: one engine, one session a unit of work, migrations. Written once for every database and framework."""

from __future__ import annotations

from pydantic import Field, field_validator
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from ..settings import BaseChassisSettings


class Settings(BaseChassisSettings):
    """Database"""

    database_url: str = Field("sqlite:///data/service.db", description="Where the data is, as an SQLAlchemy URL.")

    @field_validator("database_url")
    @classmethod
    def _is_a_url(cls, value: str) -> str:
        try:
            make_url(value)
        except ArgumentError:
            raise ValueError("is no database URL; write it like sqlite:///data/service.db") from None
        return value
