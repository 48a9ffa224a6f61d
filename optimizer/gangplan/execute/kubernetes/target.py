"""One cluster as a target of plans: observed, and changed one step at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Self, TypeVar

from gangplan.clock import Clock
from gangplan.config import load_settings
from gangplan.errors import ConflictError, InputError, RejectedError
from gangplan.execute.kubernetes import karpenter
from gangplan.execute.kubernetes.checks import problems
from gangplan.execute.kubernetes.copies import Heard, nothing_heard
from gangplan.execute.kubernetes.cordons import cordon, require_free, uncordon
from gangplan.execute.kubernetes.grants import grants_in
from gangplan.execute.kubernetes.own_writes import OwnWrites
from gangplan.execute.kubernetes.quota_steps import cell_now, write_quota
from gangplan.execute.kubernetes.quotas import Quotas
from gangplan.execute.kubernetes.scaling import Scaled
from gangplan.execute.kubernetes.seen import NODEPOOL, SeenNode, seen_node
from gangplan.execute.kubernetes.settings import KarpenterNodes, KueueQuota, NodeSettings, ScaledNodes
from gangplan.execute.kubernetes.snapshot import Cluster, Pools, Reading
from gangplan.execute.pool_state import is_open
from gangplan.kube import NODES, POOL_LABELS, Api, connect
from gangplan.types import QUOTA_STEPS, Fleet, Observation, PoolNode, PoolNodes, Step, StepKind

_log = logging.getLogger(__name__)
T = TypeVar("T")
_CORDONS = (StepKind.CORDON, StepKind.UNCORDON)
_CATCH_UP_S, _LOOK_S = 5.0, 0.02


def open_cluster(
    nodes: Mapping[str, NodeSettings],
    quotas: Mapping[str, KueueQuota],
    fleet: Fleet,
    *,
    context: str = "",
    api: Api | None = None,
    watched: bool = False,
    heard: Heard = nothing_heard,
    clock: Clock | None = None,
) -> ClusterTarget:
    """Open a cluster, by the context of a kubeconfig, as a target.

    Parameters
    ----------
    nodes, quotas
        By pool: who makes its nodes, and which quota lets it be used. A pool may be in one of them alone.
    watched
        Keep copies by watches, for a process that stays. Otherwise each observation lists everything anew.
    heard
        Called at each change that a watch has told.
    """
    pools = Pools(nodes=nodes, quotas=quotas, fleet=fleet)
    clock = clock or load_settings().clock
    return ClusterTarget(api or connect(context), pools, watched=watched, heard=heard, clock=clock)


class ClusterTarget:
    """The pools of one cluster."""

    name = "cluster"
    kinds = frozenset({StepKind.PROTECT, *QUOTA_STEPS, *_CORDONS, StepKind.ORDER, StepKind.REMOVE})

    def __init__(self, api: Api, pools: Pools, *, watched: bool, heard: Heard = nothing_heard, clock: Clock) -> None:
        self.api, self.pools, self._clock = api, pools, clock
        self._cluster = Cluster(api, watched=watched, karpenter=bool(pools.by_nodepool), heard=heard)
        try:
            self._require_served()
        except InputError:
            self._cluster.close()
            raise
        self._scaled = {name: Scaled(api, each) for name, each in pools.nodes.items() if isinstance(each, ScaledNodes)}
        self._watched = watched
        self._read: tuple[Reading, Quotas] | None = None
        self._own = OwnWrites()
        self._sound = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """End the watches."""
        self._cluster.close()

    def observe(self) -> Observation:
        """Return what the cluster has now: the pools' nodes, their quotas, and all that holds slots of them.

        Raises InputError for what targets.yaml names and is not there. Once all was there, a pool that loses its queue
        or its NodePool is left out and named, and the others go on.
        """
        reading, quotas = self._look(anew=True)
        trouble = _trouble(reading)
        found = self._each(self.pools.quotas, quotas.as_values, trouble)
        unprotected = _unprotected(reading)
        nodes = self._each(self.pools.nodes, partial(self._nodes, reading, unprotected, trouble), trouble)
        self._sound = True
        return Observation(
            nodes=tuple(nodes), quotas=tuple(quota for each in found for quota in each), grants=grants_in(reading)
        )

    def apply(self, step: Step, *, dry_run: bool = False) -> None:
        """Take one step, or with `dry_run` let the API server and its webhooks check it."""
        if step.kind in QUOTA_STEPS:
            self._quota(step, dry_run=dry_run)
            return
        settings = self._settings(step)
        if step.kind not in self.kinds:
            raise RejectedError(f"pool {step.pool}: a cluster takes no step to {step.kind}")
        if step.kind is StepKind.PROTECT:
            karpenter.protect(self.api, step.nodes, dry_run=dry_run)
        elif step.kind in _CORDONS:
            self._cordon(step, dry_run=dry_run)
        elif isinstance(settings, KarpenterNodes):
            self._karpenter(settings.nodepool, step, dry_run=dry_run)
        elif step.pool in self._scaled:
            self._scale(step, dry_run=dry_run)
        else:
            raise RejectedError(f"pool {step.pool}: its nodes are fixed in targets.yaml: nobody orders or removes them")

    def check(self) -> tuple[str, ...]:
        """Return what would keep plans from being carried out here, each with its remedy."""
        kueue = self._cluster.kueue
        return problems(self.api, self.pools, self._scaled, kueue=kueue, read=lambda: self._look(anew=True)[0])

    def machines(self, pool: str) -> dict[str, PoolNode]:
        """Return a pool's nodes, as they were last observed, by what their cloud calls them (spec.providerID)."""
        reading, _ = self._look()
        return {node.machine: _pool_node(reading, pool, node) for node in reading.members[pool] if node.machine}

    # ---------------------------------------------------------------- observing

    def _require_served(self) -> None:
        if self.pools.quotas and not self._cluster.kueue:
            raise InputError(
                "quota.kind", "kueue", f"is not served by the {self.api.shown}: install Kueue 0.16 or newer"
            )
        if self.pools.by_nodepool and not self._cluster.karpenter:
            raise InputError("nodes.kind", "karpenter", f"is not served by the {self.api.shown}: install Karpenter")

    def _look(self, *, anew: bool = False) -> tuple[Reading, Quotas]:
        """Return what was observed last, or look again."""
        if self._read is None or anew:
            reading = Reading(pools=self.pools, snapshot=self._cluster.now())
            self._read = reading, Quotas(reading)
            self._own.looked()
        return self._read

    def _settings(self, step: Step) -> NodeSettings:
        if step.pool not in self.pools.nodes:
            raise InputError.unknown("pool", step.pool, "no pool of this cluster", sorted(self.pools.nodes))
        return self.pools.nodes[step.pool]

    def _each(self, pools: Iterable[str], read: Callable[[str], T], trouble: dict[str, str]) -> list[T]:
        """Read each pool; what is wrong with one that was sound before is its trouble, and not the others'."""
        found: list[T] = []
        for pool in pools:
            try:
                found.append(read(pool))
            except InputError as error:
                if not self._sound:
                    raise
                trouble[pool] = str(error)
                _log.warning("%s", error)
        return found

    def _nodes(
        self, reading: Reading, unprotected: Mapping[str, list[str]], trouble: Mapping[str, str], pool: str
    ) -> PoolNodes:
        """Return the nodes of a pool."""
        settings = self.pools.nodes[pool]
        nodes = tuple(_pool_node(reading, pool, node) for node in reading.members[pool])
        ordered, irrevocable = len(nodes), ""
        if isinstance(settings, KarpenterNodes):
            found = reading.snapshot.nodepools.get(settings.nodepool)
            if found is None or found.replicas is None:
                remedy = "is no static NodePool of the cluster: make one with spec.replicas"
                raise InputError(f"pools[{pool}].nodes.nodepool", settings.nodepool, remedy)
            ordered = found.replicas
        elif pool in self._scaled:
            scaled = self._scaled[pool]
            ordered, nodes = scaled.ordered(), nodes or scaled.nodes()
            irrevocable = scaled.irrevocable(nodes)
        return PoolNodes(
            pool=pool,
            ordered=ordered,
            nodes=nodes,
            unprotected=tuple(unprotected.get(pool, ())),
            trouble=trouble.get(pool, ""),
            irrevocable=irrevocable,
        )

    # ---------------------------------------------------------------- steps

    def _quota(self, step: Step, *, dry_run: bool) -> None:
        if step.pool not in self.pools.quotas:
            raise InputError.unknown("pool", step.pool, "no pool with a quota here", sorted(self.pools.quotas))
        take_over = self.pools.quotas[step.pool].take_over
        quotas = self._look()[1]
        if step.kind is StepKind.RAISE_QUOTA:
            self._require_unmoved(step.pool, but=step.place)
        write_quota(self.api, quotas, step, self._own, take_over=take_over, dry_run=dry_run)
        found = next(each for each in quotas.of(step.pool) if each.place.shown == step.place)
        if not dry_run:
            self._until(lambda: self._cluster.place(found.place).cells[found.key].slots == self._own.slots(found))

    def _cordon(self, step: Step, *, dry_run: bool) -> None:
        now = self._clock()
        if step.pool in self._scaled and not self._has_nodes(step):
            at = now.isoformat() if step.kind is StepKind.CORDON else None
            self._scaled[step.pool].mark(step.nodes, at, dry_run=dry_run)
            return
        closes = step.kind is StepKind.CORDON
        if closes:
            self._require_unmoved(step.pool)
        for node in step.nodes:
            if closes:
                cordon(self.api, node, now, dry_run=dry_run)
            else:
                uncordon(self.api, node, dry_run=dry_run)
        if not dry_run:
            self._until(lambda: all(self._is_closed(node) in (closes, None) for node in step.nodes))

    def _require_unmoved(self, pool: str, *, but: str = "") -> None:
        """Raise ConflictError where other nodes of a pool are open, or other quotas hold, than were observed.

        A copy may be some moments old, and these two steps are right by just these two. The quota of the place `but` is
        compared when it is written.
        """
        if self._own.is_compared(pool):
            return
        reading, quotas = self._look()
        labels: Mapping[str, str] = reading.labels[pool] if pool in self.pools.nodes else {}
        label = next((name for name in (NODEPOOL, *POOL_LABELS) if name in labels), "")
        query = {"labelSelector": f"{label}={labels[label]}"} if label else {}
        there = {node.name: node for item in self.api.items(NODES, **query) if (node := seen_node(item)) is not None}
        members = {node.name: node for node in reading.members[pool]} if pool in self.pools.nodes else {}
        before = {name for name, node in members.items() if is_open(_pool_node(reading, pool, node))}
        now = {name for name in members.keys() & there.keys() if is_open(_pool_node(reading, pool, there[name]))}
        if before != now:
            raise ConflictError(f"pool {pool}: nodes were opened, closed or lost since it was looked at")
        others = [each for each in quotas.of(pool) if each.place.shown != but] if pool in self.pools.quotas else []
        for each in others:
            cell = cell_now(self.api, each)
            if cell is None or cell.slots != self._own.slots(each):
                raise ConflictError(f"{each.place.shown}: its quota was changed since it was looked at")
        self._own.compared(pool)

    def _is_closed(self, node: str) -> bool | None:
        """Return whether we have closed a node, as far as the copy knows; None where it is gone."""
        found = self._cluster.nodes().get(node)
        return None if found is None else found.cordoned_at is not None

    def _until(self, seen: Callable[[], bool]) -> None:
        """Wait until a watch has told of what was just written, so that the next look is no older; not for ever."""
        deadline = time.monotonic() + _CATCH_UP_S
        while self._watched and not seen() and time.monotonic() < deadline:
            time.sleep(_LOOK_S)

    def _karpenter(self, nodepool: str, step: Step, *, dry_run: bool) -> None:
        """Order by what was observed, which the call itself compares; remove by what is there now."""
        seen = self._look()[0].snapshot.nodepools.get(nodepool)
        if step.kind is StepKind.ORDER and seen is not None and seen.replicas is not None and not seen.held:
            karpenter.order(self.api, seen, step, dry_run=dry_run)
            return
        now = karpenter.static_nodepool(self.api, nodepool)
        if step.kind is StepKind.ORDER:
            karpenter.order(self.api, now, step, dry_run=dry_run)
            return
        claims = [each for each in self._look()[0].snapshot.claims.values() if each.nodepool == nodepool]
        karpenter.remove(self.api, now, claims, step, dry_run=dry_run)

    def _scale(self, step: Step, *, dry_run: bool) -> None:
        scaled = self._scaled[step.pool]
        if step.kind is StepKind.ORDER:
            scaled.order(step, dry_run=dry_run)
            return
        if self._has_nodes(step):
            for node in step.nodes:
                require_free(self.api, node)
        scaled.remove(step, dry_run=dry_run)

    def _has_nodes(self, step: Step) -> bool:
        """Whether the pool's nodes are nodes of the cluster, and not pods."""
        return bool(self._look()[0].members[step.pool])


