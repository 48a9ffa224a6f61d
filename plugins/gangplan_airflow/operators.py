"""The operators: reserve a gang of GPU slots before a step, release them after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeAlias, get_args

from airflow.sdk import BaseOperator

from gangplan import client
from gangplan.clock import parse_span
from gangplan.config import load_settings, present
from gangplan.errors import InputError, WaitTimeoutError
from gangplan.types import GangRequest, Reservation, ReservationId, ReservationState, request_from
from gangplan_airflow.attempts import Attempt, task_owner, ti_of
from gangplan_airflow.compat import AirflowFailException, AirflowSkipException, TaskDeferralError, TaskDeferralTimeout
from gangplan_airflow.hook import GangplanHook, no_slots, slots
from gangplan_airflow.links import ReservationLink
from gangplan_airflow.owners import connection_of, leave_nothing, left_by_ended, take, wait_until_gone
from gangplan_airflow.trigger import GangGrantedTrigger, granted_text, require_granted, waiting_text
from gangplan_airflow.wait_log import WaitLog, zone_of

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.definitions.mappedoperator import MappedOperator

    from gangplan.reserve import Ledger

Span: TypeAlias = timedelta | float | str

LATE = timedelta(seconds=30)
"""How long after the end of a wait Airflow ends it itself, when no triggerer has."""

OnTimeout: TypeAlias = Literal["fail", "skip", "run_anyway"]
"""What becomes of a task whose wait is over: it fails, it is skipped, or it succeeds without slots."""

WISHED = (
    *("priority_class", "preemptible", "checkpoint", "topology", "speed", "slot"),
    *("earliest_start", "latest_start", "deadline"),
)
"""The fields of a request that a task may name itself; its `options` take the others."""


class ReserveGangOperator(BaseOperator):
    """Reserves `pods` pods of `gpus_per_pod` GPUs, all or none; while others hold them it waits in the triggerer.

    Returns the slots (id, token, placements, node names); use it as a setup, ReleaseGangOperator as its teardown.
    `duration` is how long the lease lasts unless the work renews it. Arguments are named as GangRequest's fields, and
    `options` are those that are left. `topology` is text: "rack", or "rack:preferred". Spans are timedeltas, seconds,
    or text like "30m". Times may be templates of the data interval. After `wait_timeout` the request is cancelled;
    `on_timeout` says whether the task then fails, is skipped, or lets the work run without slots.
    """

    operator_extra_links = (ReservationLink(),)
    template_fields = (
        *("tenant", "accelerators", "pods", "gpus_per_pod", "min_pods", "max_pods", "duration"),
        *WISHED,
        *("wait_timeout", "request_key", "options", "gangplan_conn_id"),
    )

    def __init__(
        self,
        *,
        tenant: str,
        accelerators: Sequence[str],
        pods: int | str,
        gpus_per_pod: int | str,
        duration: Span,
        min_pods: int | str | None = None,
        max_pods: int | str | None = None,
        priority_class: str = "",
        preemptible: bool | str = False,
        checkpoint: Span | None = None,
        topology: str = "",
        speed: Mapping[str, float | str] | None = None,
        slot: str = "",
        earliest_start: datetime | str | None = None,
        latest_start: datetime | str | None = None,
        deadline: datetime | str | None = None,
        wait_timeout: Span = timedelta(days=1),
        on_timeout: OnTimeout = "fail",
        request_key: str | None = None,
        options: Mapping[str, Any] | None = None,
        gangplan_conn_id: str = GangplanHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.tenant, self.accelerators, self.pods, self.gpus_per_pod = tenant, accelerators, pods, gpus_per_pod
        self.duration, self.min_pods, self.max_pods = duration, min_pods, max_pods
        self.priority_class, self.preemptible, self.checkpoint = priority_class, preemptible, checkpoint
        self.topology, self.speed, self.slot = topology, speed, slot
        self.earliest_start, self.latest_start, self.deadline = earliest_start, latest_start, deadline
        if on_timeout not in get_args(OnTimeout):
            raise InputError("on_timeout", on_timeout, f"is unknown: use one of {', '.join(get_args(OnTimeout))}")
        self.on_timeout: OnTimeout = on_timeout
        self.wait_timeout, self.options, self.gangplan_conn_id = wait_timeout, options, gangplan_conn_id
        self.request_key = request_key or ""
        self._chosen = request_key is not None
        self.for_job: Callable[[Ledger, Context], Ledger] | None = None
        self.reservation_id = ""
        self._attempt = ""

    def execute(self, context: Context) -> dict[str, Any]:  # noqa: RET503 - defer never returns
        """Submit; return the slots if they are free now, else say why not and wait in the triggerer.

        Wrong arguments fail the task at once, for another try would give the same ones.
        """
        attempt = self._ask_as(context)
        now = present()
        try:
            request = read_request(self)
            until = self._until(context, now)
            with self._ledger() as ledger:
                asks = self.for_job(ledger, context) if self.for_job else ledger
                asked = client.claim(ledger, client.submit(asks, request, until, attempt))
        except InputError as error:
            raise AirflowFailException(str(error)) from error
        leave_nothing(self._hook.ledger_url, self.request_key, attempt)
        if not asked.state.waits:
            return self._granted(asked)
        self._wait(context, asked, until, waiting_text(asked, now))

    def resume(self, context: Context, event: Mapping[str, Any]) -> dict[str, Any]:  # noqa: RET503 - defer never returns
        """Go on when the trigger has fired: take up what was granted, for it may have ended since."""
        attempt = self._ask_as(context)
        now = present()
        with self._ledger() as ledger:
            asked = take(ledger, attempt, self.request_key, ReservationId(event["reservation_id"]), present)
        if not asked.state.waits:
            return self._granted(asked, event["because"])
        if event.get("late"):
            self.on_kill()
            return self._without(asked, event["because"], f"over after {self.wait_timeout}, {waiting_text(asked, now)}")
        self._wait(context, asked, self._until(context, now), event["because"])

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Give the request back when the trigger broke or ran into execution_timeout: nobody would take its slots."""
        self._ask_as(context)
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except (TaskDeferralError, TaskDeferralTimeout):
            self.on_kill()
            raise

    def on_kill(self) -> None:
        """Give back what this try has; while the task waits in the triggerer, the trigger does it."""
        if self._attempt:
            with self._ledger() as ledger:
                client.give_back(ledger, self.request_key, self._attempt)

    def _ask_as(self, context: Context) -> str:
        """Note which try this is; a task that was given no key has that of its attempts."""
        attempt = Attempt.of(ti_of(context))
        if not self._chosen:
            self.request_key = attempt.key
        self._attempt = str(attempt)
        return self._attempt

    def _until(self, context: Context, now: datetime) -> datetime:
        """Return until when to wait: for the wait_timeout, within the execution_timeout since the try's start."""
        until = now + read_span("wait_timeout", self.wait_timeout)
        if self.execution_timeout is None:
            return until
        return min(until, (getattr(ti_of(context), "start_date", None) or now) + self.execution_timeout)

    def _wait(self, context: Context, asked: Reservation, until: datetime, because: str) -> NoReturn:
        """Wait in the triggerer; Airflow itself ends a wait whose triggerer is gone."""
        said = WaitLog(zone_of(context))
        for line in said.news(asked, present()):
            self.log.info(line)
        self.reservation_id = asked.id
        trigger = GangGrantedTrigger.waiting(self, asked, until, because, said, in_worker=self._must_return(context))
        timeout = None if self.execution_timeout is None else max(until - present(), timedelta(0)) + LATE
        self.defer(trigger=trigger, method_name="resume", timeout=timeout)

    def _must_return(self, context: Context) -> bool:
        """Tell whether a worker has to end the task, for it does more there than keep what the task returns."""
        ends = type(self).post_execute is not BaseOperator.post_execute or self._post_execute_hook is not None
        alone = ti_of(context).map_index >= 0 or not self.has_dag()
        mapped_over = not alone and any(True for _ in self.iter_mapped_dependants())
        return bool(ends or mapped_over or self.outlets or self.multiple_outputs)

    def _granted(self, asked: Reservation, because: str | None = None) -> dict[str, Any]:
        """Return the slots, or say that the reservation ended while the task waited."""
        held = slots(require_granted(asked), because)
        self.reservation_id = asked.id
        self.log.info(granted_text(held))
        return held

    def _without(self, asked: Reservation, because: str, why: str) -> dict[str, Any]:
        """End a wait that was in vain, as `on_timeout` says."""
        if self.on_timeout == "fail":
            raise WaitTimeoutError(f"wait_timeout: {why}")
        if self.on_timeout == "skip":
            raise AirflowSkipException(f"wait_timeout: {why}")
        self.log.warning("wait_timeout: %s; the work runs without slots", why)
        return no_slots(asked, because)

    def _ledger(self) -> AbstractContextManager[Ledger]:
        """Open the ledger."""
        return self._hook.get_conn()

    @property
    def _hook(self) -> GangplanHook:
        """The hook of the task's connection."""
        return GangplanHook(self.gangplan_conn_id)


