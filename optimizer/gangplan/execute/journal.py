"""What was done to carry plans out, kept in MLflow: each step before it is taken and after, and a pool's hours.

A run of kind `apply` begins with the first step: a pass that finds nothing to do leaves none. Steps are tags of the
run, as tags are written whole or not at all: a process may die at any moment. A small table of each day has what was
planned, ordered, usable and granted, once for each hour.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import polars as pl
from mlflow.entities import Run, RunStatus, RunTag

from gangplan.clock import floor_hour, parse_utc
from gangplan.errors import InputError, NotFoundError
from gangplan.execute.carrying import Outcome, Taken
from gangplan.execute.pool_state import pool_states, slots_of
from gangplan.execute.wanted import Goal
from gangplan.tables import CARRIED, conform, empty
from gangplan.tracking import APPLY, Store
from gangplan.types import Grant, Observation, Step, StepKind

_APPLY, _HOURS = {"kind": "apply"}, {"kind": "hours"}
_TAGS_AT_ONCE = 100
_NAMES = 50
_WORDS = 1000
_LONGEST_TAG = 5000
"""Characters of a tag that each of MLflow's stores takes; the places of a pool that has more of them are not kept."""

_ENDED = {status: RunStatus.to_string(status) for status in (RunStatus.FINISHED, RunStatus.FAILED)}


@dataclass(frozen=True, kw_only=True)
class PoolBefore:
    """What a pool had before a run changed it: nodes that its engine was told to have, and slots that may be granted.

    Without quotas, `quota` is missing; `places` has the slots of each place, where they are not too many.
    """

    pool: str
    ordered: int
    quota: int | None = None
    places: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, kw_only=True)
class ApplyRun:
    """A run that was kept: its steps, with what became of them; `ended` is missing where it was killed, or runs on."""

    run_id: str
    plan_id: str
    begun: datetime
    ended: datetime | None
    whose: str
    steps: tuple[Taken, ...]
    before: tuple[PoolBefore, ...]


@dataclass(kw_only=True)
class Journal:
    """Keeps what one process does for one plan."""

    store: Store
    plan_id: str
    whose: str = "the plan"
    _run_id: str = ""
    _steps: dict[Step, int] = field(default_factory=dict[Step, int])
    _before: set[str] = field(default_factory=set[str])
    _hour: datetime | None = None

    def begin(self, steps: Sequence[Step], observed: Observation, now: datetime) -> None:
        """Keep steps that will be taken, and what their pools had before the first of them."""
        if not self._run_id:
            tags = {**_APPLY, "plan_id": self.plan_id, "whose": self.whose, "begun": now.isoformat()}
            run = self.store.client.create_run(self.store.experiment(APPLY), run_name=f"apply {now:%F %T}", tags=tags)
            self._run_id = run.info.run_id
        for step in steps:
            self._steps.setdefault(step, len(self._steps))
        begun = [Taken(step=step, at=now, outcome=Outcome.BEGUN) for step in steps]
        pools = list(dict.fromkeys(step.pool for step in steps if step.pool not in self._before))
        self._before.update(pools)
        self._write([*(_before_tag(pool, observed) for pool in pools), *map(self._tag, begun)])

    def end(self, taken: Sequence[Taken]) -> None:
        """Keep what became of steps."""
        self._write(list(map(self._tag, taken)))

    def close(self, now: datetime, *, failed: bool = False) -> None:
        """End the run, if one was begun."""
        if self._run_id:
            self._write([RunTag("ended", now.isoformat())])
            self.store.client.set_terminated(self._run_id, _ENDED[RunStatus.FAILED if failed else RunStatus.FINISHED])
            self._run_id = ""
            self._steps.clear()
            self._before.clear()

    def saw(self, observed: Observation, grants: Sequence[Grant], goals: Sequence[Goal], now: datetime) -> None:
        """Keep what the engines had and who held it, once for each hour; `grants` are those that no engine told."""
        hour = floor_hour(now)
        if hour == self._hour:
            return
        self._hour = hour
        rows = _hours(replace(observed, grants=(*observed.grants, *grants)), goals, now)
        day = {**_HOURS, "day": f"{hour:%F}"}
        known = self.store.runs(APPLY, day)
        if not known:
            with self.store.run(APPLY, f"hours of {hour:%F}", day) as run_id:
                self.store.log_table(run_id, "carried", rows)
            return
        run_id: str = known[0].info.run_id
        earlier = _day(self.store, run_id).filter(pl.col("hour") != hour)
        self.store.log_table(run_id, "carried", pl.concat([earlier, rows]))

    def _tag(self, taken: Taken) -> RunTag:
        """Return the tag of a step, which is replaced when its outcome is known."""
        step = taken.step
        body = {
            "kind": step.kind.value,
            "pool": step.pool,
            "place": step.place,
            "before": step.before,
            "after": step.after,
            "why": step.why,
            "nodes": list(step.nodes[:_NAMES]),
            "at": taken.at.isoformat(),
            "outcome": taken.outcome.value,
            "engine": taken.engine,
            "words": taken.words[:_WORDS],
        }
        return RunTag(f"step.{self._steps[step]:05}", json.dumps(body))

    def _write(self, tags: Sequence[RunTag]) -> None:
        for first in range(0, len(tags), _TAGS_AT_ONCE):
            self.store.client.log_batch(self._run_id, tags=tags[first : first + _TAGS_AT_ONCE])


