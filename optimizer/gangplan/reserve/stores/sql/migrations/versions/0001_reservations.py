"""Reservations, calendars, and the head row."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the first tables."""
    op.create_table(
        "gangplan_head",
        sa.Column("one", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("change", sa.BigInteger, nullable=False),
        sa.Column("arrivals", sa.BigInteger, nullable=False),
        sa.Column("tokens", sa.BigInteger, nullable=False),
        sa.Column("calendar_change", sa.BigInteger, nullable=False),
        sa.Column("due", sa.BigInteger),
    )
    op.execute("INSERT INTO gangplan_head VALUES (1, 0, 0, 0, 0, NULL)")
    op.create_table(
        "gangplan_reservations",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("request_key", sa.String(512), nullable=False),
        sa.Column("tenant", sa.String(63), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("arrival", sa.BigInteger, nullable=False),
        sa.Column("submitted", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("token", sa.BigInteger),
        sa.Column("pool", sa.String(63)),
        sa.Column("slots", sa.Text),
        sa.Column("granted", sa.BigInteger),
        sa.Column("hard_end", sa.BigInteger),
        sa.Column("expires", sa.BigInteger),
        sa.Column("ended", sa.BigInteger),
        sa.Column("first_eta", sa.BigInteger),
        sa.Column("plan", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("change", sa.BigInteger, nullable=False),
    )
    op.create_index("gangplan_reservations_change", "gangplan_reservations", ["change"])
    op.create_index("gangplan_reservations_state", "gangplan_reservations", ["state", "arrival"])
    op.create_index("gangplan_reservations_ended", "gangplan_reservations", ["ended"])
    op.create_table(
        "gangplan_calendars",
        sa.Column("change", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("published", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
