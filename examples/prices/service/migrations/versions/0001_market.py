"""Create the tables of the prices and the large transfers."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "prices",
        sa.Column("id", sa.BigInteger(), primary_key=True),
        sa.Column("usd", sa.Numeric(precision=18, scale=2), nullable=False),
        sa.Column("observed_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("ix_prices_observed_at", "prices", ["observed_at"])
    op.create_table(
        "whales",
        sa.Column("transfer_id", sa.String(length=64), nullable=False),
        sa.Column("btc", sa.Numeric(precision=18, scale=8), nullable=False),
        sa.Column("reported_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("transfer_id", name="pk_whales"),
    )


def downgrade() -> None:
    op.drop_table("whales")
    op.drop_index("ix_prices_observed_at", table_name="prices")
    op.drop_table("prices")
