"""Which objects of a cluster have ended: pods, Jobs, JobSets and the Workflows of Kubeflow pipelines."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from gangplan.errors import ForbiddenError, NotFoundError, UnavailableError
from gangplan.kube import RESERVATION, Api, Mirror, Object
from gangplan.types import ObjectOwner, PipelineOwner

_log = logging.getLogger(__name__)

_RUN = "pipeline/runid"
"""The label by which Kubeflow Pipelines names the run of a Workflow."""

_KEPT_S = 3600.0
"""How long it is remembered that an object was there and is gone."""

_OVER_PHASES = frozenset({"Succeeded", "Failed", "Error"})
_OVER_CONDITIONS = frozenset({"Complete", "Completed", "Failed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of object that can own reservations.

    `pods` selects its pods: the label, whose value is the object's uid or, where `by_name`, its name.
    """

    name: str
    group: str
    plural: str
    pods: str = ""
    by_name: bool = False

    @property
    def path(self) -> str:
        """The path of all objects of the kind."""
        return f"{self.group}/{self.plural}"

    def path_of(self, namespace: str, name: str) -> str:
        """Return the path of one object."""
        return f"{self.group}/namespaces/{namespace}/{self.plural}/{name}"

    def selector(self, name: str, uid: str) -> str:
        """Return what selects the pods of an object."""
        return f"{self.pods}={name if self.by_name else uid}"


_POD = Kind(name="Pod", group="/api/v1", plural="pods")
_WORKFLOW = Kind(
    name="Workflow",
    group="/apis/argoproj.io/v1alpha1",
    plural="workflows",
    pods="workflows.argoproj.io/workflow",
    by_name=True,
)
_JOB = Kind(name="Job", group="/apis/batch/v1", plural="jobs", pods="batch.kubernetes.io/controller-uid")
_JOBSET = Kind(
    name="JobSet",
    group="/apis/jobset.x-k8s.io/v1alpha2",
    plural="jobsets",
    pods="jobset.sigs.k8s.io/jobset-name",
    by_name=True,
)
KINDS = {kind.name: kind for kind in (_POD, _JOB, _JOBSET, _WORKFLOW)}


@dataclass(frozen=True, slots=True)
class Life:
    """An object as last heard of."""

    uid: str
    over: bool
    run: str = ""


