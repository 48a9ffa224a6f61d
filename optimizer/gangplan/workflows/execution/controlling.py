"""The controller: the published plan carried out again and again, and what nobody will release given back."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event, Thread

from gangplan.config import Settings
from gangplan.errors import ConflictError
from gangplan.execute import (
    PASS_FIGURES,
    SETTLE,
    AirflowRuns,
    Family,
    Health,
    Lives,
    Metrics,
    Round,
    Teller,
)
from gangplan.kube import Api
from gangplan.reserve import KueueLedger, OperableLedger, open_ledger
from gangplan.workflows.execution.applying import grants_in
from gangplan.workflows.execution.carrying_out import CarryingOut, Pass
from gangplan.workflows.execution.followers import Followers
from gangplan.workflows.execution.giving_back import ClusterOwners, DagRunOwners, GivingBack, Owners
from gangplan.workflows.execution.leading import lead_of, watched_cluster

_log = logging.getLogger(__name__)

LEAST_S = 1.0
"""Seconds between two passes at least, however much happens."""

SETTLED_S = 1.2 * SETTLE.total_seconds()
"""Seconds after a step until what waited for it to settle can be done; engines round their moments."""

LOOK_S = 3.0
"""Seconds between two looks for what ended owners have left; what the watches tell comes at once."""

CAPS_S = 30.0
"""Seconds between two looks which gangs are on capped pools: each lists nodes and pods, if targets.yaml has `power`."""

RESIZE_S = 1800.0
"""Seconds between two looks at what running pods used."""

NEWS_S = 2.0
"""Seconds between two looks whether another plan was published."""

WATCH_S = 30.0
"""Seconds between two looks whether the cluster serves another kind of owner by now."""

FIRST_S = 5.0
"""Seconds beyond a lease after which somebody else must be leading."""

READY_S = 60.0
"""Seconds in which all that is watched must have been listed, where it is looked at once."""

STOP_S = 8.0
"""Seconds in which a stopped controller finishes what it has in hand; then it ends all the same."""

FAMILIES = (
    *PASS_FIGURES,
    Family("gangplan_seconds_since_whole_pass", "gauge", "Seconds since a pass in which all engines answered."),
    Family("gangplan_leader", "gauge", "1 for the controller that leads."),
    Family("gangplan_given_back_total", "counter", "Reservations given back for owners that ended.", ("owner",)),
    Family("gangplan_failed_rounds_total", "counter", "Rounds of work that failed as a whole.", ("round",)),
)


@dataclass(frozen=True, kw_only=True)
class ControllerOptions:
    """How a controller runs: its longest pause, its address, and its Lease (for seconds, in a namespace)."""

    every_s: float = 10.0
    listen: str = "127.0.0.1:9095"
    lease_s: float = 15.0
    namespace: str = ""


class Controller:
    """One of the processes that carry plans out; any number may run, and one leads."""

    def __init__(self, settings: Settings, options: ControllerOptions) -> None:
        self._settings, self._options = settings, options
        self.metrics = Metrics(*FAMILIES)
        self._api = watched_cluster(settings)
        self._ledger: OperableLedger = open_ledger(settings.ledger_url, clock=settings.clock)
        self._leading = Event()
        self._lead = lead_of(
            settings, self._api, namespace=options.namespace, seconds=options.lease_s, changed=self._led
        )
        self._lives: Lives | None = None
        self._rounds: list[Round] = []
        self._teller, self._whole_at = Teller(self.metrics), time.monotonic()
        carry_out = self._round("carry out", self._carry_out, options.every_s, least_s=LEAST_S)
        self._come_again = carry_out.come_again
        self._carrying = CarryingOut(
            settings=settings,
            grants=lambda: grants_in(self._ledger),
            step=self._lead.step,
            may_write=self._lead.may_write,
            heard=carry_out.wake,
        )
        self._round("watch plans", lambda: self._carrying.has_news() and carry_out.wake(), NEWS_S)
        self._last: Pass | None = None
        self._following = [] if self._api is None else self._follow(self._api)
        self._give_back()

    def _carry_out(self) -> None:
        """Make one pass, tell of it, and let follow what follows it."""
        began = time.monotonic()
        made = self._last = self._carrying.once()
        for each in self._following:
            each.wake()
        self._lead.say(
            self._teller.tell(made.carried, made.grants, made.plan.plan_id, made.at, time.monotonic() - began)
        )
        if made.carried.done:
            self._come_again(SETTLED_S)
        if not made.carried.unreachable:
            self._whole_at = time.monotonic()

    def _follow(self, api: Api) -> list[Round]:
        """Return the rounds of what follows a pass: none of them holds it up, or another one."""
        lead, every_s = self._lead, self._options.every_s
        followers = Followers(settings=self._settings, api=api, may_begin=lead.may_begin, may_write=lead.may_write)

        def after(work: Callable[[Pass], None]) -> Callable[[], None]:
            return lambda: work(self._last) if self._last is not None else None

        works = {
            "answer Kueue": followers.answer,
            "arrange layouts": followers.arrange,
        }
        self._round("cap power", after(followers.cap), CAPS_S)
        self._round("resize pods", after(followers.resize), RESIZE_S)
        return [self._round(name, after(work), every_s, least_s=LEAST_S) for name, work in works.items()]

    def _give_back(self) -> None:
        """Watch whose owners may end: those that the cluster knows, and those of an Airflow."""
        settings, owners = self._settings, list[Owners]()
        if self._api is not None:
            self._lives = Lives(self._api, lambda key: look.wake() if back.knows(key) else None)
            self._round("watch owners", self._lives.look, WATCH_S, leads=lambda: True)
            owners.append(ClusterOwners(lives=self._lives))
        if settings.airflow_api:
            runs, grace = AirflowRuns(settings.airflow_api), settings.release_grace
            owners.append(DagRunOwners(runs=runs, name=settings.airflow, grace=grace, clock=settings.clock))
        back = GivingBack(
            ledger=self._ledger,
            owners=tuple(owners),
            clock=settings.clock,
            may_begin=self._lead.may_begin,
            given=lambda kind: self.metrics.add("gangplan_given_back_total", kind),
        )
        look = self._round("give back", back.look, LOOK_S)

    def _round(
        self,
        name: str,
        work: Callable[[], object],
        every_s: float,
        *,
        least_s: float = 0.0,
        leads: Callable[[], bool] | None = None,
    ) -> Round:
        made = Round(
            name,
            work,
            every_s=every_s,
            least_s=least_s,
            leads=leads or (lambda: self._lead.leads),
            failed=lambda name: self.metrics.add("gangplan_failed_rounds_total", name),
        )
        self._rounds.append(made)
        return made

    def _led(self, leads: bool) -> None:
        if leads:
            self._leading.set()
        self.metrics.set("gangplan_leader", leads)
        for each in self._rounds:
            each.wake()

    # ------------------------------------------------------------ the process

    def run(self, stop: Event) -> bool:
        """Work until asked to stop; tell whether what was in hand then could be finished in time."""
        answers = {"/metrics": self._figures, "/healthz": self._healthy, "/readyz": self._ready}
        health = Health(self._options.listen, answers)
        health.start()
        _log.info("started", extra={"port": health.port, "holder": self._lead.holder})
        if isinstance(self._ledger, KueueLedger):
            self._ledger.serve()
        self._lead.start()
        for each in self._rounds:
            each.start()
        stop.wait()
        return self._end(health)

    def once(self) -> None:
        """Do all the work once; raises ConflictError where another controller leads meanwhile."""
        self._lead.start()
        try:
            if not self._leading.wait(self._options.lease_s + FIRST_S):
                raise ConflictError("controller: another one leads, and does the same work: nothing was done here")
            if isinstance(self._ledger, KueueLedger):
                self._ledger.serve()
            for each in self._rounds:
                each.once()
                if self._lives is not None:
                    self._lives.wait_ready(READY_S)
        finally:
            self._close(None)

    def _end(self, health: Health) -> bool:
        """Finish the step in hand, hand the lead over, and close all, within `STOP_S`."""
        ending = Thread(target=self._close, args=(health,), name="end", daemon=True)
        ending.start()
        ending.join(STOP_S)
        _log.info("stopped" if not ending.is_alive() else "stopped with work in hand: whoever leads next resumes it")
        return not ending.is_alive()

    def _close(self, health: Health | None) -> None:
        for each in self._rounds:
            each.stop()
        self._lead.close()
        for each in self._rounds:
            each.join(STOP_S)
        self._carrying.close()
        if self._lives is not None:
            self._lives.close()
        self._ledger.close()
        if health is not None:
            health.close()

    # ------------------------------------------------------------ what it says of itself

    def _figures(self) -> tuple[int, str]:
        self.metrics.set("gangplan_seconds_since_whole_pass", time.monotonic() - self._whole_at)
        return 200, self.metrics.text()

    def _healthy(self) -> tuple[int, str]:
        stuck = [each.name for each in self._rounds if each.stuck]
        return (503, f"stuck: {', '.join(stuck)}\n") if stuck else (200, "ok\n")

    def _ready(self) -> tuple[int, str]:
        ready = self._lives is None or self._lives.ready
        return (200, "leads\n" if self._lead.leads else "stands by\n") if ready else (503, "lists the cluster\n")
