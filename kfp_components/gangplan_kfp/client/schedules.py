"""Schedules: recurring runs that are known by their name, each made once however often it is asked for."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from kfp_server_api import (
    V2beta1CronSchedule,
    V2beta1PeriodicSchedule,
    V2beta1RecurringRun,
    V2beta1RuntimeConfig,
    V2beta1Trigger,
)

from gangplan.clock import parse_span
from gangplan.errors import InputError, NotFoundError
from gangplan.reserve import span_text
from gangplan_kfp.client.packages import Package
from gangplan_kfp.client.server import Server

_MADE_BY = "made by `gangplan kfp schedule`; sha256:"
_FIELD = re.compile(r"[0-9A-Za-z*?,/-]+")


@dataclass(frozen=True, kw_only=True)
class When:
    """When runs start: by a cron expression with a field for seconds, as KFP takes it, or every so many seconds."""

    cron: str = ""
    every_s: int = 0

    def __str__(self) -> str:
        """Return it for people."""
        return f"cron {self.cron}" if self.cron else f"every {span_text(timedelta(seconds=self.every_s))}"


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A recurring run as the server has it."""

    id: str
    name: str
    when: When
    enabled: bool


def when_from(cron: str, every: str) -> When:
    """Read when runs start: a cron expression of five fields, or of six with seconds, or a duration."""
    if bool(cron) == bool(every):
        remedy = "is not the only one: give either --cron or --every" if cron else "is missing: give --cron or --every"
        raise InputError("cron", cron, remedy)
    if every:
        span = parse_span("every", every)
        if span < timedelta(seconds=1) or span % timedelta(seconds=1):
            raise InputError("every", every, "is no whole number of seconds above 0: give it like 1h")
        return When(every_s=span // timedelta(seconds=1))
    fields = cron.split()
    if len(fields) not in (5, 6) or not all(_FIELD.fullmatch(field) for field in fields):
        raise InputError("cron", cron, "is no cron expression: give five fields, like '0 3 * * *' (daily at 3)")
    return When(cron=" ".join(fields if len(fields) == 6 else ["0", *fields]))


def schedule(
    server: Server,
    package: Package,
    arguments: Mapping[str, Any],
    *,
    name: str,
    when: When,
    experiment: str,
    enabled: bool = True,
) -> tuple[Schedule, str]:
    """Let a pipeline run again and again, one run at a time, without making up for times that were missed.

    Returns the schedule, and what was done: `made`, `replaced`, `enabled`, `disabled` or `unchanged`. What other
    schedules of the name there are is deleted, after the new one was made: a call that was cut off is just repeated.
    """
    body = _body(server, package, arguments, name=name, when=when, experiment=experiment, enabled=enabled)
    there = list(server.recurring_runs(name))
    kept = next((each for each in there if each.description == body.description), None)
    others = [each for each in there if each is not kept]
    done = "unchanged"
    if kept is None:
        kept, done = server.create_recurring_run(body), "replaced" if others else "made"
    elif _enabled(kept) != enabled:
        server.enable(kept.recurring_run_id, enabled)
        done = "enabled" if enabled else "disabled"
    for other in others:
        server.delete_recurring_run(other.recurring_run_id)
    return Schedule(id=kept.recurring_run_id, name=name, when=when, enabled=enabled), done


def schedules(server: Server, name: str = "") -> list[Schedule]:
    """Return the schedules that the server has; all, or those of a name."""
    return [_schedule(each) for each in server.recurring_runs(name)]


def disable(server: Server, name: str) -> list[Schedule]:
    """Keep the schedules of a name from starting runs."""
    found = schedules(server, name)
    if not found:
        raise NotFoundError(f"there is no schedule {name!r}: see `gangplan kfp schedule --list`")
    for each in found:
        server.enable(each.id, False)
    return schedules(server, name)


def delete(server: Server, name: str) -> list[Schedule]:
    """Delete the schedules of a name, and return them; where there are none, nothing is to be done."""
    found = schedules(server, name)
    for each in found:
        server.delete_recurring_run(each.id)
    return found


def _body(
    server: Server,
    package: Package,
    arguments: Mapping[str, Any],
    *,
    name: str,
    when: When,
    experiment: str,
    enabled: bool,
) -> V2beta1RecurringRun:
    """Return what is sent; its description has a checksum of what it was made from, as the server changes the rest."""
    made_from = [package.spec, arguments, vars(when), experiment]
    digest = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()
    return V2beta1RecurringRun(
        display_name=name,
        description=_MADE_BY + digest,
        experiment_id=server.experiment(experiment),
        pipeline_spec=package.spec,
        runtime_config=V2beta1RuntimeConfig(parameters=dict(arguments)),
        trigger=V2beta1Trigger(
            cron_schedule=V2beta1CronSchedule(cron=when.cron) if when.cron else None,
            periodic_schedule=V2beta1PeriodicSchedule(interval_second=str(when.every_s)) if when.every_s else None,
        ),
        mode="ENABLE" if enabled else "DISABLE",
        max_concurrency="1",
        no_catchup=True,
    )


def _schedule(answer: Any) -> Schedule:
    trigger = answer.trigger
    cron = (trigger.cron_schedule and trigger.cron_schedule.cron) or ""
    every = (trigger.periodic_schedule and trigger.periodic_schedule.interval_second) or 0
    return Schedule(
        id=answer.recurring_run_id,
        name=answer.display_name or "",
        when=When(cron=cron, every_s=int(every)),
        enabled=_enabled(answer),
    )


def _enabled(answer: Any) -> bool:
    """Tell whether a recurring run starts runs: its status says so, and where it has none, its mode."""
    return (answer.status or answer.mode) in ("ENABLED", "ENABLE")
