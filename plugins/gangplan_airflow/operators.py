"""The operators: reserve a gang of GPU slots before a step, release them after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import TaskDeferralError, TaskDeferralTimeout

from gangplan import client
from gangplan.clock import parse_span
from gangplan.config import present
from gangplan.errors import InputError, Refusal, WaitTimeoutError
from gangplan.types import GangRequest, Reservation, ReservationId, ReservationState, request_from
from gangplan_airflow.hook import GangplanHook, slots
from gangplan_airflow.trigger import GangGrantedTrigger, waiting_text

if TYPE_CHECKING:
    from airflow.sdk import Context

Span: TypeAlias = timedelta | float | str

WISHED = ("priority_class", "preemptible", "checkpoint", "topology", "speed", "slot", "deadline")
"""The fields of a request that a task may name itself; its `options` take the others."""


class ReserveGangOperator(BaseOperator):
    """Reserves `pods` pods of `gpus_per_pod` GPUs, all or none; while others hold them it waits in the triggerer.

    Returns the slots (id, token, placements, node names); use it as a setup, ReleaseGangOperator as its teardown.
    `duration` is how long the lease lasts unless the work renews it. Arguments are named as GangRequest's fields, and
    `options` are those that are left. `topology` is text: "rack", or "rack:preferred". After `wait_timeout` the request
    is cancelled and the task fails. Spans are timedeltas, seconds, or text like "30m".
    """

    template_fields = (
        *("tenant", "accelerators", "pods", "gpus_per_pod", "min_pods", "max_pods", "duration"),
        *WISHED,
        *("wait_timeout", "request_key", "options"),
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
        deadline: datetime | str | None = None,
        wait_timeout: Span = timedelta(days=1),
        request_key: str | None = None,
        options: Mapping[str, Any] | None = None,
        gangplan_conn_id: str = GangplanHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.tenant, self.accelerators, self.pods, self.gpus_per_pod = tenant, accelerators, pods, gpus_per_pod
        self.duration, self.min_pods, self.max_pods = duration, min_pods, max_pods
        self.priority_class, self.preemptible, self.checkpoint = priority_class, preemptible, checkpoint
        self.topology, self.speed, self.slot, self.deadline = topology, speed, slot, deadline
        self.wait_timeout, self.options, self.gangplan_conn_id = wait_timeout, options, gangplan_conn_id
        self.request_key = request_key or key_template(self.task_id)

    def execute(self, context: Context) -> dict[str, Any]:  # noqa: RET503 - defer never returns
        """Submit; return the slots if they are free now, else say why not and wait in the triggerer."""
        now = present()
        until = now + read_span("wait_timeout", self.wait_timeout)
        with GangplanHook(self.gangplan_conn_id).get_conn() as ledger:
            asked = client.submit(ledger, read_request(self), until)
        if not asked.state.waits:
            return self._granted(asked)
        because = waiting_text(asked, now)
        self.log.info(because)
        self.defer(trigger=GangGrantedTrigger.waiting(self, asked, until, because), method_name="resume")

    def resume(self, context: Context, event: Mapping[str, str]) -> dict[str, Any]:
        """Go on when the trigger has fired: read the reservation anew, for it may have ended since."""
        with GangplanHook(self.gangplan_conn_id).get_conn() as ledger:
            asked = client.claim(ledger, ledger.get(ReservationId(event["reservation_id"])))
        if not asked.state.waits:
            return self._granted(asked, event["because"])
        self.on_kill()
        raise WaitTimeoutError(f"wait_timeout: over after {self.wait_timeout}, {waiting_text(asked, present())}")

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Give the request back when the trigger broke or ran into execution_timeout: nobody would take its slots."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except (TaskDeferralError, TaskDeferralTimeout):
            self.on_kill()
            raise

    def on_kill(self) -> None:
        """Give the request back; while the task waits in the triggerer, the trigger does it."""
        with GangplanHook(self.gangplan_conn_id).get_conn() as ledger:
            client.give_back(ledger, self.request_key)

    def _granted(self, asked: Reservation, because: str | None = None) -> dict[str, Any]:
        """Return the slots, or say that the reservation ended while the task waited."""
        if asked.state is not ReservationState.GRANTED:
            raise Refusal(f"reservation {asked.id} was {asked.state} while {self.task_id} waited for it")
        held = slots(asked, because)
        self.log.info("granted after %s s: %s GPUs on %s", held["waited_s"], held["gpus"], ", ".join(held["nodes"]))
        return held


class ReleaseGangOperator(BaseOperator):
    """Releases what a ReserveGangOperator (`reserve`) or a request key holds, and cancels what it still waits for.

    It asks nobody and may run twice. Use it as the teardown of the reservation, so that it runs when the work failed.
    """

    template_fields = ("request_key",)

    def __init__(
        self,
        *,
        reserve: ReserveGangOperator | None = None,
        request_key: str | None = None,
        gangplan_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if (reserve is None) == (request_key is None):
            raise InputError("reserve", self.task_id, "needs either the reserve task or its request_key")
        named = getattr(reserve, "task_id", "")  # a mapped reserve task has a name, but no key before it runs
        self.request_key = request_key or getattr(reserve, "request_key", None) or key_template(named)
        self.gangplan_conn_id = gangplan_conn_id or getattr(reserve, "gangplan_conn_id", GangplanHook.default_conn_name)

    def execute(self, context: Context) -> list[str]:
        """Release, and return the ids of what was given back."""
        with GangplanHook(self.gangplan_conn_id).get_conn() as ledger:
            ended = client.give_back(ledger, self.request_key)
        for reservation in ended:
            self.log.info("%s: %s GPUs given back", reservation.id, reservation.request.gpus)
        return [reservation.id for reservation in ended]


def key_template(task_id: str) -> str:
    """Return the request key of a task: the same on every retry, another in every run."""
    return f"airflow/{{{{ dag.dag_id }}}}/{{{{ run_id }}}}/{task_id}/{{{{ ti.map_index }}}}"


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
