"""Plans carried out: the published plan, the engines of targets.yaml, the ledger's grants and the journal, joined."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from gangplan import plan
from gangplan.config import Settings, read_fleet
from gangplan.errors import InputError, NotFoundError, RejectedError, UnavailableError
from gangplan.execute import (
    ApplyRun,
    Carried,
    Carrying,
    Engine,
    Goal,
    Journal,
    LedTarget,
    Opening,
    Outcome,
    ServingTarget,
    close_engines,
    goals,
    last_run,
    open_engines,
    read_targets,
    targets_of_file,
    until_reached,
)
from gangplan.reserve import KueueLedger, OperableLedger, open_ledger
from gangplan.tracking import Store, open_store
from gangplan.types import QUOTA_STEPS, Fleet, Grant, PlanId, Reservation, ReservationState, Step

TO = ("file", "kueue", "cluster", "ec2", "gce", "serving")
"""Where steps may be taken alone: by the name of an engine, `kueue` for the quotas of the cluster."""


@dataclass(frozen=True, kw_only=True)
class Applied:
    """What a pass did, and what the nodes cost per hour: those that were ordered before it, and those wanted."""

    carried: Carried
    cost: tuple[float, float]

    @property
    def reached(self) -> bool:
        """Whether all is as the plan wants it; a dry run with steps left has not reached it."""
        return self.carried.reached

    def lines(self) -> Iterator[str]:
        """Give a line for each step: what was done, what waits and for what, what was refused and why."""
        for step in (*self.carried.done, *self.carried.left):
            yield _line(step) + (f", waits for {step.waits_for}" if step.waits_for else "")
        for taken in self.carried.refused:
            yield f"{_line(taken.step)}, refused by {taken.engine}: {taken.words}"

    def require_taken(self) -> None:
        """Refuse to go on where an engine refused a step, or could not be reached.

        Raises
        ------
        RejectedError
            The first refused step is named, in the engine's words.
        UnavailableError
            An engine could not be reached.
        """
        for taken in self.carried.refused:
            raise RejectedError(f"{_line(taken.step)}, refused by {taken.engine}: {taken.words}")
        for name, why in self.carried.unreachable.items():
            raise UnavailableError(f"{name}: {why}")


def _line(step: Step) -> str:
    """Return a step in a few words."""
    where = f"{step.pool} in {step.place}" if step.place else step.pool
    return f"{where}: {step.kind.value} {step.before} -> {step.after}"


@dataclass(frozen=True, kw_only=True)
class Execution:
    """A plan that can be carried out: on its engines, with its journal."""

    carrying: Carrying
    engines: Sequence[Engine]
    fleet: Fleet
    plan_id: str
    whose: str

    @property
    def asks(self) -> bool:
        """Whether a person is to be asked first: the fleet file alone buys nothing."""
        return any(engine.target.name != "file" for engine in self.engines)

    def check(self) -> tuple[str, ...]:
        """Return what would keep the plan from being carried out, each with its remedy."""
        return tuple(f"{engine.target.name}: {said}" for engine in self.engines for said in engine.target.check())

    def once(self, *, dry_run: bool = False) -> Applied:
        """Take what steps can be taken now."""
        return self._applied(self.carrying.once(dry_run=dry_run))

    def until_reached(
        self, *, timeout: timedelta, pause: Callable[[timedelta], object], told: Callable[[Carried], object]
    ) -> Applied:
        """Go on until the plan is reached, a step is refused, or the time is over; `told` hears of each pass."""
        deadline = self.carrying.clock() + timeout
        return self._applied(until_reached(self.carrying, deadline=deadline, pause=pause, told=told))

    def _applied(self, carried: Carried) -> Applied:
        """Return what a pass came to, with its cost."""
        return Applied(carried=carried, cost=self._cost_per_hour(carried))

    def _cost_per_hour(self, carried: Carried) -> tuple[float, float]:
        """Return what the nodes cost in this hour: those that were ordered before, and those that are wanted."""
        hour = self.carrying.clock().hour
        ordered = {nodes.pool: nodes.ordered for nodes in carried.before.nodes}
        wanted = {goal.pool: goal.ahead for goal in carried.goals if goal.pool in ordered}
        prices = {pool: self._price(pool, hour) for pool in wanted}
        return (
            sum(price * ordered[pool] for pool, price in prices.items()),
            sum(price * wanted[pool] for pool, price in prices.items()),
        )

    def _price(self, pool: str, hour: int) -> float:
        found = self.fleet.pool(pool)
        return found.price_per_node_hour * (found.price_factors[hour] if found.price_factors else 1.0)


@contextmanager
def open_execution(
    settings: Settings, *, to: str = "", undo: bool = False, watched: bool = False
) -> Generator[Execution]:
    """Open what it takes to carry out the newest published plan; or, with `undo`, to take the last run back.

    Parameters
    ----------
    to
        Take only the steps of one of `TO`; all engines are observed nevertheless.
    watched
        Keep copies of a cluster by watches, for a process that stays.
    """
    if to and to not in TO:
        raise InputError.unknown("--to", to, "no engine", TO)
    store, clock = open_store(settings), settings.clock
    run = last_run(store) if undo else None
    wanted, plan_id, whose = _planned(store) if run is None else _undone(run, settings)
    fleet = read_fleet(settings.fleet_file)
    file = settings.targets_file
    targets = targets_of_file(fleet) if file is None else read_targets(file, fleet)
    opening = Opening(targets=targets, fleet=fleet, fleet_file=settings.fleet_file, clock=clock, watched=watched)
    engines = open_engines(opening)
    journal = Journal(store=store, plan_id=plan_id, whose=whose)
    failed = True
    try:
        carrying = Carrying(
            engines=engines,
            wanted=lambda now: tuple(goal for goal in wanted(now) if fleet.pool(goal.pool).name in targets.pools),
            clock=clock,
            grants=lambda: ledger_grants(settings),
            more=_of_servers(engines, store, plan_id, run, whose),
            chosen=_chooser(to),
            journal=journal,
        )
        yield Execution(carrying=carrying, engines=engines, fleet=fleet, plan_id=plan_id, whose=whose)
        failed = False
    finally:
        close_engines(engines)
        journal.close(clock(), failed=failed)


Wanted = Callable[[datetime], tuple[Goal, ...]]


def _planned(store: Store) -> tuple[Wanted, str, str]:
    """Return what the newest published plan wants."""
    published = plan.read_published(store)
    return lambda now: goals(published, now), published.plan_id, "the plan"


def _undone(run: ApplyRun, settings: Settings) -> tuple[Wanted, str, str]:
    """Return what the pools had before a run."""
    fleet = read_fleet(settings.fleet_file)
    whose = f"what was there before {run.begun:%Y-%m-%dT%H:%M:%SZ}"
    known = {pool.name for pool in fleet.pools}
    if not run.before:
        raise NotFoundError(f"the run of {run.begun:%Y-%m-%dT%H:%M:%SZ} changed nothing: there is nothing to undo")
    before = tuple(
        Goal(
            pool=each.pool,
            now=each.ordered,
            ahead=each.ordered,
            slots_per_node=fleet.pool(each.pool).slots_per_node,
            startup_minutes=fleet.pool(each.pool).startup_minutes_p95,
            quota=each.quota,
            whose=whose,
        )
        for each in run.before
        if each.pool in known
    )
    return lambda _: before, run.plan_id, whose


def _of_servers(
    engines: Sequence[Engine], store: Store, plan_id: str, run: ApplyRun | None, whose: str
) -> Callable[[datetime], tuple[Step, ...]]:
    """Return what gives the steps of servers: to the plan, or back to what was there before a run."""
    target = serving_in(engines)
    if target is None:
        return lambda _: ()
    if run is not None:
        done = [taken.step for taken in run.steps if taken.outcome is Outcome.DONE]
        return lambda _: target.steps_back(done, whose)
    published, forecast = plan.read_plan(store, PlanId(plan_id))
    return lambda now: target.steps(published, forecast, now)


def serving_in(engines: Sequence[Engine]) -> ServingTarget | None:
    """Return the engine whose servers follow the plan, if there is one."""
    targets = (each.target.inner if isinstance(each.target, LedTarget) else each.target for each in engines)
    return next((target for target in targets if isinstance(target, ServingTarget)), None)


def _chooser(to: str) -> Callable[[Engine | None, Step], bool]:
    """Return which steps may be taken."""

    def chosen(engine: Engine | None, step: Step) -> bool:
        if not to:
            return True
        if engine is None:
            return False
        if engine.target.name == "cluster":
            return to == ("kueue" if step.kind in QUOTA_STEPS else "cluster")
        return engine.target.name == to

    return chosen


def ledger_grants(settings: Settings) -> Iterable[Grant]:
    """Return what the ledger has granted; a ledger on Kueue is the cluster's own, which is observed."""
    if settings.ledger_url.startswith("kueue:"):
        return ()
    with open_ledger(settings.ledger_url, clock=settings.clock) as ledger:
        return grants_in(ledger)


def grants_in(ledger: OperableLedger) -> tuple[Grant, ...]:
    """Return what an open ledger has granted; one on Kueue is the cluster's own, which is observed."""
    if isinstance(ledger, KueueLedger):
        return ()
    return tuple(grant for reservation in ledger.list(ReservationState.GRANTED) for grant in _grants(reservation))


def _grants(reservation: Reservation) -> Iterable[Grant]:
    """Return what a reservation holds, by pool."""
    pools: dict[str, dict[str, int]] = {}
    for place in reservation.placements:
        nodes = pools.setdefault(place.pool, {})
        nodes[place.node] = nodes.get(place.node, 0) + place.gpus
    for pool, nodes in pools.items():
        name = reservation.request.request_key
        slots = sum(nodes.values())
        yield Grant(name=name, pool=pool, slots=slots, nodes=nodes, until=reservation.expires_at, by_quota=False)
