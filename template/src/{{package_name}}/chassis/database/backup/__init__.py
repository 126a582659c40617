"""Backups: what they are set to, and what stands in the way of one. docs/backup.md says how they are used."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, field_validator

from ...settings import BaseChassisSettings

KEY_BYTES = 32


class BackupError(Exception):
    """A backup cannot be made or restored; the text says why, and what to do."""


class Settings(BaseChassisSettings):
    """Backups"""

    backup_directory: Path = Field(Path("backups"), description="Folder of the backups; best on another disk.")
    backup_key: SecretStr | None = Field(
        None, description="Encrypts backups: 32 random bytes in base64, as `openssl rand -base64 32` prints them."
    )
    backup_keep_count: int = Field(30, ge=1, description="How many backups are kept; older ones are deleted.")
    backup_keep_days: int = Field(30, ge=1, description="Age in days at which a backup is deleted, but for the newest.")
    backup_timeout_seconds: float = Field(
        3600.0, gt=0, description="How long one statement of a backup or a restore may take."
    )

    @field_validator("backup_key")
    @classmethod
    def _is_a_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(_decoded(value)) != KEY_BYTES:
            raise ValueError(f"is not {KEY_BYTES} bytes in base64; make one with `openssl rand -base64 {KEY_BYTES}`")
        return value


def key_of(settings: Any) -> bytes | None:
    """Return the key of the backups, if there is one."""
    return _decoded(settings.backup_key) if settings.backup_key else None


def _decoded(key: SecretStr) -> bytes:
    try:
        return base64.b64decode(key.get_secret_value().strip(), validate=True)
    except (binascii.Error, ValueError):
        return b""
