"""Create the tables of the plans and their workouts."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "plans",
        sa.Column("id", sa.BigInteger(), primary_key=True),
        sa.Column("athlete", sa.String(length=100), nullable=False),
        sa.Column("goal", sa.String(length=200), nullable=False),
        sa.Column("starts_on", sa.Date(), nullable=False),
        sa.Column("ends_on", sa.Date(), nullable=False),
    )
    op.create_table(
        "workouts",
        sa.Column("id", sa.BigInteger(), primary_key=True),
        sa.Column("plan_id", sa.BigInteger(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("minutes", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name="fk_workouts_plan_id_plans"),
        sa.UniqueConstraint("plan_id", "day", name="uq_workouts_plan_id"),
    )


def downgrade() -> None:
    op.drop_table("workouts")
    op.drop_table("plans")
