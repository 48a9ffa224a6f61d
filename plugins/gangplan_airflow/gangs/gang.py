"""`with gang(...)`: all tasks of the block work on one gang's slots, which are held meanwhile and given back after."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Unpack

from airflow.sdk import TaskGroup
from airflow.sdk.definitions._internal.mixins import ResolveMixin
from airflow.sdk.definitions.xcom_arg import PlainXComArg

from gangplan.errors import InputError
from gangplan_airflow.gangs.arguments import GangArguments
from gangplan_airflow.gangs.holding import OnNotice
from gangplan_airflow.gangs.hooks import Pods, WorkOnSlots, job_of, with_hooks
from gangplan_airflow.operators import ReleaseGangOperator, ReserveGangOperator

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.types import Operator


class Slots(PlainXComArg):
    """The slots of a gang, for the tasks of its block: given to a task, they are what the reserve task returned."""

    def __init__(self, reserve: ReserveGangOperator, release: ReleaseGangOperator) -> None:
        super().__init__(reserve)
        self.reserve, self.release = reserve, release

    @property
    def group(self) -> TaskGroup:
        """The task group of the gang."""
        assert self.reserve.task_group is not None  # noqa: S101 (it was made in one)
        return self.reserve.task_group

    def work(self) -> list[Any]:
        """Return the tasks that work on the slots, those made so far."""
        return [task for task in self.group.iter_tasks() if task not in (self.reserve, self.release)]

    def __getitem__(self, item: str) -> SlotsField:  # type: ignore[override]  # a field of the value, no other XCom
        """Return one field of the slots, such as `slots["nodes"]`."""
        return SlotsField(self, item)

    def pod_kwargs(
        self,
        *,
        pod_set: int = 0,
        node_label: str = "kubernetes.io/hostname",
        adopt: bool = True,
        on_notice: OnNotice | None = None,
    ) -> dict[str, Any]:
        """Return the arguments that bring a Kubernetes operator's pods onto the slots.

        For KubernetesPodOperator, KubernetesJobOperator and SparkKubernetesOperator: node affinity, node selector,
        tolerations, labels, limits, environment (GANGPLAN_*) and deadline are set just before the pods are made. The
        lease is renewed while the task runs; when it is lost, the pods are deleted.

        Parameters
        ----------
        pod_set
            Which of the gang's pod sets the pods are.
        node_label
            The label of the cluster's nodes that has the names by which the ledger knows them.
        adopt
            On a Kueue ledger, let the only Job of the block adopt the reservation, if it has no retries: Kueue then
            starts and stops it itself. What is adopted once cannot be again: a Job with retries runs beside it.
        on_notice
            As for `hold`.
        """
        pods = Pods(pod_set=pod_set, node_label=node_label, adopt=adopt)
        return WorkOnSlots(reserve=self.reserve.task_id, on_notice=on_notice, pods=pods).arguments()


class SlotsField(ResolveMixin):
    """One field of a gang's slots, known when a task runs."""

    def __init__(self, slots: Slots, name: str) -> None:
        self._slots, self._name = slots, name

    def iter_references(self) -> Iterable[tuple[Operator, str]]:
        """See ResolveMixin."""
        return self._slots.iter_references()

    def resolve(self, context: Context) -> Any:
        """See ResolveMixin."""
        value: Mapping[str, Any] = self._slots.resolve(context)
        if self._name not in value:
            raise InputError.unknown("slots", self._name, "no field of slots", value)
        return value[self._name]

    def __str__(self) -> str:
        """Return the template of the field."""
        return f"{str(self._slots).removesuffix(' }}')}['{self._name}'] }}}}"


@contextmanager
def gang(name: str, /, *, on_notice: OnNotice | None = None, **given: Unpack[GangArguments]) -> Generator[Slots]:
    """Let the tasks that are made in the block work on a gang's slots.

    Makes a task group `name` with the tasks `reserve` and `release` around them. `reserve` asks for the gang when all
    that the block's tasks wait for outside is done, and waits in the triggerer. Each task of the block renews the lease
    while it runs, and is stopped when it is lost. `release` runs after all of them, however they ended. Arguments are
    those of ReserveGangOperator; `reserve_args` are those that every operator has, for the task `reserve`.
    """
    with TaskGroup(name), gang_here(given) as slots:
        yield slots
        slots.reserve.for_job = job_of(slots.work())
        hooks = WorkOnSlots(reserve=slots.reserve.task_id, on_notice=on_notice)
        for task in slots.work():
            if not (task.is_setup or task.is_teardown):
                with_hooks(task, hooks)


@contextmanager
def gang_here(given: GangArguments) -> Generator[Slots]:
    """Let the tasks of the block work on a gang's slots, all in the task group that is being made."""
    arguments: dict[str, Any] = {**given}
    reserve = ReserveGangOperator(task_id="reserve", **(arguments.pop("reserve_args", None) or {}), **arguments)
    release = ReleaseGangOperator(task_id="release", reserve=reserve)
    release.as_teardown(setups=reserve)
    slots = Slots(reserve, release)
    yield slots
    _order(slots.work(), reserve, release)


def _order(work: list[Any], reserve: ReserveGangOperator, release: ReleaseGangOperator) -> None:
    """Let work begin after `reserve` and end before `release`, and `reserve` wait for what the work needs."""
    inside = {task.task_id for task in work}
    for task in work:
        outside = task.upstream_task_ids - inside - {reserve.task_id}
        for other in outside:
            reserve.set_upstream(reserve.dag.get_task(other))
        if not task.upstream_task_ids & inside:
            task.set_upstream(reserve)
        if not task.downstream_task_ids & inside:
            task.set_downstream(release)
