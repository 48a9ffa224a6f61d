"""The newest published plan, carried out pass after pass by a process that stays: engines stay open, plans change."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from gangplan import plan
from gangplan.config import Settings, read_fleet
from gangplan.errors import GangplanError, UnavailableError
from gangplan.execute import (
    Carried,
    Carrying,
    Engine,
    Goal,
    Journal,
    LedTarget,
    Opening,
    Targets,
    close_engines,
    goals,
    open_engines,
    read_targets,
    targets_of_file,
)
from gangplan.kube import connect
from gangplan.tracking import Store, open_store
from gangplan.types import Fleet, Forecast, Grant, Plan, Step
from gangplan.workflows.execution.applying import serving_in

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One pass: what it came to, for which plan, beside which of a ledger's grants, on which targets."""

    carried: Carried
    plan: Plan
    targets: Targets
    grants: tuple[Grant, ...]
    at: datetime


@dataclass(kw_only=True)
class CarryingOut:
    """Carries plans out until it is closed.

    `grants` are those that no engine knows. Each step is taken within `step`, and `may_write` is called before each
    try of a write to a cluster: what they raise (UnavailableError) keeps it back. `heard` is called at each change
    there.
    """

    settings: Settings
    grants: Callable[[], Iterable[Grant]]
    step: Callable[[], AbstractContextManager[object]]
    may_write: Callable[[], None]
    heard: Callable[[], None]
    _plan: Plan | None = field(default=None, init=False)
    _forecast: Forecast | None = field(default=None, init=False)
    _journal: Journal | None = field(default=None, init=False)
    _engines: tuple[Engine, ...] = field(default=(), init=False)
    _fleet: Fleet | None = field(default=None, init=False)
    _targets: Targets | None = field(default=None, init=False)
    _stamp: tuple[object, ...] = field(default=(), init=False)

    def once(self) -> Pass:
        """Make one pass.

        Raises
        ------
        NotFoundError
            No plan has been published yet.
        InputError
            The plan has ended, or a file is wrong: nothing is done until that is mended.
        """
        published = self._newest()
        engines, targets = self._open()
        held: tuple[Grant, ...] = ()

        def granted() -> tuple[Grant, ...]:
            nonlocal held
            held = tuple(self.grants())
            return held

        def wanted(now: datetime) -> tuple[Goal, ...]:
            return tuple(goal for goal in goals(published, now) if goal.pool in targets.pools)

        clock = self.settings.clock
        now = clock()
        carrying = Carrying(
            engines=engines,
            wanted=wanted,
            clock=clock,
            grants=granted,
            more=lambda now: self._of_servers(published, now),
            journal=self._journal,
        )
        carried = carrying.once()
        if carried.reached and self._journal is not None:
            self._journal.close(clock())
        return Pass(carried=carried, plan=published, targets=targets, grants=held, at=now)

    def close(self) -> None:
        """End the run in MLflow, and close the engines."""
        self._close_journal()
        close_engines(self._engines)
        self._engines = ()

    # ------------------------------------------------------------ the plan

    def has_news(self) -> bool:
        """Tell whether another plan was published since the last pass."""
        before = self._plan
        try:
            return before is not None and plan.read_published(open_store(self.settings), before) is not before
        except UnavailableError:  # the next pass says so
            return False

    def _newest(self) -> Plan:
        """Return the newest published plan; while MLflow is away the last one is carried on, without a journal."""
        before = self._plan
        try:
            store = open_store(self.settings)
            published = plan.read_published(store, before)
        except UnavailableError as error:
            if before is None:
                raise
            _log.warning("the plan that was read last is carried on: %s", error)
            self._journal = None
            return before
        if before is None or published.run_id != before.run_id:
            self._forecast = plan.read_plan(store, published.plan_id)[1]
        self._plan = published
        self._keep_journal(store, published)
        return published

    def _of_servers(self, published: Plan, now: datetime) -> tuple[Step, ...]:
        """Return the steps of the servers that follow the plan."""
        target = serving_in(self._engines)
        return () if target is None or self._forecast is None else target.steps(published, self._forecast, now)

    def _keep_journal(self, store: Store, published: Plan) -> None:
        if self._journal is None or self._journal.plan_id != published.plan_id:
            self._close_journal()
            self._journal = Journal(store=store, plan_id=published.plan_id)

    def _close_journal(self) -> None:
        journal, self._journal = self._journal, None
        if journal is not None:
            try:
                journal.close(self.settings.clock())
            except GangplanError as error:
                _log.warning("the run in MLflow stays open: %s", error)

    # ------------------------------------------------------------ the engines

    def _open(self) -> tuple[Sequence[Engine], Targets]:
        """Return the engines, opened anew where targets.yaml or the fleet's pools have changed."""
        file = self.settings.targets_file
        stamp = (_stamp(file), _stamp(self.settings.fleet_file))
        if self._targets is None or self._fleet is None or stamp != self._stamp:
            fleet = read_fleet(self.settings.fleet_file)
            targets = targets_of_file(fleet) if file is None else read_targets(file, fleet)
            if targets != self._targets or self._fleet is None or fleet.pools != self._fleet.pools:
                self._reopen(targets, fleet)
            self._stamp = stamp
        assert self._targets is not None  # noqa: S101
        return self._engines, self._targets

    def _reopen(self, targets: Targets, fleet: Fleet) -> None:
        close_engines(self._engines)
        self._engines = ()
        opening = Opening(
            targets=targets,
            fleet=fleet,
            fleet_file=self.settings.fleet_file,
            clock=self.settings.clock,
            watched=True,
            heard=self.heard,
            connection=lambda context: connect(context).guarded(self.may_write),
        )
        opened = open_engines(opening)
        self._engines = tuple(replace(each, target=LedTarget(each.target, self.step)) for each in opened)
        self._targets, self._fleet = targets, fleet


def _stamp(file: Path | None) -> object:
    """Return what changes when a file is written."""
    try:
        found = None if file is None else os.stat(file)
    except FileNotFoundError:
        return None
    return None if found is None else (found.st_mtime_ns, found.st_size, found.st_ino)
