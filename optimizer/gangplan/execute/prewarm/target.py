"""Serving on a cluster: what it has is read, and one minimum after the other is written by compare-and-swap.

A change names the version that was read, whose owners were looked at: what somebody else wrote meanwhile, or owns, is
never overwritten. All is written as the field manager `gangplan-execute`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from gangplan.errors import ConflictError, ForbiddenError, NotFoundError, RejectedError
from gangplan.execute.prewarm import buffers
from gangplan.execute.prewarm.engines import (
    ENGINES,
    PAUSED,
    Engine,
    floor_of,
    follows_another,
    held_of,
    pauser_of,
)
from gangplan.execute.prewarm.minimums import minimums, minimums_before
from gangplan.execute.prewarm.settings import Buffer, Keda, Serving
from gangplan.execute.prewarm.values import Replicas
from gangplan.kube import (
    EXECUTOR,
    PLACEHOLDER,
    PLACEHOLDER_CLASS,
    Api,
    Object,
    is_placeholder,
    may,
    requests_of,
    writing,
)
from gangplan.types import Fleet, Forecast, Observation, Plan, Step, StepKind

_TRIES = 5
_AT_ONCE = 16
_OVER = ("Succeeded", "Failed")
_RIGHTS = "gangplan kube manifests --executor | kubectl apply -f -"


class ServingTarget:
    """The servers of one cluster, whose minimums follow the plan; `pool` in a step is a server's key."""

    name = "serving"
    kinds = frozenset({StepKind.MINIMUM})

    def __init__(self, serving: Sequence[Serving], fleet: Fleet, api: Api) -> None:
        self.serving = {entry.key: entry for entry in serving}
        self._fleet = fleet
        self._api = api
        self._seen: tuple[Replicas, ...] = ()
        self._zero: bool | None = None  # whether the cluster takes 0 of an HPA, as soon as it was asked

    def observe(self) -> Observation:
        """Look at the servers, for the steps that follow; of pools nothing is told."""
        self._seen = ()
        self._seen = self.look()
        return Observation()

    def look(self) -> tuple[Replicas, ...]:
        """Return what each server has now; one that may not be read keeps no other from being seen."""
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            return tuple(threads.map(self._look_at, self.serving.values()))

    def steps(self, plan: Plan, forecast: Forecast, now: datetime) -> tuple[Step, ...]:
        """Return the steps from what was observed to the plan; see `minimums`."""
        return minimums(plan, forecast, list(self.serving.values()), self._seen, now)

    def steps_back(self, done: Iterable[Step], why: str) -> tuple[Step, ...]:
        """Return the steps from what was observed to what was there before some steps."""
        return minimums_before(done, self._seen, why)

    def _look_at(self, entry: Serving) -> Replicas:
        try:
            return self._read(entry)[0]
        except ForbiddenError as error:
            return Replicas(key=entry.key, kind=entry.where.kind, minimum=None, missing=f"{error}: {_RIGHTS}")

    def apply(self, step: Step, *, dry_run: bool = False) -> None:
        """Write one minimum, or with `dry_run` let the API server check it; twice changes nothing more.

        Raises
        ------
        ConflictError
            The minimum is neither what the step starts from nor what it leads to: observe again.
        RejectedError
            Somebody else owns the number, there is nothing to write to, or the cluster refuses it.
        """
        entry, left = self.serving[step.pool], _TRIES
        while True:
            has, item = self._read(entry)
            if has.minimum == step.after and not has.stale:
                return
            self._require(step, has)
            left -= 1
            try:
                self._write(entry, has.kind, step.after, item, dry_run=dry_run)
            except ConflictError:  # its status was written meanwhile: only its minimum matters to us
                if not left:
                    raise
            else:
                return

    def check(self) -> tuple[str, ...]:
        """Return what would keep minimums from following the plan, each with its remedy; nothing is changed."""
        return tuple(self._troubles())

    def close(self) -> None:
        """Give back nothing: the connection is the caller's."""

    # ---------------------------------------------------------------- reading

    def _read(self, entry: Serving) -> tuple[Replicas, Object | None]:
        """Return what an entry has, and its object."""
        kind = self._kind_of(entry)
        engine = ENGINES[kind]
        item = self._get(engine.path(entry.where))
        if item is None:
            return self._absent(entry, kind, engine), None
        stale, minimum = self._ours(entry, kind, engine, item)
        floor, why = floor_of(kind, item, lambda: entry.least > 0 or self._takes(entry, engine, item))
        return Replicas(
            key=entry.key,
            kind=kind,
            minimum=minimum,
            floor=floor,
            floor_why=why,
            ceiling=engine.maximum_of(item),
            filled=self._filled(entry),
            owner="" if entry.where.take_over else _owned(entry, engine, item),
            stale=stale,
            missing=follows_another(kind, item),
        ), item

    def _absent(self, entry: Serving, kind: str, engine: Engine) -> Replicas:
        named = f"{engine.kind} {entry.where.namespace}/{entry.where.name}"
        missing = "" if engine.ours else f"there is no {named}: make it"
        return Replicas(key=entry.key, kind=kind, minimum=None, filled=self._filled(entry), missing=missing)

    def _ours(self, entry: Serving, kind: str, engine: Engine, item: Object) -> tuple[bool, int | None]:
        """Return whether what we wrote beside the minimum is out of date, and the minimum that holds now."""
        where, minimum = entry.where, engine.minimum_of(item)
        if isinstance(where, Buffer):
            wanted = buffers.digest(where, self._fleet.pool(where.pool), kind)
            return item["metadata"].get("annotations", {}).get(buffers.SETTINGS) != wanted, minimum
        held = held_of(where, item)
        if isinstance(where, Keda) and where.hold:
            return minimum != held, held
        return held is not None and pauser_of(item) == EXECUTOR, minimum

    def _kind_of(self, entry: Serving) -> str:
        """Return what an entry is; of a buffer that may be either, what stands stays."""
        where = entry.where
        if where.kind != "buffer":
            return where.kind
        standing = self._get(ENGINES["placeholders"].path(where))
        if standing is not None and is_placeholder(standing):
            return "placeholders"
        return "capacity_buffer" if self._serves(ENGINES["capacity_buffer"]) else "placeholders"

    def _serves(self, engine: Engine) -> bool:
        """Whether the cluster serves a kind."""
        found = self._get(engine.api) or {}
        return any(one["name"] == engine.plural for one in found.get("resources", ()))

    def _takes(self, entry: Serving, engine: Engine, item: Object) -> bool:
        """Whether the cluster takes a minimum of 0; it is asked once, and changes nothing."""
        if self._zero is None:
            try:
                change = {"spec": engine.patch(entry.where, 0, item)["spec"]}
                self._api.merge(engine.path(entry.where), change, **writing(dry_run=True))
            except RejectedError:
                self._zero = False
            else:
                self._zero = True
        return self._zero or engine.minimum_of(item) == 0

    def _filled(self, entry: Serving) -> float:
        """Return the GPUs that a server's pods use, or are about to, of those that its buffer keeps free."""
        where = entry.where
        if not isinstance(where, Buffer) or not where.filled_by:
            return 0.0
        path = f"/api/v1/namespaces/{where.filled_in or where.namespace}/pods"
        pods = self._api.items(path, labelSelector=where.filled_by)
        specs = [pod["spec"] for pod in pods if pod.get("status", {}).get("phase") not in _OVER]
        slots = sum(requests_of(spec)[where.resource] for spec in specs)
        return slots / self._fleet.pool(where.pool).slots_per_gpu

    def _get(self, path: str) -> Object | None:
        try:
            return self._api.get(path)
        except NotFoundError:
            return None

    # ---------------------------------------------------------------- writing

    def _require(self, step: Step, has: Replicas) -> None:
        """Refuse a step that was made from something else, or that may not be taken."""
        if has.missing or has.owner:
            raise RejectedError(f"{self._api.shown}: {has.missing or has.owner}")
        if (has.minimum or 0) != step.before:
            said = f"{step.pool} has a minimum of {has.minimum}, not of {step.before}"
            raise ConflictError(f"{self._api.shown}: {said}: look again at what is to be done")

    def _write(self, entry: Serving, kind: str, number: int, item: Object | None, *, dry_run: bool) -> None:
        """Write a minimum: into an object of somebody's, or in one of ours with what it stands on."""
        where, engine = entry.where, ENGINES[kind]
        if isinstance(where, Buffer):
            body = self._buffer(where, kind, number, dry_run=dry_run)
            if item is not None:
                body["metadata"]["resourceVersion"] = item["metadata"]["resourceVersion"]
            self._put(engine.path(where), body, force=where.take_over, dry_run=dry_run)
        elif item is not None:
            self._merge(entry, engine, number, item, dry_run=dry_run)

    def _merge(self, entry: Serving, engine: Engine, number: int, item: Object, *, dry_run: bool) -> None:
        self._api.merge(
            engine.path(entry.where),
            engine.patch(entry.where, number, item),
            **writing(dry_run=dry_run),
        )

    def _buffer(self, where: Buffer, kind: str, number: int, *, dry_run: bool) -> Object:
        """Return a buffer's object, once there is what it names."""
        pool = self._fleet.pool(where.pool)
        if kind == "placeholders":
            priorities = f"{buffers.PRIORITIES}/{PLACEHOLDER_CLASS}"
            if self._get(priorities) is None:
                self._put(priorities, buffers.priority_class(), force=False, dry_run=dry_run)
            body = buffers.placeholders(where, pool, number)
        else:
            self._put(buffers.pod_template_path(where), buffers.pod_template(where, pool), force=False, dry_run=dry_run)
            body = buffers.capacity_buffer(where, number)
        body["metadata"]["annotations"] = {buffers.SETTINGS: buffers.digest(where, pool, kind)}
        return body

    def _put(self, path: str, body: Object, *, force: bool, dry_run: bool) -> None:
        self._api.apply(path, body, force=str(force).lower(), **writing(dry_run=dry_run))

    # ---------------------------------------------------------------- looking

    def _troubles(self) -> Iterator[str]:
        """Yield what keeps minimums from following the plan."""
        for entry in self.serving.values():
            kind = self._kind_of(entry)
            engine = ENGINES[kind]
            if not self._serves(engine):
                yield f"{entry}: the cluster does not serve {engine.kind} of {engine.version}: install what does"
                continue
            has = self._look_at(entry)
            if has.missing or has.owner:
                yield f"{entry}: {has.missing or has.owner}"
                continue
            yield from self._not_allowed(entry, engine)
            item = self._get(engine.path(entry.where))
            if has.ceiling is not None and has.ceiling < (entry.most or 0):
                yield f"{entry}.most: {entry.most} is more than its own maximum of {has.ceiling}: raise that"
            if kind == "kserve" and item is not None:
                yield from self._not_carried_on(entry, has)
            if kind == "capacity_buffer" and item is not None and not item.get("status"):
                remedy = "turn CapacityBuffers on there (Karpenter's gate CapacityBuffer), or say kind: placeholders"
                yield f"{entry}: no autoscaler has taken its CapacityBuffer up: {remedy}"
        yield from self._left_over()

    def _not_allowed(self, entry: Serving, engine: Engine) -> Iterator[str]:
        """Yield the rights to write that are missing."""
        group = engine.version.partition("/")[0]
        for verb in ("create", "patch") if engine.ours else ("patch",):
            if not may(self._api, entry.where.namespace, group, engine.plural, verb):
                yield f"{entry}: the right to {verb} {engine.plural}.{group} is missing: {_RIGHTS}"

    def _not_carried_on(self, entry: Serving, has: Replicas) -> Iterator[str]:
        """Yield that KServe has not given its minimum on to the autoscaler that it made (kserve#6001)."""
        where, hpa = entry.where, ENGINES["hpa"]
        made = self._get(f"{hpa.api}/namespaces/{where.namespace}/{hpa.plural}/{where.name}-predictor")
        if made is not None and hpa.minimum_of(made) != max(has.minimum or 0, 1):
            said = f"KServe has not given its minimum of {has.minimum} on to {where.name}-predictor"
            yield f"{entry}: {said}, which has {hpa.minimum_of(made)}: look at KServe's controller (kserve#6001)"

    def _left_over(self) -> Iterator[str]:
        """Yield placeholders that no entry asks for any more."""
        mine = [entry.where for entry in self.serving.values() if isinstance(entry.where, Buffer)]
        engine = ENGINES["placeholders"]
        for namespace in sorted({where.namespace for where in mine}):
            path = f"{engine.api}/namespaces/{namespace}/{engine.plural}"
            try:
                found = [one["metadata"]["name"] for one in self._api.items(path, labelSelector=PLACEHOLDER)]
            except ForbiddenError as error:
                yield f"{error}: {_RIGHTS}"
                continue
            for name in found:
                if (namespace, name) not in {(where.namespace, where.name) for where in mine}:
                    yield f"Deployment {namespace}/{name} keeps nodes free that no entry asks for: delete it"


def _owned(entry: Serving, engine: Engine, item: Object) -> str:
    """Return that somebody else owns what would be written, with the remedy; empty where nobody does."""
    owner, field = engine.owner_of(item), engine.field
    if isinstance(entry.where, Keda) and entry.where.hold and pauser_of(item) not in ("", EXECUTOR):
        owner, field = pauser_of(item), PAUSED
    said = f"{field} of {entry.key} belongs to {owner}"
    return owner and f"{said}: leave it out of what {owner} applies, or say `take_over: true`"
