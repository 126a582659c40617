"""The migrations create the schema that the models describe."""

from __future__ import annotations

from .package import module, program

cli = module("chassis.cli")


def test_models_and_migrations_agree(migrated: None) -> None:
    """If this fails after a change to a model, write a revision with `migrate revision MESSAGE`."""
    assert cli.main(program(), ["migrate", "check"]) == 0
