"""Runs of pipelines: started, followed to their end, and shown with the gangs that they hold or wait for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from kfp_server_api import V2beta1Run, V2beta1RuntimeConfig

from gangplan.errors import NotFoundError, UnavailableError
from gangplan.reserve import Ledger
from gangplan.types import PipelineOwner, Reservation, cluster_owner
from gangplan_kfp.client.packages import Package
from gangplan_kfp.client.server import Server

LOOK_EVERY_S = 2.0
"""Seconds between two looks at a run that is waited for."""

_MISSES = 100
"""Looks in a row that may fail before a wait is given up: a server that is being upgraded comes back."""

_OVER = {"SUCCEEDED", "FAILED", "SKIPPED", "CANCELED"}


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run: its state in KFP's words, and the names of its steps by their states."""

    id: str
    name: str
    state: str
    created_at: datetime | None
    finished_at: datetime | None
    error: str
    steps: Mapping[str, Sequence[str]]

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.state in _OVER


def submit(server: Server, package: Package, arguments: Mapping[str, Any], *, experiment: str, name: str) -> Run:
    """Start a run of a pipeline in an experiment, which is made where there is none."""
    body = V2beta1Run(
        display_name=name,
        experiment_id=server.experiment(experiment),
        pipeline_spec=package.spec,
        runtime_config=V2beta1RuntimeConfig(parameters=dict(arguments)),
    )
    return _run(server.create_run(body))


def find_run(server: Server, given: str) -> Run:
    """Return the run of an id, else the newest of a name."""
    try:
        return _run(server.run(given))
    except NotFoundError as error:
        newest = next(server.runs(given), None)
        if newest is None:
            raise NotFoundError(f"no run has the id or the name {given!r}: see `gangplan kfp status`") from error
        return _run(server.run(newest.run_id))


def newest_runs(server: Server, count: int) -> list[Run]:
    """Return the newest runs."""
    return [_run(each) for each in islice(server.runs(), count)]


def wait(
    server: Server, run_id: str, heard: Callable[[Run], None], *, pause: Callable[[float], None] = time.sleep
) -> Run:
    """Follow a run to its end and tell `heard` of each look; a server that fails for minutes ends the wait."""
    missed = 0
    while True:
        try:
            run = _run(server.run(run_id))
        except UnavailableError:
            missed += 1
            if missed == _MISSES:
                raise
        else:
            missed = 0
            heard(run)
            if run.over:
                return run
        pause(LOOK_EVERY_S)


def gangs(ledger: Ledger, run: str = "") -> dict[str, list[Reservation]]:
    """Return by run what runs of pipelines have in a ledger, the oldest first; of all runs, or of one."""
    found: dict[str, list[Reservation]] = {}
    for reservation in ledger.list(None, str(PipelineOwner(run=run)) if run else "kfp"):
        owner = cluster_owner(reservation.attempt)
        if isinstance(owner, PipelineOwner):
            found.setdefault(owner.run, []).append(reservation)
    return found


def _run(answer: Any) -> Run:
    """Read a run of KFP's API."""
    steps: dict[str, list[str]] = {}
    for name, state in _steps(answer):
        steps.setdefault(state, []).append(name)
    return Run(
        id=answer.run_id,
        name=answer.display_name or "",
        state=answer.state or "PENDING",
        created_at=answer.created_at,
        finished_at=answer.finished_at if answer.state in _OVER else None,
        error=(answer.error and answer.error.message) or "",
        steps=steps,
    )


def _steps(answer: Any) -> Iterator[tuple[str, str]]:
    """Give the steps with their states; KFP lists its own drivers and executors between them."""
    details = answer.run_details and answer.run_details.task_details
    for task in details or ():
        name = task.display_name or ""
        if name and name not in ("root", "executor") and not name.endswith("-driver"):
            yield name, task.state or "PENDING"
