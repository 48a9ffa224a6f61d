"""A picture of a SQL ledger kept from its audit log alone, change by change, and what must hold of every change.

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

from gangplan.reserve.leading import DEAD_AFTER
from gangplan.types import Reservation

Row = dict[str, Any]
Outline = tuple[Any, ...]

FINAL = ("released", "cancelled", "expired", "preempted")
FIXED = ("id", "request_key", "tenant", "body", "arrival", "submitted")
LATE_US = 4_000_000
HOUR_US = 3_600_000_000
FOREVER = 2**62


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
        self.documents: dict[str, Any] = {"nodes": {}, "calendar": {"intervals": []}, "policy": None}
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
        for row in self.file.execute(query, [self._documents_change, upto]).fetchall():
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


def parsed(slots: str | None) -> Outline:
    """Return slots as tuples of node, pod set, pods and GPUs."""
    return tuple(tuple(slot) for slot in json.loads(slots)) if slots else ()


def outline_of_row(row: Row) -> Outline:
    """Return what a client relies on."""
    notice = row["leave"][0] if row["leave"] else None
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


# ---------------------------------------------------------------- one reservation's step


def check_step(mirror: Mirror, before: Row | None, after: Row, at: int, tokens: int) -> None:
    """2, 3, 4: what one change may make of one reservation; `tokens` is the last token before it."""
    id, state = after["id"], after["state"]
    if before is None:
        assert mirror.issued["submit", id], f"{id} came from nowhere"
        mirror.seen["submitted"] += 1
        before = {**after, "state": "waiting", "token": None}
    else:
        assert all(before[name] == after[name] for name in FIXED), f"{id}: what is fixed changed"
        assert before["state"] not in FINAL, f"{id} ended ({before['state']}) and was changed to {state}"
    if state in FINAL:
        _check_end(mirror, before, after, at)
    if after["token"] != before["token"]:
        _check_token(before, after, tokens)
    mirror.seen[state] += state != before["state"] or after["token"] != before["token"]
    _check_whole(mirror, after)


def _check_end(mirror: Mirror, before: Row, after: Row, at: int) -> None:
    """An end has its cause: a call, the time, or a notice that is over."""
    id, state = after["id"], after["state"]
    assert after["ended"] is not None
    if state == "released":
        assert before["state"] == "granted"
        assert (id, before["token"]) in mirror.released, f"{id} was released by nobody who held its token"
    elif state == "cancelled":
        assert mirror.issued["cancel", id], f"{id} was cancelled by nobody"
    elif state == "preempted":
        assert before["state"] == "granted"
        assert before["leave"], f"{id} was preempted without notice"
        assert before["leave"][0] <= at, f"{id} was preempted before its notice ended"
    else:
        assert after["expires"] is None or after["expires"] <= at, f"{id} expired before its time"


def _check_token(before: Row, after: Row, tokens: int) -> None:
    """A token is new with each grant, and greater than all before; it goes only with a lost node."""
    moved = moves_of(after) > moves_of(before)
    assert moved or before["token"] is None, f"{after['id']}: its token changed"
    assert not moved or before["state"] == "granted", f"{after['id']}: interrupted without slots"
    if after["token"] is not None:
        assert after["token"] > tokens, f"{after['id']}: token {after['token']} is not greater than {tokens}"


def moves_of(row: Row) -> int:
    """Return how often its nodes went away."""
    return json.loads(row["more"]).get("moves", 0) if row["more"] else 0


def _check_whole(mirror: Mirror, row: Row) -> None:
    """Who holds slots holds all of its gang; who does not, none."""
    if row["token"] is None:
        assert not parsed(row["slots"]), f"{row['id']} has slots and no token"
        return
    sets = json.loads(row["body"])["pod_sets"]
    pods: Counter[int] = Counter()
    for _, pod_set, count, gpus in parsed(row["slots"]):
        pods[pod_set] += count
        assert gpus == count * sets[pod_set][1]
    resized = mirror.issued["resize", row["id"]] > 0
    for index, (count, _, least, most) in enumerate(sets):
        low, high = (least or count, most or count) if resized else (count, count)
        assert low <= pods[index] <= high, f"{row['id']} holds {pods[index]} pods of set {index}"


# ---------------------------------------------------------------- all reservations together


def check_board(mirror: Mirror) -> None:
    """1: on no node, now or later, is more held and promised than it has."""
    steps: dict[tuple[str, int], list[tuple[int, int]]] = defaultdict(list)
    for row in mirror.live.values():
        promise = row["promise"]
        if row["state"] == "granted":
            for node, _, _, gpus in row["places"]:
                steps[row["pool"], node] += [(0, gpus), (row["hard_end"], -gpus)]
            assert row["expires"] <= row["hard_end"]
        elif promise is not None:
            for node, _, _, gpus in promise[1]:
                steps[promise[0], node] += [(promise[2], gpus), (promise[3], -gpus)]
    for (pool, node), changes in steps.items():
        used = 0
        for moment, gpus in sorted(changes):
            used += gpus
            assert used <= mirror.gpus[pool], f"{pool}-{node} carries {used} GPUs at {moment}"


def check_new_places(mirror: Mirror, changed: list[tuple[Row | None, Row]], at: int) -> None:
    """What was granted or promised just now stands on nodes that are there and ready; nobody stays on a lost one."""
    out = mirror.documents["nodes"]
    for before, row in changed:
        promise, was = row["promise"], before["promise"] if before else None
        if row["state"] == "granted" and (before is None or before["token"] != row["token"]):
            _check_nodes(mirror, row["pool"], row["places"], at, row["hard_end"])
            mirror.seen["grants"] += 1
        elif row["state"] in ("waiting", "interrupted") and promise and promise != was:
            _check_nodes(mirror, promise[0], promise[1], max(at, promise[2]), promise[3])
            mirror.seen["promises"] += 1
    lost = {name for name, state in out.items() if state == "lost"}
    for row in mirror.live.values() if lost else ():
        held = {f"{row['pool']}-{slot[0]}" for slot in row["places"]} if row["state"] == "granted" else set()
        assert not held & lost, f"{row['id']} holds slots of a lost node"


def _check_nodes(mirror: Mirror, pool: str, slots: Any, start: int, end: int) -> None:
    there, out = mirror.nodes_at(pool, start, end), mirror.documents["nodes"]
    for node, *_ in slots:
        assert node < there, f"{pool}-{node} is not in the calendar from {start} to {end}"
        assert f"{pool}-{node}" not in out, f"{pool}-{node} is {out[f'{pool}-{node}']}"


def check_notices(mirror: Mirror) -> None:
    """6: a notice is for a request that waits for these slots with a firm promise, or else nobody could stay."""
    keys = {row["request_key"]: row for row in mirror.live.values()}
    for row in mirror.live.values():
        if row["leave"] is None:
            continue
        until, _, state, beneficiary, *_ = row["leave"]
        assert row["state"] == "granted"
        assert row["expires"] <= row["hard_end"] <= until
        if state == "preempted":
            assert json.loads(row["body"])["preemptible"]
            other = keys.get(beneficiary)
            if other is not None and other["state"] == "waiting" and other["promise"] and other["promise"][4]:
                mirror.seen["notices kept"] += 1
            elif row["leave"][5] > row["hard_end"]:
                check_taken(mirror, row)


def check_taken(mirror: Mirror, row: Row) -> None:
    """Who was not let stay though its beneficiary left: its slots were promised to others after it, or its quota."""
    end, asked = row["hard_end"], row["leave"][5]
    others = [o for o in mirror.live.values() if o["promise"] and o["promise"][2] < asked and o["promise"][3] > end]
    assert others or mirror.documents["policy"], f"{row['id']} must leave for nobody"
    mirror.seen["notices that could not be taken back"] += 1


def check_promises(mirror: Mirror, before: dict[str, Row | None], names: set[str], at: int) -> None:
    """5: a promise moves later only for a calendar, a policy, a node, growth, a late tick, or one that ranks ahead."""
    if names & {"publish", "set_policy", "mark_node", "resize"} or not 0 <= at - mirror.at <= LATE_US:
        return
    gained = [mirror.rows[id] for id, was in before.items() if kept(mirror.rows[id]) and not (was and kept(was))]
    for id, was in before.items():
        now = mirror.rows[id]
        if was is None or was["state"] != "waiting" or was["promise"] is None or now["state"] in FINAL:
            continue
        mirror.seen["promises that changed"] += 1
        start = now["granted"] or (now["promise"][2] if now["promise"] else FOREVER)
        if start > max(was["promise"][2], at) and not any(ranks_ahead(one, now) for one in gained):
            came = [mirror.rows[other] for other, earlier in before.items() if earlier is None]
            assert any(ranks_ahead(one, now) for one in came), moved_for_nobody(mirror, id, before, names)
            mirror.seen["promises moved for one that has none in the end"] += 1


def moved_for_nobody(mirror: Mirror, id: str, before: dict[str, Row | None], names: set[str]) -> str:
    """Say what else changed when a promise moved later."""
    lines = [f"{id}: its start moved later for nobody, at {mirror.at}, by {', '.join(sorted(names))}"]
    for other, was in before.items():
        now = mirror.rows[other]
        said = [[row["state"], row["promise"], row["more"]] if row else None for row in (was, now)]
        lines.append(
            f"{other} of {now['tenant']}, {_points(now)}, {now['arrival']}: {said[0]} -> {said[1]}, {now['body']}"
        )
    return "\n".join(lines)


def kept(row: Row) -> bool:
    """Whether it has a start, promised or taken."""
    return row["promise"] is not None or row["granted"] is not None


def ranks_ahead(one: Row, other: Row) -> bool:
    """Tell whether one may go before the other: by points, then by its tenant's share, or by arrival."""
    points = _points(one), _points(other)
    if points[0] != points[1]:
        return points[0] < points[1]
    return one["tenant"] != other["tenant"] or one["arrival"] < other["arrival"]


def _points(row: Row) -> int:
    return -(2**60) if moves_of(row) else row["submitted"] // HOUR_US - json.loads(row["body"])["priority"]
