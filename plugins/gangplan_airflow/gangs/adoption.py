"""A Job of Airflow that adopts a reservation on Kueue: its very pods are reserved, and Kueue starts and stops it.

Kueue compares containers, so that what they know of their slots is written where it does not look: into annotations,
to which the variables of the containers refer.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from gangplan.client import RESERVATION, VARIABLES, environment_of
from gangplan.kube import Object
from gangplan.reserve import KueueLedger, Ledger, asks_alike, hand_out, may_adopt, reserve_for, resource_of
from gangplan.types import WHOLE_GPU, GangRequest, Reservation
from gangplan_airflow.gangs.pods import as_plain, with_resources, without_queue

LOOKS = 2000
"""So often a Job's operator looks for pods at once: Kueue starts them a moment after the Job was made."""

_log = logging.getLogger(__name__)


def may_be_adopted_by(task: Any) -> bool:
    """Tell whether a task is a Job that could adopt: what is adopted once cannot be by another try."""
    return hasattr(task, "full_job_spec") and not task.is_mapped and not task.retries


@dataclass(frozen=True, kw_only=True)
class ForJob:
    """Lets a reserve task reserve exactly the pods of the Job that follows it, where the ledger is on Kueue."""

    task_id: str

    def __call__(self, ledger: Ledger, context: Any) -> Ledger:
        """Return the ledger to submit to."""
        if not isinstance(ledger, KueueLedger):
            return ledger
        operator = copy.copy(context["dag"].get_task(self.task_id))
        return cast("Ledger", _Reserving(ledger, operator, context))


class _Reserving:
    """A ledger that reserves the pods of a Job; all else is the ledger's own."""

    def __init__(self, ledger: KueueLedger, operator: Any, context: Any) -> None:
        self._ledger, self._operator, self._context = ledger, operator, context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    def submit(self, request: GangRequest, attempt: str = "") -> Reservation:
        """Reserve for the Job; where its pods cannot be known yet, as for any other step."""
        job = self._job(request)
        if job is None:
            return self._ledger.submit(request, attempt)
        return reserve_for(self._ledger, request, job, attempt)

    def _job(self, request: GangRequest) -> Object | None:
        try:
            self._operator.render_template_fields(self._context)
            job = _manifest(self._operator, self._context, _resources(self._ledger, request))
            return job if _is_here(self._ledger, job) and asks_alike(self._ledger, request, job) else None
        except Exception as error:  # noqa: BLE001 - whatever keeps the Job from being known, it runs beside
            _log.info("%s will run beside its reservation: %s", self._operator.task_id, error)
            return None


def adopts(ledger: KueueLedger, held: Reservation, operator: Any, context: Any) -> bool:
    """Let a Job adopt a reservation, if this was made for its pods; return whether it will."""
    if not may_be_adopted_by(operator):
        return False
    resources = _resources(ledger, held.request)
    job = _manifest(operator, context, resources)
    if not _is_here(ledger, job) or not may_adopt(ledger, held.id, job):
        _log.info("the Job runs beside reservation %s, which was not made for its very pods", held.id)
        return False
    _adopt(operator, ledger, held, resources)
    return True


def job_is_over(operator: Any) -> bool:
    """Tell whether a Job has ended, well or not: then Kueue has given its slots back."""
    made = getattr(operator, "job", None)
    if made is None:
        return False
    job = operator.hook.get_job_status(made.metadata.name, made.metadata.namespace)
    return bool(operator.hook.is_job_complete(job))


def _adopt(operator: Any, ledger: KueueLedger, held: Reservation, resources: Mapping[str, str]) -> None:
    from kubernetes.client import V1Job, V1ObjectMeta

    handout, values = hand_out(ledger, held.id), environment_of(held)
    _tell(operator, resources)
    operator.labels = without_queue(operator.labels) | {RESERVATION: str(held.id)}
    notes = {_note(name): value for name, value in values.items()}
    operator.annotations = {**(operator.annotations or {}), **handout.annotations, **notes}
    base = copy.deepcopy(operator.full_job_spec) or V1Job()
    base.metadata = base.metadata or V1ObjectMeta()
    base.metadata.labels = {**(base.metadata.labels or {}), **handout.labels}
    operator.full_job_spec, operator.suspend = base, True
    operator.discover_pods_retry_number = max(operator.discover_pods_retry_number, LOOKS)


def _manifest(operator: Any, context: Any, resources: Mapping[str, str]) -> Object:
    """Return the Job that an operator would make; the operator stays as it is."""
    tried = copy.copy(operator)
    tried.env_vars, tried.labels = copy.copy(operator.env_vars), without_queue(operator.labels)
    _tell(tried, resources)
    return {**as_plain(tried.build_job_request_obj(context)), "kind": "Job"}


def _tell(operator: Any, resources: Mapping[str, str]) -> None:
    """Give a Job's containers the slots, and variables that say what the pod's annotations say of them."""
    from kubernetes.client import V1EnvVar, V1EnvVarSource, V1ObjectFieldSelector

    own = operator.env_vars or []
    kept = [V1EnvVar(name=name, value=value) for name, value in own.items()] if isinstance(own, dict) else list(own)
    taken = {one.name for one in kept}
    told = [
        V1EnvVar(
            name=name,
            value_from=V1EnvVarSource(
                field_ref=V1ObjectFieldSelector(field_path=f"metadata.annotations['{_note(name)}']")
            ),
        )
        for name in VARIABLES
        if name not in taken
    ]
    operator.env_vars = [*told, *kept]
    operator.container_resources = with_resources(operator.container_resources, resources)


def _note(variable: str) -> str:
    """Return the annotation that has a variable's value."""
    return variable.lower().replace("gangplan_", "gangplan.io/").replace("_", "-")


def _resources(ledger: KueueLedger, request: GangRequest) -> dict[str, str]:
    """Return the limits of a container that uses the slots."""
    resource = ledger.place.resource if request.slot == WHOLE_GPU else resource_of(request.slot)
    return {resource: str(request.pod_sets[0].gpus_per_pod)}


def _is_here(ledger: KueueLedger, job: Object) -> bool:
    """Tell whether a Job is made in the ledger's own namespace, where alone it may adopt."""
    return bool(job["metadata"].get("namespace") == ledger.place.namespace)
