"""The steps of a pool's quotas: down to what is wanted or granted at once, up to what usable nodes can hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from gangplan.execute.pool_state import SETTLE, PoolState
from gangplan.types import Quota, Step, StepKind


def quota_steps(state: PoolState) -> Iterator[Step]:
    """Give the steps of a pool's quotas; those that can be taken are safe in any order, and beside those of nodes.

    What is promised after raising is never more than the plan's slots, and never more than usable nodes have, unless
    it was so before; what is held outside of all quotas is taken off. Raises aim at shares that depend on nothing but
    the weights: two writers who saw different moments cannot raise two places over the sum.
    """
    if not state.quotas:
        return
    goal = state.goal
    there = goal.slots if state.nodes is None else min(goal.slots, state.usable * goal.slots_per_node)
    total = max(there - state.outside, 0)
    weights = [goal.places.get(quota.place, 0) if goal.places else quota.weight for quota in state.quotas]
    full = shares(goal.slots, weights)
    # Where what is granted stays, the number falls at once: with a line of those who wait, use would never fall to it.
    floors = [0 if quota.keeps else min(quota.slots, quota.used) for quota in state.quotas]
    levels = shares_above(total, weights, floors)
    yield from _lowering(state, levels, full)
    yield from _raising(state, [min(pair) for pair in zip(shares(total, weights), levels, strict=True)], full, total)


def _lowering(state: PoolState, levels: Sequence[int], full: Sequence[int]) -> Iterator[Step]:
    """Give the steps down to each place's level, and those that wait for gangs to end."""
    for quota, level, most in zip(state.quotas, levels, full, strict=True):
        lower = partial(Step, kind=StepKind.LOWER_QUOTA, pool=quota.pool, place=quota.place, why=_why(state))
        if quota.slots > level:
            yield lower(before=quota.slots, after=level)
        if min(quota.slots, level) > most:
            waits = f"gangs to end: {quota.used} slots are granted"
            yield lower(before=min(quota.slots, level), after=most, waits_for=waits, held_by=state.holding)


def _raising(state: PoolState, targets: Sequence[int], full: Sequence[int], total: int) -> Iterator[Step]:
    """Give the steps up that the usable nodes hold now, and those that wait."""
    room = max(total - state.promised, 0) if state.nodes is not None else 0
    groups = dict(state.groups)
    for quota, target, most in zip(state.quotas, targets, full, strict=True):
        slots, used = groups[quota.group]
        more = max(min(target - quota.slots, room + max(used - slots, 0)), 0) if state.nodes is not None else 0
        if state.unsettled - {quota.group}:  # what another group gave up may still be granted there
            more = 0
        room -= max(slots + more, used) - max(slots, used)
        groups[quota.group] = (slots + more, used)
        step = partial(Step, kind=StepKind.RAISE_QUOTA, pool=quota.pool, place=quota.place, why=_why(state))
        if more:
            yield step(before=quota.slots, after=quota.slots + more)
        if quota.slots + more < most:
            waits, held_by = _waits(state, quota)
            yield step(before=quota.slots + more, after=most, waits_for=waits, held_by=held_by)


def _why(state: PoolState) -> str:
    """Return what a quota follows."""
    goal = state.goal
    wanted = f"{goal.whose} has {counted(goal.now)} now, {goal.slots} slots"
    if state.nodes is None or state.usable >= goal.now:
        return wanted
    return f"{wanted}; {state.usable} can be used"


def _waits(state: PoolState, quota: Quota) -> tuple[str, tuple[str, ...]]:
    """Return for what a raise waits, and whose grants hold it back."""
    if state.nodes is None:
        return "the pool's nodes: no engine told of them", ()
    if state.usable < state.goal.now:
        return missing_nodes(state, state.goal.now), ()
    if state.unsettled - {quota.group}:
        return f"the quotas of a moment ago to be seen by all, for {SETTLE.seconds} s", ()
    others = [other.place for other in state.quotas if other.place != quota.place and other.used]
    return f"gangs in {', '.join(others) or quota.place} to end, and their quota to fall", state.holding


def missing_nodes(state: PoolState, wanted: int) -> str:
    """Return how many nodes of those wanted are not usable, and why, as far as it is known."""
    missing = wanted - state.usable
    text = f"{missing} of {counted(wanted)} {'is' if missing == 1 else 'are'} not usable yet"
    if state.goal.startup_minutes:
        text += f" (95 of 100 starts take at most {state.goal.startup_minutes:g} min)"
    closed = sum(node.closed for node in state.nodes.nodes) if state.nodes else 0
    if closed:
        text += f"; {counted(closed)} {'was' if closed == 1 else 'were'} closed by somebody else"
    return f"{text}: {state.nodes.trouble}" if state.nodes and state.nodes.trouble else text


def counted(nodes: int) -> str:
    """Return a number of nodes in words."""
    return "1 node" if nodes == 1 else f"{nodes} nodes"


def shares(total: int, weights: Sequence[float]) -> list[int]:
    """Return the slots of each place by its weight (D'Hondt): more in total is never less for one of them."""
    weights = weights if sum(weights) > 0 else [1.0] * len(weights)
    whole = sum(weights)
    given = [int(total * weight / whole) for weight in weights]
    for _ in range(total - sum(given)):
        first = max(range(len(weights)), key=lambda place: weights[place] / (given[place] + 1))
        given[first] += 1
    return given


def shares_above(total: int, weights: Sequence[float], floors: Sequence[int]) -> list[int]:
    """Return the shares of a total where no place may get less than its floor; the others share what that leaves."""
    given = list(floors)
    free = set(range(len(weights)))
    while free:
        order = sorted(free)
        rest = max(total - sum(floors[place] for place in range(len(floors)) if place not in free), 0)
        parts = dict(zip(order, shares(rest, [weights[place] for place in order]), strict=True))
        short = {place for place in order if parts[place] < floors[place]}
        if not short:
            for place in order:
                given[place] = parts[place]
            return given
        free -= short
    return given
