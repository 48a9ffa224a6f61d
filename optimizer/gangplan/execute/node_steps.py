"""The steps of a pool's nodes: ordered ahead of the hour, opened again, closed when in excess, removed when empty."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from math import ceil

from gangplan.execute.pool_state import SETTLE, PoolState, is_open
from gangplan.execute.quota_steps import counted, missing_nodes
from gangplan.types import PoolNode, PoolNodes, Step, StepKind

_SEEN = f"the quota of a moment ago to be seen by all, for {SETTLE.seconds} s"


def node_steps(state: PoolState, now: datetime) -> Iterator[Step]:
    """Give the steps of a pool's nodes; those that can be taken are safe in any order, and beside those of quotas."""
    nodes = state.nodes
    if nodes is None:
        return
    if nodes.unprotected:
        pods = len(nodes.unprotected)
        why = "pods under grants must not be disturbed"
        yield Step(
            kind=StepKind.PROTECT, pool=nodes.pool, before=pods, after=0, why=why, nodes=tuple(nodes.unprotected)
        )
    yield from _ordering(state, nodes)
    if not nodes.named:
        yield from _counting_down(state, nodes)
        return
    staying = [node for node in nodes.nodes if not node.leaving]
    cordoned = [node for node in staying if node.cordoned_at is not None]
    opened = _to_open(state, nodes, cordoned)
    chosen = [] if opened else _to_cordon(state, nodes, len(cordoned))
    uncordoned = len(staying) - len(cordoned)
    if opened:
        yield _turned(StepKind.UNCORDON, state, uncordoned, uncordoned + len(opened), opened)
    if chosen:
        yield _turned(StepKind.CORDON, state, uncordoned, uncordoned - len(chosen), chosen)
    left = nodes.ordered - state.goal.ahead - (len(cordoned) - len(opened)) - len(chosen)
    if left > 0:
        after = uncordoned + len(opened) - len(chosen)
        waits, held_by = _excess_waits(state)
        step = _turned(StepKind.CORDON, state, after, after - left)
        yield replace(step, waits_for=waits, held_by=held_by)
    yield from _removing(state, nodes, [node for node in cordoned if node not in opened], now)


def _turned(kind: StepKind, state: PoolState, before: int, after: int, nodes: Sequence[PoolNode] = ()) -> Step:
    """Return the step that opens or closes nodes."""
    names = tuple(node.name for node in nodes)
    return Step(kind=kind, pool=state.goal.pool, before=before, after=after, why=_why(state), nodes=names)


def _ordering(state: PoolState, nodes: PoolNodes) -> Iterator[Step]:
    """Give the order that the plan or the grants need, and what has not come yet."""
    target = max(state.goal.ahead, state.needed)
    order = partial(Step, kind=StepKind.ORDER, pool=nodes.pool, why=_why(state))
    if target > nodes.ordered:
        yield order(before=nodes.ordered, after=target)
    if target > state.usable and nodes.named:
        yield order(before=state.usable, after=target, waits_for=missing_nodes(state, target))


def _counting_down(state: PoolState, nodes: PoolNodes) -> Iterator[Step]:
    """Give the step down of an engine that only has a number: to what the plan, the grants and the quotas leave."""
    least = nodes.ordered if state.unsettled else max(state.kept, ceil(state.spoken_for / state.goal.slots_per_node))
    remove = partial(Step, kind=StepKind.REMOVE, pool=nodes.pool, why=_why(state))
    if least < nodes.ordered:
        yield remove(before=nodes.ordered, after=least)
    if min(least, nodes.ordered) > state.goal.ahead:
        waits = _SEEN if state.unsettled else f"gangs to end: {counted(least)} are under grants or quotas"
        yield remove(before=min(least, nodes.ordered), after=state.goal.ahead, waits_for=waits, held_by=state.holding)


def _to_open(state: PoolState, nodes: PoolNodes, cordoned: Sequence[PoolNode]) -> list[PoolNode]:
    """Return our cordoned nodes that are wanted again, or that came under a grant as they were cordoned."""
    held = [node for node in cordoned if node.name in state.holders]
    others = sorted((node for node in cordoned if node.name not in state.holders), key=lambda node: not node.usable)
    by_count = state.kept - (nodes.ordered - len(cordoned)) - len(held)
    usable = sum(is_open(replace(node, cordoned_at=None)) for node in others)
    by_use = min(usable, state.kept - state.usable - len(held))
    return held + others[: max(by_count, by_use, 0)]


def _to_cordon(state: PoolState, nodes: PoolNodes, cordoned: int) -> list[PoolNode]:
    """Return the nodes in excess: first those that cannot be used, and never one under a grant.

    As many usable nodes stay as the plan, the grants and the quotas need; all of them, while a quota is unsettled.
    """
    excess = max(nodes.ordered - state.kept - cordoned, 0)
    spare = (
        0
        if state.unsettled
        else max(state.usable - max(state.kept, ceil(state.spoken_for / state.goal.slots_per_node)), 0)
    )
    free = [
        node
        for node in nodes.nodes
        if node.cordoned_at is None and not node.closed and not node.leaving and node.name not in state.holders
    ]
    useless = [node for node in free if not node.usable][:excess]
    empty = [node for node in free if node.usable][: min(excess - len(useless), spare)]
    return useless + empty


def _excess_waits(state: PoolState) -> tuple[str, tuple[str, ...]]:
    """Return why nodes above the plan are not cordoned, and who holds them."""
    goal = state.goal
    if state.unsettled:
        return _SEEN, ()
    if state.spoken_for > goal.ahead * goal.slots_per_node:
        return (
            f"quota and gangs to fall from {state.spoken_for} slots to {goal.ahead * goal.slots_per_node}",
            state.holding,
        )
    if state.kept > goal.ahead:
        return f"gangs to end: {counted(state.kept)} are under grants", state.holding
    return "nodes that were ordered to come, or to be opened by those who closed them", ()


def _removing(state: PoolState, nodes: PoolNodes, cordoned: Sequence[PoolNode], now: datetime) -> Iterator[Step]:
    """Give the step that removes cordoned nodes which are empty and have settled, and what waits for that."""
    settled = [node for node in cordoned if node.cordoned_at is not None and node.cordoned_at <= now - SETTLE]
    empty = [node.name for node in settled if node.name not in state.holders]
    chosen = [] if nodes.unprotected else empty[: max(nodes.ordered - state.kept, 0)]
    remove = partial(Step, kind=StepKind.REMOVE, pool=nodes.pool, why=_why(state))
    left = nodes.ordered - len(chosen)
    if chosen:
        yield remove(before=nodes.ordered, after=left, nodes=tuple(chosen))
    if left > state.goal.ahead:
        waits, held_by = _excess_waits(state)
        if nodes.unprotected:
            waits = "pods under grants to be protected"
        elif len(settled) < len(cordoned):
            waits, held_by = f"cordoned nodes to stay empty for {SETTLE.seconds} s", ()
        yield remove(before=left, after=state.goal.ahead, waits_for=waits, held_by=held_by)


def _why(state: PoolState) -> str:
    """Return what a pool's nodes follow."""
    goal = state.goal
    if state.needed > goal.ahead:
        return f"gangs hold {counted(state.needed)}; {goal.whose} has {goal.ahead}"
    soon = f", and {goal.ahead} within {goal.startup_minutes:g} min" if goal.ahead > goal.now else ""
    return f"{goal.whose} has {counted(goal.now)} now{soon}"
