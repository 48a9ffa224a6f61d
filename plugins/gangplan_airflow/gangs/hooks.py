"""What a task of a gang does beside its own work: it holds the gang's slots, and puts its pods onto them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from airflow.sdk.execution_time.context import set_current_context

from gangplan.config import present
from gangplan.errors import StaleTokenError
from gangplan.types import ReservationId, Token
from gangplan_airflow.compat import AirflowFailException
from gangplan_airflow.gangs.holding import OnNotice, held_slots, slots_here
from gangplan_airflow.hook import AGAIN, GangplanHook

if TYPE_CHECKING:
    from gangplan_airflow.gangs.adoption import ForJob

Over: TypeAlias = Callable[[], bool]
"""Tells whether work is over by itself: a lease that is lost then is no loss."""

_open: dict[int, tuple[ExitStack, Over]] = {}
"""The leases that tasks of this process hold, by their operators; there is one, but in tests of a DAG."""


@dataclass(frozen=True, kw_only=True)
class Pods:
    """Which of a gang's pods a task starts, and the label under which the cluster names its nodes."""

    pod_set: int
    node_label: str
    adopt: bool


@dataclass(frozen=True, kw_only=True)
class WorkOnSlots:
    """The hooks of a task between a gang's reserve task and its release."""

    holds_slots: ClassVar[bool] = True
    reserve: str
    on_notice: OnNotice | None = None
    pods: Pods | None = None

    def arguments(self) -> dict[str, Any]:
        """Return the arguments that give an operator these hooks."""
        return {
            "pre_execute": self.begin,
            "post_execute": self.end,
            "on_retry_callback": self.broke,
            "on_failure_callback": self.broke,
        }

    def begin(self, context: Any) -> None:
        """Hold the slots from here on; without them the task fails for good, as no retry brings them back."""
        operator = context["task"]
        slots, conn_id = slots_here(context, self.reserve)
        over: Over = _never
        if self.pods is not None and slots["id"] is not None:
            over = _place(context, slots, conn_id, self.pods)
        stack = ExitStack()
        stack.enter_context(
            held_slots(context, slots, conn_id, on_notice=self.on_notice, on_lost=operator.on_kill, over=over)
        )
        _open[id(operator)] = stack, over

    def end(self, context: Any, result: Any = None) -> None:
        """Let go when the work is done; raise StaleTokenError if the slots were lost meanwhile."""
        stack, over = _open.pop(id(context["task"]), (ExitStack(), _never))
        try:
            stack.close()
        except StaleTokenError:
            if not over():
                raise

    def broke(self, context: Any) -> None:
        """Let go when the work broke; the slots are kept where it is to be tried again."""
        stack, _ = _open.pop(id(context["task"]), (None, _never))
        error = context.get("exception")
        if stack is None or not isinstance(error, BaseException):
            return
        with set_current_context(context), suppress(type(error), StaleTokenError):  # it is known already
            stack.__exit__(type(error), error, error.__traceback__)


def _place(context: Any, slots: Mapping[str, Any], conn_id: str, pods: Pods) -> Over:
    """Put an operator's pods onto slots; where the operator defers, they are kept to the end of their walltime.

    While it is deferred nobody renews.
    """
    from gangplan.client import pod_place  # what knows clusters is imported by tasks alone: DAGs are to be read quickly
    from gangplan.reserve import KueueLedger
    from gangplan_airflow.gangs.adoption import adopts, job_is_over
    from gangplan_airflow.gangs.pods import put_on

    operator = context["task"]
    id, token = ReservationId(slots["id"]), Token(slots["token"])
    defers = getattr(operator, "deferrable", False)
    with GangplanHook(conn_id).get_conn() as ledger:
        try:
            seen = ledger.renew(id, token, ledger.get(id).request.limit if defers else None)
            if pods.adopt and isinstance(ledger, KueueLedger) and adopts(ledger, seen, operator, context):
                return partial(job_is_over, operator)
            place = pod_place(ledger, seen, pod_set=pods.pod_set, node_label=pods.node_label)
        except StaleTokenError as error:
            raise AirflowFailException(f"{error}: {AGAIN}") from error
    until = seen.expires_at if defers and seen.expires_at else place.deadline
    put_on(operator, place, until, present())
    return _never


def _never() -> bool:
    return False


def job_of(work: list[Any]) -> ForJob | None:
    """Return what lets the one Job of a gang be reserved for as it is, where it may adopt the reservation."""
    placed = [task for task in work if _is_ours(getattr(task, "_pre_execute_hook", None))]
    hooks: list[WorkOnSlots] = [task._pre_execute_hook.__self__ for task in placed]
    if [one.pods is not None and one.pods.adopt for one in hooks] != [True]:
        return None
    from gangplan_airflow.gangs.adoption import ForJob, may_be_adopted_by

    return ForJob(task_id=placed[0].task_id) if may_be_adopted_by(placed[0]) else None


def with_hooks(task: Any, hooks: WorkOnSlots) -> None:
    """Give a task that was made without them these hooks, beside its own; a mapped task gets them for each instance."""
    given: dict[str, Any] = task.partial_kwargs if task.is_mapped else {}
    if _is_ours(given.get("pre_execute")) or _is_ours(getattr(task, "_pre_execute_hook", None)):
        return
    ours = hooks.arguments()
    if task.is_mapped:
        for name, hook in ours.items():
            given[name] = _both(hook, given.get(name), first=name == "pre_execute", listed="callback" in name)
        return
    # What `pre_execute=` and `post_execute=` of any operator set: it is made already.
    task._pre_execute_hook = _both(ours["pre_execute"], task._pre_execute_hook, first=True)
    task._post_execute_hook = _both(ours["post_execute"], task._post_execute_hook, first=False)
    for name in ("on_retry_callback", "on_failure_callback"):
        setattr(task, name, _both(ours[name], getattr(task, name), first=True, listed=True))


def _is_ours(hook: Any) -> bool:
    return isinstance(getattr(hook, "__self__", None), WorkOnSlots)


def _both(ours: Callable[..., None], own: Any, *, first: bool, listed: bool = False) -> Any:
    """Return ours and an operator's own as one."""
    if listed:
        return [ours, *(own if isinstance(own, list | tuple) else [own] if own else [])]
    if own is None:
        return ours
    return _Chain((ours, own) if first else (own, ours))


@dataclass(frozen=True)
class _Chain:
    """Calls one hook after the other; ours is among them."""

    holds_slots: ClassVar[bool] = True
    hooks: tuple[Callable[..., None], ...]

    def __call__(self, context: Any, result: Any = None) -> None:
        for hook in self.hooks:
            hook(context) if result is None else hook(context, result)