def _pool_node(reading: Reading, pool: str, node: SeenNode) -> PoolNode:
    """Return a node as its pool has it: usable when it is Ready with all its slots, and Karpenter is done with it."""
    need = reading.pools.fleet.pool(pool).slots_per_node
    return PoolNode(
        name=node.name,
        usable=node.ready and not node.new and reading.slots_of(node) >= need,
        cordoned_at=node.cordoned_at,
        closed=node.unschedulable and node.cordoned_at is None,
        leaving=node.leaving,
    )


def _unprotected(reading: Reading) -> dict[str, list[str]]:
    """Return the pods by pool that Karpenter may disturb."""
    karpenters = frozenset(reading.pools.by_nodepool.values())
    found: dict[str, list[str]] = {}
    for name, pod in reading.snapshot.pods.items():
        pool = "" if pod.protected else reading.pool_of_node.get(pod.node, "")
        if pool in karpenters:
            found.setdefault(pool, []).append(name)
    return found


def _trouble(reading: Reading) -> dict[str, str]:
    """Return why nodes of Karpenter's pools do not come, in its words."""
    pools, snapshot = reading.pools.by_nodepool, reading.snapshot
    words = [(claim.nodepool, claim.trouble) for claim in snapshot.claims.values()]
    words += [(pool.name, pool.trouble) for pool in snapshot.nodepools.values()]
    return {pools[nodepool]: said for nodepool, said in words if said and nodepool in pools}
