"""What must hold of every change of a ledger, told apart from its own code: of rows as the audit log has them."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.reserve.support.mirror import Mirror

Row = dict[str, Any]
Outline = tuple[Any, ...]

FINAL = ("released", "cancelled", "expired", "preempted")
WAITS = ("waiting", "interrupted")
FIXED = ("id", "request_key", "tenant", "body", "arrival", "submitted")
LATE_US = 4_000_000
HOUR_US = 3_600_000_000
FOREVER = 2**62


def parsed(slots: str | None) -> Outline:
    """Return slots as tuples of node, pod set, pods and GPUs."""
    return tuple(tuple(slot) for slot in json.loads(slots)) if slots else ()


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
        _check_token(before, after, tokens, submits=mirror.issued["submit", id])
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


def _check_token(before: Row, after: Row, tokens: int, *, submits: int) -> None:
    """A token is new with each grant and each takeover, and greater than all before; it goes only with a lost node.

    One change may take a grant over and back: so nothing but another submit tells of a takeover.
    """
    moved, taken_over = moves_of(after) > moves_of(before), submits > 1 and after["token"] is not None
    assert moved or taken_over or before["token"] is None, f"{after['id']}: its token changed"
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
    for (pool, node), changes in used_over_time(mirror.live.values()).items():
        used = 0
        for moment, gpus in sorted(changes):
            used += gpus
            assert used <= mirror.gpus[pool], f"{pool}-{node} carries {used} GPUs at {moment}"


def used_over_time(rows: Iterable[Row]) -> dict[tuple[str, int], list[tuple[int, int]]]:
    """Return by pool and node when how many GPUs come to be held or promised, or no more."""
    steps: dict[tuple[str, int], list[tuple[int, int]]] = defaultdict(list)
    for row in rows:
        promise = row["promise"]
        if row["state"] == "granted":
            for node, _, _, gpus in row["places"]:
                steps[row["pool"], node] += [(0, gpus), (row["hard_end"], -gpus)]
            assert row["expires"] <= row["hard_end"]
        elif promise is not None:
            for node, _, _, gpus in promise[1]:
                steps[promise[0], node] += [(promise[2], gpus), (promise[3], -gpus)]
    return steps


def check_new_places(mirror: Mirror, changed: list[tuple[Row | None, Row]], at: int) -> None:
    """What was granted or promised just now stands on nodes that are there and ready; nobody stays on a lost one."""
    out = mirror.documents["nodes"]
    for before, row in changed:
        promise, was = row["promise"], before["promise"] if before else None
        held = before is not None and before["token"] is not None and moves_of(before) == moves_of(row)
        if row["state"] == "granted" and before is not None and held:
            mirror.seen["takeovers of grants"] += before["token"] != row["token"]
            if row["hard_end"] > before["hard_end"] and not before["leave"]:  # its walltime counts from its claim
                mirror.seen["claims that moved an end"] += 1
                _check_nodes(mirror, row["pool"], row["places"], before["hard_end"], row["hard_end"])
        elif row["state"] == "granted":
            _check_nodes(mirror, row["pool"], row["places"], at, row["hard_end"])
            mirror.seen["grants"] += 1
        elif row["state"] in WAITS and promise and promise != was:
            _check_nodes(mirror, promise[0], promise[1], max(at, promise[2]), promise[3])
            mirror.seen["promises"] += 1
    lost = {name for name, (state, *_) in out.items() if state == "lost"}
    for row in mirror.live.values() if lost else ():
        held = {f"{row['pool']}-{slot[0]}" for slot in row["places"]} if row["state"] == "granted" else set()
        assert not held & lost, f"{row['id']} holds slots of a lost node"


def _check_nodes(mirror: Mirror, pool: str, slots: Any, start: int, end: int) -> None:
    there, out = mirror.nodes_at(pool, start, end), mirror.documents["nodes"]
    for node, *_ in slots:
        assert node < there, f"{pool}-{node} is not in the calendar from {start} to {end}"
        assert not is_out(out, f"{pool}-{node}", start, end), f"{pool}-{node} is {out[f'{pool}-{node}']} till {end}"


def is_out(out: dict[str, Any], node: str, start: int, end: int) -> bool:
    """Tell whether a node is out at any time from `start` up to `end`."""
    _, begin, back, _ = out.get(node, (None, FOREVER, FOREVER, None))
    return start < back and end > begin


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
            if other is not None and other["state"] in WAITS and other["promise"] and other["promise"][4]:
                mirror.seen["notices kept"] += 1
            elif row["leave"][5] > row["hard_end"]:
                check_taken(mirror, row)


def check_taken(mirror: Mirror, row: Row) -> None:
    """Who may not stay though its beneficiary left: others were promised its slots, or its quota, or nodes go away."""
    end, asked, pool = row["hard_end"], row["leave"][5], row["pool"]
    limited = any(tenant["quotas"] for tenant in mirror.documents["policy"]["tenants"].values())
    there, out = mirror.nodes_at(pool, end, asked), mirror.documents["nodes"]
    gone = any(node >= there or is_out(out, f"{pool}-{node}", end, asked) for node, *_ in row["places"])
    used = used_over_time(other for other in mirror.live.values() if other is not row)
    held: Counter[int] = Counter()
    for node, _, _, gpus in row["places"]:
        held[node] += gpus
    full = any(most_from(used[pool, node], end, asked) + gpus > mirror.gpus[pool] for node, gpus in held.items())
    assert limited or gone or full, f"{row['id']} must leave at {end} for nobody"
    mirror.seen["notices that could not be taken back"] += 1


def most_from(changes: list[tuple[int, int]], start: int, end: int) -> int:
    """Return the most that is used from `start` up to `end`."""
    used = most = 0
    for moment, gpus in sorted(changes):
        if moment >= end:
            break
        if moment > start:
            most = max(most, used)
        used += gpus
    return max(most, used)


def check_promises(mirror: Mirror, before: dict[str, Row | None], names: set[str], at: int) -> None:
    """5: a promise moves later only for a calendar, a policy, a node, growth, a late tick, or one that ranks ahead."""
    if names & {"publish", "set_policy", "mark_node", "resize"} or not 0 <= at - mirror.at <= LATE_US:
        return
    changed = [mirror.rows[id] for id in before]
    gained = [row for row in changed if kept(row) and not was_kept(before[row["id"]], row)]
    for id, was in before.items():
        now = mirror.rows[id]
        if was is None or was["state"] != "waiting" or was["promise"] is None or now["state"] in FINAL:
            continue
        mirror.seen["promises that changed"] += 1
        start = now["granted"] or (now["promise"][2] if now["promise"] else FOREVER)
        if start > max(was["promise"][2], at) and not (mirror.nodes_changed or _waits_for_node(mirror, was, at)):
            assert any(ranks_ahead(mirror, one, now) for one in gained), moved_for_nobody(mirror, id, before, names)
            mirror.seen["promises that moved later"] += 1


def _waits_for_node(mirror: Mirror, was: Row, at: int) -> bool:
    """Tell whether a promise was due on a node that is expected back and is not."""
    pool, slots, start = was["promise"][:3]
    out = mirror.documents["nodes"]
    return start <= at and any(is_out(out, f"{pool}-{node}", at, at + 1) for node, *_ in slots)


def was_kept(was: Row | None, now: Row) -> bool:
    """Whether it had a start before, and has not lost its nodes since."""
    return was is not None and kept(was) and moves_of(was) == moves_of(now)


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


def ranks_ahead(mirror: Mirror, one: Row, other: Row) -> bool:
    """Tell whether one may go before the other: an owner, then by points, then by its tenant's share, or by arrival."""
    policy = mirror.documents["policy"]
    owns = may_own(policy, one), may_own(policy, other)
    if policy.get("owners_first") and owns[0] != owns[1]:
        return owns[0]
    points = _points(one), _points(other)
    if points[0] != points[1]:
        return points[0] < points[1]
    return one["tenant"] != other["tenant"] or one["arrival"] < other["arrival"]


def may_own(policy: dict[str, Any], row: Row) -> bool:
    """Tell whether a gang is within its tenant's nominal quota by itself, or nothing limits or lends it."""
    tenant, body = policy["tenants"].get(row["tenant"], {"quotas": {}}), json.loads(row["body"])
    gpus = sum(count * each for count, each, *_ in body["pod_sets"])
    quotas = [tenant["quotas"].get(name) or tenant["quotas"].get("*") for name in body["accelerators"]]
    return any(q is None or not tenant["cohort"] or q["borrow"] == 0 or gpus <= q["nominal"] for q in quotas)


def _points(row: Row) -> int:
    return -(2**60) if moves_of(row) else row["submitted"] // HOUR_US - json.loads(row["body"])["priority"]
