# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Who leads, what it is asked and what it answered; one table of documents; the audit log; requests say more."""

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Bring the tables of 0001, with all that is in them, to what the code uses now."""
    _head()
    _documents()
    op.add_column("gangplan_reservations", sa.Column("more", sa.Text))
    _bodies()
    _letters()
    _audit()


def _head() -> None:
    """Let the head say who leads."""
    op.execute("ALTER TABLE gangplan_head RENAME COLUMN calendar_change TO documents_change")
    op.add_column("gangplan_head", sa.Column("term", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("gangplan_head", sa.Column("holder", sa.String(200)))
    op.add_column("gangplan_head", sa.Column("beat", sa.BigInteger, nullable=False, server_default="0"))


def _documents() -> None:
    """Keep calendars among other documents."""
    op.create_table(
        "gangplan_documents",
        sa.Column("change", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("place", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_index("gangplan_documents_kind", "gangplan_documents", ["kind", "change"])
    op.execute(
        'INSERT INTO gangplan_documents (change, place, kind, at, "by", why, body)'
        " SELECT change, 0, 'calendar', published, '', '', body FROM gangplan_calendars"
    )
    op.drop_table("gangplan_calendars")


def _bodies() -> None:
    """Write requests as they are written now, so that the same request is still the same text."""
    rows = sa.table("gangplan_reservations", sa.column("id", sa.String), sa.column("body", sa.Text))
    found = op.get_bind().execute(sa.select(rows)).all()
    if found:
        change = rows.update().where(rows.c.id == sa.bindparam("row")).values(body=sa.bindparam("text"))
        op.get_bind().execute(change, [{"row": row.id, "text": _body(json.loads(row.body))} for row in found])


def _body(old: Mapping[str, Any]) -> str:
    """Return a request of 0001 as 0002 writes it."""
    new = {
        "request_key": old["request_key"],
        "tenant": old["tenant"],
        "pod_sets": [[count, gpus, None, None] for count, gpus in old["pod_sets"]],
        "accelerators": old["accelerators"],
        "duration": old["duration"],
        "walltime": old["walltime"],
        "speed": {},
        "slot": "gpu",
        "priority": old["priority"],
        "priority_class": "",
        "workload_class": old["workload_class"],
        "earliest_start": old["earliest_start"],
        "latest_start": old["latest_start"],
        "deadline": None,
        "topology": "rack" if old["same_rack"] else None,
        "preemptible": old["preemptible"],
        "checkpoint": None,
        "labels": old["labels"],
    }
    return json.dumps(new)


def _letters() -> None:
    """Make room for what clients ask and what the leader answers."""
    op.create_table(
        "gangplan_inbox",
        sa.Column("seq", _NUMBER, primary_key=True, autoincrement=True),
        sa.Column("call", sa.String(80), nullable=False),
        sa.Column("client", sa.String(200), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_table(
        "gangplan_answers",
        sa.Column("call", sa.String(80), primary_key=True),
        sa.Column("client", sa.String(200), nullable=False),
        sa.Column("change", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_index("gangplan_answers_client", "gangplan_answers", ["client", "change"])
    op.create_index("gangplan_answers_change", "gangplan_answers", ["change"])


def _audit() -> None:
    """Begin the log with the reservations that are there."""
    log = op.create_table(
        "gangplan_audit",
        sa.Column("change", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("term", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    bind = op.get_bind()
    rows = [dict(row) for row in bind.execute(sa.text("SELECT * FROM gangplan_reservations")).mappings()]
    if not rows:
        return
    for row in rows:
        del row["change"]
    latest = max(max(row["submitted"], row["granted"] or 0, row["ended"] or 0) for row in rows)
    body = json.dumps({"base": True, "commands": [], "rows": {row["id"]: row for row in rows}})
    newest = bind.execute(sa.text("SELECT change FROM gangplan_head")).scalar_one()
    bind.execute(log.insert(), {"change": newest, "at": latest, "term": 0, "body": body})
