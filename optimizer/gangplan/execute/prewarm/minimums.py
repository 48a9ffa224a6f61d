"""The one pure function of serving: from a plan and what servers have to the steps between them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import ceil

from gangplan.errors import InputError
from gangplan.execute.prewarm.demand import Hourly, Room, ahead_of, hours_from, kept_for
from gangplan.execute.prewarm.settings import Buffer, Serving, check_serving
from gangplan.execute.prewarm.values import Replicas
from gangplan.types import Forecast, Plan, Pool, Step, StepKind


@dataclass(frozen=True, kw_only=True)
class _Server:
    """An entry, what it has, and what the plan keeps for it in the hours that are to be ready now."""

    entry: Serving
    has: Replicas
    pools: tuple[Pool, ...]
    gpus: float
    kept: Hourly

    def wanted(self, hour: datetime) -> int:
        """Return the replicas of an hour, without regard to others."""
        gpus = self.kept[hour] - (self.has.filled if isinstance(self.entry.where, Buffer) else 0.0)
        most = self.entry.most
        number = max(self.entry.least, ceil(max(gpus, 0.0) / self.gpus - 1e-9))
        return number if most is None else min(number, most)


@dataclass(frozen=True, kw_only=True)
class _Goal:
    """Replicas to have now, for the hour that wants most of them; `short`: those for which the plan has no nodes."""

    replicas: int
    hour: datetime
    gpus: float
    short: int


def minimums(
    plan: Plan, forecast: Forecast, serving: Sequence[Serving], observed: Iterable[Replicas], now: datetime
) -> tuple[Step, ...]:
    """Return what is to be changed at `now`, what is lowered first.

    Each server gets the most that any hour wants until the nodes that are ordered now have come. All servers together
    get no more than the plan's nodes hold, but for their `least`; entries that stand first are served first. The
    minimum of a server whose demand is not in the forecast stays, and its step says so.

    Raises
    ------
    InputError
        The plan does not cover `now`, or an entry names a pool that its fleet lacks.
    """
    check_serving(serving, plan.fleet)
    has = {one.key: one for one in observed}
    servers: list[_Server] = []
    steps: list[Step] = []
    for entry in (entry for entry in serving if entry.key in has):
        hours = hours_from(plan, now, ahead_of(entry, entry.pools_in(plan.fleet)))
        try:
            servers.append(_server(entry, has[entry.key], plan, kept_for(entry, plan, forecast, hours)))
        except InputError as error:  # a tenant may have gone from the forecast: no reason to hold up others
            steps.append(_unknown(entry, has[entry.key], error))
    goals = _goals(servers, plan)
    steps += [step for one in servers if (step := _step(one, goals[one.entry.key])) is not None]
    return tuple(sorted(steps, key=lambda step: step.after > step.before))


def minimums_before(done: Iterable[Step], observed: Iterable[Replicas], why: str) -> tuple[Step, ...]:
    """Return the steps back to what servers had before these were taken; what has changed since is left as it is."""
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for step in done:
        if step.kind is StepKind.MINIMUM:
            first.setdefault(step.pool, step.before)
            last[step.pool] = step.after
    return tuple(
        Step(kind=StepKind.MINIMUM, pool=has.key, before=last[has.key], after=first[has.key], why=why)
        for has in observed
        if has.key in last and has.minimum == last[has.key] != first[has.key]
    )


def _server(entry: Serving, has: Replicas, plan: Plan, kept: Hourly) -> _Server:
    return _Server(entry=entry, has=has, pools=entry.pools_in(plan.fleet), gpus=entry.gpus_of(plan.fleet), kept=kept)


def _unknown(entry: Serving, has: Replicas, error: InputError) -> Step:
    """Return the step that waits for a forecast of an entry's demand; its minimum stays as it is."""
    number, why = has.minimum or 0, "the plan says nothing of its demand"
    return Step(
        kind=StepKind.MINIMUM, pool=entry.key, before=number, after=number, why=why, waits_for=f"a forecast: {error}"
    )


def _goals(servers: Sequence[_Server], plan: Plan) -> Mapping[str, _Goal]:
    """Return each server's goal: that of the hour that wants most."""
    goals: dict[str, _Goal] = {}
    for hour in sorted({hour for one in servers for hour in one.kept}):
        for one, goal in _shared([one for one in servers if hour in one.kept], Room(plan, hour), hour):
            best = goals.get(one.entry.key)
            if best is None or goal.replicas > best.replicas:
                goals[one.entry.key] = goal
    return goals


def _shared(servers: Sequence[_Server], room: Room, hour: datetime) -> Iterable[tuple[_Server, _Goal]]:
    """Divide an hour's nodes: first what each has at least, then the rest in the order of the entries."""
    for one in servers:
        room.take(one.pools, one.entry.least, one.gpus)
    for one in servers:
        wanted = one.wanted(hour) - one.entry.least
        given = room.take(one.pools, wanted, one.gpus)
        number = one.entry.least + given
        yield one, _Goal(replicas=number, hour=hour, gpus=one.kept[hour], short=wanted - given)


def _step(server: _Server, goal: _Goal) -> Step | None:
    """Return the step to a goal, as far as the engine takes it; None where it is reached."""
    has, entry = server.has, server.entry
    after = max(goal.replicas, has.floor)
    after = after if has.ceiling is None else min(after, has.ceiling)
    if has.minimum == after and not has.stale and not has.missing:
        return None
    if has.minimum is None and after == 0 and not has.missing:
        return None
    return Step(
        kind=StepKind.MINIMUM,
        pool=entry.key,
        before=has.minimum or 0,
        after=after,
        why="; ".join(_reasons(server, goal)),
        waits_for=has.missing or has.owner,
    )


def _reasons(server: _Server, goal: _Goal) -> Iterable[str]:
    """Yield why it is this number."""
    has, entry = server.has, server.entry
    whose = f"latency-bound work of {entry.tenant or 'all tenants'} on {entry.accelerator}"
    yield f"the plan keeps {goal.gpus:g} GPUs for {whose} at {goal.hour:%a %H:%M}"
    if has.filled and isinstance(entry.where, Buffer):
        yield f"its pods use {has.filled:g} of them"
    if goal.short:
        yield f"the plan's nodes have no room for {goal.short} more"
    if has.floor > goal.replicas:
        yield has.floor_why
    if has.ceiling is not None and has.ceiling < goal.replicas:
        yield f"its own maximum of {has.ceiling} is below the {goal.replicas} that the plan keeps: raise that"
    if has.stale and has.minimum == goal.replicas:
        yield "its settings have changed"