class ReleaseGangOperator(BaseOperator):
    """Releases what a reserve task holds (`reserve`: its operator, mapped or not; `slots`: what it returned).

    It gives back what that try of the reserve task was granted, and nothing of a later one; it may run twice. Use it as
    the teardown of the reservation, so that it runs when the work failed. Work that did not end by itself keeps its
    slots for a grace of 15 seconds (setting `release_grace_s`), because its process may live on for so long. In another
    DAG or run, name the `request_key` that the reserve task was given.
    """

    template_fields = ("request_key", "slots", "gangplan_conn_id")

    def __init__(
        self,
        *,
        reserve: ReserveGangOperator | MappedOperator | None = None,
        slots: Any = None,
        request_key: str | None = None,
        gangplan_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if sum(given is not None for given in (reserve, slots, request_key)) != 1:
            raise InputError("reserve", self.task_id, "needs either the reserve task, its slots or its request_key")
        if reserve is not None:
            _require_match(self, reserve)
        self.reserve_task_id = None if reserve is None else reserve.task_id
        self.request_key = request_key
        self.slots = slots if reserve is None else reserve.output
        self.gangplan_conn_id = gangplan_conn_id or connection_of(reserve) or GangplanHook.default_conn_name

    def execute(self, context: Context) -> list[str]:
        """Release, and return the ids of what was given back."""
        hook = GangplanHook(self.gangplan_conn_id)
        with hook.get_conn() as ledger:
            held = self._held(ledger, context)
        wait_until_gone(self, self._reserves(), context, load_settings().release_grace)
        with hook.get_conn() as ledger:
            ended = [row for key, attempt in held for row in client.give_back(ledger, key, attempt)]
            released = [] if ended else _released(ledger, held)
        for reservation in ended:
            self.log.info("%s: %s GPUs given back", reservation.id, reservation.request.gpus)
        if released:
            self.log.info("%s: given back already, when their work ended", ", ".join(released))
        elif not ended:
            self.log.warning("NOTHING TO GIVE BACK: %s", self._why_nothing(held))
        return [reservation.id for reservation in ended]

    def _held(self, ledger: Ledger, context: Context) -> list[tuple[str, str | None]]:
        """Return the keys and attempts of what is to be given back, as they are now."""
        if self.request_key is not None:
            rows = client.lives(ledger, self.request_key)
            return [(self.request_key, row.attempt) for row in rows if not row.state.final]
        told: Any = self.slots
        given = [told] if isinstance(told, Mapping) else list(told or ())
        named = [(one["key"], one.get("attempt")) for one in given if one and one.get("id", "") is not None]
        return named + self._unnamed(ledger, context, {attempt for _, attempt in named})

    def _unnamed(self, ledger: Ledger, context: Context, named: set[str | None]) -> list[tuple[str, str | None]]:
        """Return what a reserve task has that returned nothing, and has ended: one that was marked as a success."""
        if self.reserve_task_id is None:
            return []
        ti = ti_of(context)
        owner = task_owner(ti.dag_id, ti.run_id, self.reserve_task_id)
        rows = left_by_ended(ledger, owner if ti.map_index < 0 else f"{owner}/{ti.map_index}", named)
        return [(row.request.request_key, row.attempt) for row in rows]

    def _reserves(self) -> list[Any]:
        """Return the reserve tasks whose slots these may be."""
        before = self.get_flat_relatives(upstream=True)
        return [task for task in before if is_reserve(task) and self.reserve_task_id in (None, task.task_id)]

    def _why_nothing(self, held: list[tuple[str, str | None]]) -> str:
        """Return why nothing was given back."""
        if held:
            return f"what {', '.join(attempt or key for key, attempt in held)} had has ended, or a later try has it"
        if self.request_key is not None:
            return f"no live reservation has the request_key {self.request_key!r}"
        return f"{self.reserve_task_id or 'the reserve task'} returned no slots, and holds none"


def _released(ledger: Ledger, held: list[tuple[str, str | None]]) -> list[str]:
    """Return the ids of what these attempts have released; nothing if any of it ended in another way."""
    rows = [row for key, attempt in held for row in client.lives(ledger, key) if row.attempt == attempt]
    return [row.id for row in rows] if all(row.state is ReservationState.RELEASED for row in rows) else []


def is_reserve(task: Any) -> bool:
    """Tell whether a task, mapped or not, reserves a gang."""
    kind = getattr(task, "operator_class", type(task))
    return isinstance(kind, type) and issubclass(kind, ReserveGangOperator)


def _require_match(release: ReleaseGangOperator, reserve: Any) -> None:
    """Refuse a release that could not tell what to give back."""
    if not is_reserve(reserve):
        raise InputError("reserve", reserve, "is no ReserveGangOperator: give that, or the slots that it returned")
    ours, its = release.get_dag(), reserve.get_dag()
    if None not in (ours, its) and ours is not its:
        raise InputError("reserve", reserve.task_id, "is a task of another DAG: give both the same request_key instead")
    group = release.get_closest_mapped_task_group()
    if group is not None and group not in reserve.iter_mapped_task_groups():
        remedy = f"is not in the mapped group {group.group_id!r}, whose first release would end it for all: move one"
        raise InputError("reserve", reserve.task_id, remedy)


def read_request(task: ReserveGangOperator) -> GangRequest:
    """Make a task's request; templates give text, so numbers and times may come as text."""
    values = _named(task)
    for name, value in (task.options or {}).items():
        if name in values and name != "pod_sets":
            raise InputError(f"options[{name}]", value, f"is given twice: {name} is an argument of its own")
        values[name] = value
    return request_from(values, called={"request": "options"})


def _named(task: ReserveGangOperator) -> dict[str, Any]:
    """Return the request's fields that are arguments of their own, those that were given."""
    pods = {"count": task.pods, "gpus_per_pod": task.gpus_per_pod}
    bounds = {"min_count": task.min_pods, "max_count": task.max_pods}
    wished = {name: getattr(task, name) for name in WISHED}
    return {
        **{name: getattr(task, name) for name in ("request_key", "tenant", "accelerators", "duration")},
        "pod_sets": [pods | bounds],
        **{name: value for name, value in wished.items() if value not in (None, "", False)},
    }


def read_span(name: str, value: Span) -> timedelta:
    """Read a duration: a timedelta, seconds, or text like 30m."""
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str):
        return parse_span(name, value)
    return timedelta(seconds=value)
