"""Create the tables of the cups and the heart rates."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "cups",
        sa.Column("id", sa.BigInteger(), primary_key=True),
        sa.Column("kind", sa.String(length=50), nullable=False),
        sa.Column("caffeine_mg", sa.Integer(), nullable=False),
        sa.Column("drunk_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("ix_cups_drunk_at", "cups", ["drunk_at"])
    op.create_table(
        "heart_rates",
        sa.Column("id", sa.BigInteger(), primary_key=True),
        sa.Column("beats_per_minute", sa.Integer(), nullable=False),
        sa.Column("measured_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("ix_heart_rates_measured_at", "heart_rates", ["measured_at"])


def downgrade() -> None:
    op.drop_table("heart_rates")
    op.drop_table("cups")