class Lives:
    """Watched copies of the objects that can own reservations; `heard` gets the uid, or run, of what has ended."""

    def __init__(self, api: Api, heard: Callable[[str], None]) -> None:
        self._api, self._heard = api, heard
        self._mirrors: dict[str, Mirror[Life]] = {}
        self._looked = False
        self._lock = Lock()  # guards what follows
        self._gone: dict[str, float] = {}  # uids and runs of objects that were there, and since when they are gone

    def look(self) -> None:
        """Watch the kinds that the cluster serves by now and that we may read, and forget what went long ago."""
        for kind in KINDS.values():
            if kind.name not in self._mirrors and self._is_served(kind):
                mirror = Mirror(self._api, kind.path, _life, self._changed)
                self._mirrors[kind.name] = mirror
                mirror.start()
        self._looked = True
        with self._lock:
            since = time.monotonic() - _KEPT_S
            self._gone = {key: moment for key, moment in self._gone.items() if moment > since}

    def _is_served(self, kind: Kind) -> bool:
        try:
            self._api.get(kind.path, limit="1")
        except NotFoundError:
            return False
        except ForbiddenError as error:
            _log.warning("what %ss leave reserved is given back when its lease ends: %s", kind.name, error)
            return False
        return True

    def wait_ready(self, seconds: float) -> None:
        """Wait until all that is watched has been listed once."""
        until = time.monotonic() + seconds
        for mirror in self._mirrors.values():
            if not mirror.ready.wait(max(0.0, until - time.monotonic())):
                raise UnavailableError(f"{self._api.shown}: could not be listed within {seconds:g} s")

    @property
    def ready(self) -> bool:
        """Whether all that is watched has been listed once."""
        return self._looked and all(mirror.ready.is_set() for mirror in list(self._mirrors.values()))

    def close(self) -> None:
        """End the watches."""
        for mirror in self._mirrors.values():
            mirror.close()

    def ended(self, owner: ObjectOwner | PipelineOwner, reservation: str) -> str:
        """Return how an owner has ended, in words; empty while it, or a pod on its slots, may still run.

        What the watches say is asked once more of the cluster, as they may lag behind. An object that is not there
        counts only if it was seen before: its name or its uid may be wrong.
        """
        why = self._run_ended(owner.run) if isinstance(owner, PipelineOwner) else self._object_ended(owner)
        return "" if why and self._pods_run(f"{RESERVATION}={reservation}") else why

    # ------------------------------------------------------------ one object

    def _object_ended(self, owner: ObjectOwner) -> str:
        kind = KINDS.get(owner.kind)
        if kind is None:
            return ""
        life = self._there(kind, f"{owner.namespace}/{owner.name}")
        if not self._may_be_over(life, owner.uid):
            return ""
        return self._confirmed(kind, owner.namespace, owner.name, owner.uid)

    def _there(self, kind: Kind, key: str) -> Life | None:
        mirror = self._mirrors.get(kind.name)
        return None if mirror is None else mirror.there.get(key)

    def _may_be_over(self, life: Life | None, uid: str) -> bool:
        """Tell whether an object is over, or was seen and is gone, by what the watches have told."""
        if life is not None and life.uid == uid:
            return life.over
        with self._lock:
            return uid in self._gone

    def _confirmed(self, kind: Kind, namespace: str, name: str, uid: str) -> str:
        """Ask the cluster whether an object has ended, with its pods."""
        try:
            life = _life(self._api.get(kind.path_of(namespace, name)))
        except NotFoundError:
            life = None
        present = life is not None and life.uid == uid
        if present and life is not None and not life.over:
            return ""
        if kind.pods and self._pods_run(kind.selector(name, uid), namespace):
            return ""
        return f"{kind.name} {namespace}/{name} {'has ended' if present else 'was deleted'}"

    def _pods_run(self, selector: str, namespace: str = "") -> bool:
        """Tell whether a pod that a selector names has not ended."""
        path = f"{_POD.group}/namespaces/{namespace}/pods" if namespace else _POD.path
        return any(not _life(item).over for item in self._api.items(path, labelSelector=selector))

    # ------------------------------------------------------------ runs of pipelines

    def _run_ended(self, run: str) -> str:
        """Return how a run of a pipeline has ended: all its Workflows and pods."""
        mirror = self._mirrors.get(_WORKFLOW.name)
        known = [] if mirror is None else [life for life in list(mirror.there.values()) if life.run == run]
        with self._lock:
            gone = run in self._gone
        if not all(life.over for life in known) if known else not gone:
            return ""
        of_run = f"{_RUN}={run}"
        workflows = list(self._api.items(_WORKFLOW.path, labelSelector=of_run))
        over = all(_life(item).over for item in workflows) and (workflows or gone)
        if not over or self._pods_run(of_run) or any(self._pods_of(_WORKFLOW, item) for item in workflows):
            return ""
        return f"pipeline run {run} {'has ended' if workflows else 'was deleted'}"

    def _pods_of(self, kind: Kind, item: Object) -> bool:
        meta = item["metadata"]
        return self._pods_run(kind.selector(meta["name"], meta["uid"]), meta["namespace"])

    # ------------------------------------------------------------ the mirrors' threads

    def _changed(self, name: str, before: Life | None, now: Life | None) -> None:
        """Note what is gone, and tell of what has ended; an object of the same name with another uid is another one."""
        if before is not None and (now is None or now.uid != before.uid):
            with self._lock:
                self._gone |= dict.fromkeys(filter(None, (before.uid, before.run)), time.monotonic())
            self._tell(before)
        if now is not None and now.over:
            self._tell(now)

    def _tell(self, life: Life) -> None:
        for key in filter(None, (life.uid, life.run)):
            self._heard(key)


def _life(item: Object) -> Life:
    meta: Object = item["metadata"]
    status: Object = item.get("status") or {}
    conditions: list[Object] = status.get("conditions") or []
    labels: dict[str, str] = meta.get("labels") or {}
    marked = {mark.get("type") for mark in conditions if mark.get("status") == "True"}
    over = status.get("phase") in _OVER_PHASES or not marked.isdisjoint(_OVER_CONDITIONS)
    return Life(meta["uid"], over, labels.get(_RUN, ""))