def _before_tag(pool: str, observed: Observation) -> RunTag:
    """Return the tag with what a pool had."""
    nodes = next((nodes.ordered for nodes in observed.nodes if nodes.pool == pool), 0)
    places = {quota.place: quota.slots for quota in observed.quotas if quota.pool == pool}
    body = {"pool": pool, "ordered": nodes, "quota": sum(places.values()) if places else None, "places": places}
    if len(json.dumps(body)) > _LONGEST_TAG:
        body["places"] = {}
    return RunTag(f"before.{pool}", json.dumps(body))


def _hours(observed: Observation, goals: Sequence[Goal], now: datetime) -> pl.DataFrame:
    """Return the rows of an hour."""
    rows = [
        {
            "hour": floor_hour(now),
            "pool": state.goal.pool,
            "planned": state.goal.now,
            "ordered": state.nodes.ordered if state.nodes else 0,
            "usable": state.usable,
            "granted": sum(map(slots_of, state.grants)) / state.goal.slots_per_node,
        }
        for state in pool_states(goals, observed, (), now)
    ]
    return conform("carried", pl.DataFrame(rows, schema=CARRIED), CARRIED)


def last_run(store: Store) -> ApplyRun:
    """Return the newest run, whether it has ended or not.

    Raises
    ------
    NotFoundError
        Nothing has been carried out yet.
    """
    runs = store.runs(APPLY, _APPLY, finished=False)
    if not runs:
        raise NotFoundError("no plan has been carried out yet: `gangplan apply` does it")
    return _read(runs[0])


def carried_hours(store: Store, days: int = 8) -> pl.DataFrame:
    """Return what was planned, ordered, usable and granted (tables.CARRIED) on the newest days, by hour."""
    tables = [_day(store, run.info.run_id) for run in store.runs(APPLY, _HOURS, limit=days)]
    return pl.concat([empty(CARRIED), *tables]).sort("hour", "pool")


def _day(store: Store, run_id: str) -> pl.DataFrame:
    """Return the hours of a day; none where a process died as it wrote them: they only make a picture."""
    try:
        return store.read_table(run_id, "carried")
    except (InputError, NotFoundError):
        return empty(CARRIED)


def _read(run: Run) -> ApplyRun:
    """Return what a run's tags say."""
    tags = run.data.tags
    ended = tags.get("ended")
    return ApplyRun(
        run_id=run.info.run_id,
        plan_id=tags["plan_id"],
        begun=parse_utc("begun", tags["begun"]),
        ended=parse_utc("ended", ended) if ended else None,
        whose=tags["whose"],
        steps=tuple(_taken(body) for body in _bodies(tags, "step.")),
        before=tuple(PoolBefore(**body) for body in _bodies(tags, "before.")),
    )


def _bodies(tags: dict[str, str], prefix: str) -> Iterator[dict[str, Any]]:
    """Give the values of the tags with a prefix, in order."""
    yield from (json.loads(tags[key]) for key in sorted(tags) if key.startswith(prefix))


def _taken(body: dict[str, Any]) -> Taken:
    """Return a step from its tag."""
    step = Step(
        kind=StepKind(body["kind"]),
        pool=body["pool"],
        place=body["place"],
        before=body["before"],
        after=body["after"],
        why=body["why"],
        nodes=tuple(body["nodes"]),
    )
    outcome = Outcome(body["outcome"])
    at = parse_utc("at", body["at"])
    return Taken(step=step, at=at, outcome=outcome, engine=body["engine"], words=body["words"])
