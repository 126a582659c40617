"""The migrations of the notes lead to the schema that the models describe."""

from __future__ import annotations

from ..package import module, program

cli = module("chassis.cli")


def test_models_and_migrations_agree(migrated: None) -> None:
    """Whoever changes a model and forgets the revision hears of it here; `migrate revision MESSAGE` writes one."""
    assert cli.main(program(), ["migrate", "check"]) == 0
