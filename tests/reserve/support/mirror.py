"""A picture of a SQL ledger kept from its audit log alone, change by change; `checks` says what must hold of each.

It reads the file past the ledger's own code: the audit rows say what changed, and the tables have to say the same.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from tests.reserve.support.checks import (
    FINAL,
    FOREVER,
    Outline,
    Row,
    check_board,
    check_new_places,
    check_notices,
    check_promises,
    check_step,
    parsed,
)

from gangplan.reserve.stores.sql.leadership import DEAD_AFTER
from gangplan.types import Reservation


class Mirror:
    """The reservations as the audit log tells them, and all versions that there were of each."""

    def __init__(self, path: str, gpus: dict[str, int], seconds: Callable[[], float]) -> None:
        self._seconds = seconds  # of the world, as they pass for all
        self.lead: tuple[int, str | None, int] = (0, None, 0)
        self.beaten = 0.0  # when the heartbeat was last counted up
        self.file = sqlite3.connect(path, isolation_level=None)
        self.file.row_factory = sqlite3.Row
        self.gpus = gpus  # by pool: GPUs of one node
        self.rows: dict[str, Row] = {}
        self.live: dict[str, Row] = {}
        self.versions: dict[str, list[Outline]] = defaultdict(list)
        self.change = self.tokens = self.arrivals = self.term = self.at = self.digest = 0
        self.issued: Counter[tuple[str, str | None]] = Counter()  # commands that somebody gave, lost or not
        self.ran: Counter[tuple[str, str | None]] = Counter()  # commands that changed something, by the log
        self.released: set[tuple[str, int]] = set()  # ids and tokens that somebody asked to release
        self.seen: Counter[str] = Counter()
        self.documents: dict[str, Any] = {"nodes": {}, "calendar": {"intervals": []}, "policy": {"tenants": {}}}
        self._documents_change = -1

    # ------------------------------------------------------------ reading

    def catch_up(self) -> None:
        """Take in the changes since the last time, and hold each against what must be true."""
        head = self.file.execute("SELECT * FROM gangplan_head").fetchone()
        self._check_lead(head)
        if head["change"] == self.change:
            return
        for row in self.file.execute("SELECT * FROM gangplan_audit WHERE change > ? ORDER BY change", [self.change]):
            self._take(row)
        self._read_documents(head["documents_change"])
        self._same_in_table()
        self.change = head["change"]
        assert (head["tokens"], head["arrivals"]) == (self.tokens, self.arrivals)

    def _check_lead(self, head: sqlite3.Row) -> None:
        """Terms only grow, and nobody takes over from one whose heartbeat has not stood still for long enough."""
        lead = head["term"], head["holder"], head["beat"]
        assert lead[0] >= self.term, "the term went back"
        if lead[0] != self.term:
            assert self.lead[1] is None or self._seconds() - self.beaten >= DEAD_AFTER, (
                "a leader that lives was replaced"
            )
            self.seen["takeovers"] += self.lead[1] is not None
            self.seen["terms"] += 1
        if lead != self.lead:
            self.lead, self.beaten, self.term = lead, self._seconds(), lead[0]

    def is_under_way(self, call: str) -> bool:
        """Tell whether a call waits for the leader, or its answer for the caller."""
        tables = ("gangplan_inbox", "gangplan_answers")
        queries = [f"SELECT 1 FROM {table} WHERE call = ?" for table in tables]  # noqa: S608 (constants)
        return any(self.file.execute(query, [call]).fetchone() for query in queries)

    def _take(self, event: sqlite3.Row) -> None:
        """Apply one change of the log."""
        said = json.loads(event["body"])
        assert not said.get("base"), "a base later than what it folds"
        assert event["term"] <= self.term
        self.digest = zlib.crc32(f"{event['change']} {event['at']} {event['body']}".encode(), self.digest)
        self._count(said["commands"])
        self._read_documents(event["change"])
        before = {id: self.rows.get(id) for id in said["rows"]}
        tokens = self.tokens
        for id, columns in said["rows"].items():
            row = {**(self.rows.get(id) or {}), **columns}
            check_step(self, before[id], row, event["at"], tokens)
            self._keep(id, row)
        check_board(self)
        check_new_places(self, [(before[id], self.rows[id]) for id in before], event["at"])
        check_notices(self)
        check_promises(self, before, {name for name, _ in said["commands"]}, event["at"])
        if ["compact", None] not in said["commands"]:  # that is no tick
            self.at = event["at"]

    def _count(self, commands: list[tuple[str, str | None]]) -> None:
        """No command is run more often than it was given."""
        self.ran.update((name, id) for name, id in commands)
        for name, id in commands:
            if name != "compact":
                assert self.ran[name, id] <= self.issued[name, id], f"{name} of {id} ran more often than it was given"

    def _keep(self, id: str, row: Row) -> None:
        """Keep a version, with its slots at hand."""
        row["places"] = parsed(row["slots"])
        row["promise"] = json.loads(row["plan"]) if row["plan"] else None
        row["leave"] = json.loads(row["more"]).get("leave") if row["more"] else None
        self.rows[id] = row
        self.versions[id].append(outline_of_row(row))
        self.tokens = max(self.tokens, row["token"] or 0)
        self.arrivals = max(self.arrivals, row["arrival"])
        if row["state"] in FINAL:
            self.live.pop(id, None)
        else:
            self.live[id] = row

    def _read_documents(self, upto: int) -> None:
        """Read the newest calendar, policy and nodes' states."""
        query = (
            "SELECT kind, body, change FROM gangplan_documents WHERE change > ? AND change <= ? ORDER BY change, place"
        )
        self.nodes_changed = False  # by a command, or by time
        for row in self.file.execute(query, [self._documents_change, upto]).fetchall():
            self.nodes_changed = self.nodes_changed or row["kind"] == "nodes"
            self.documents[row["kind"]] = json.loads(row["body"])
            self._documents_change = row["change"]

    def _same_in_table(self) -> None:
        """What changed in the table is what the log says."""
        changed = self.file.execute("SELECT * FROM gangplan_reservations WHERE change > ?", [self.change]).fetchall()
        for row in changed:
            mine = self.rows.get(row["id"])
            assert mine is not None, f"{row['id']} is in the table and not in the log"
            different = [name for name in row.keys() if name != "change" and mine[name] != row[name]]  # noqa: SIM118
            assert not different, f"{row['id']}: the log and the table differ in {different}"

    def whole(self) -> set[str]:
        """Hold all rows of the table against the log, and forget those that retention took away."""
        table = {row["id"]: row for row in self.file.execute("SELECT * FROM gangplan_reservations")}
        for id, row in table.items():
            mine = self.rows[id]
            assert all(mine[name] == row[name] for name in row.keys() if name != "change"), id  # noqa: SIM118
        gone = self.rows.keys() - table.keys()
        for id in gone:
            assert self.rows[id]["state"] in FINAL, f"{id} was live and is gone"
            del self.rows[id], self.versions[id]
        return gone

    def nodes_at(self, pool: str, start: int, end: int) -> int:
        """Return the least nodes that the calendar has in a pool from `start` up to `end`."""
        spans = sorted(i[1:] for i in self.documents["calendar"]["intervals"] if i[0] == pool)
        if not spans or start < spans[0][0]:
            return 0
        closed = [*spans[:-1], [spans[-1][0], FOREVER, spans[-1][2]]]
        inside = [span for span in closed if span[0] < end and span[1] > start]
        gaps = any(a[1] < b[0] for a, b in pairwise(inside))
        return 0 if gaps or not inside else min(span[2] for span in inside)

    def last(self, id: str) -> Outline:
        """Return how a reservation stands."""
        return self.versions[id][-1]


# ---------------------------------------------------------------- outlines


def outline_of_row(row: Row) -> Outline:
    """Return what a client relies on."""
    notice = row["leave"][0] if row["leave"] and not row["leave"][6] else None  # told later: not shown yet
    return (
        row["state"],
        row["token"],
        row["granted"],
        row["expires"],
        row["ended"],
        row["pool"],
        row["places"],
        notice,
    )


def outline_of(seen: Reservation) -> Outline:
    """Return the same of what a client was told."""
    times = [None if at is None else round(at.timestamp() * 1e6) for at in (seen.granted_at, seen.expires_at)]
    ended = None if seen.ended_at is None else round(seen.ended_at.timestamp() * 1e6)
    until = None if seen.notice is None else round(seen.notice.until.timestamp() * 1e6)
    slots = tuple((int(p.node.rpartition("-")[2]), p.pod_set, p.pods, p.gpus) for p in seen.placements)
    pool = seen.placements[0].pool if seen.placements else None
    return (seen.state.value, seen.token, *times, ended, pool, slots, until)
