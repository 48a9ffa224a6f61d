"""One cluster as a target of plans: observed, and changed one step at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Self

from gangplan.clock import Clock
from gangplan.config import load_settings
from gangplan.errors import InputError, RejectedError
from gangplan.execute.kubernetes import karpenter
from gangplan.execute.kubernetes.checks import problems
from gangplan.execute.kubernetes.cordons import cordon, require_free, uncordon
from gangplan.execute.kubernetes.grants import grants_in
from gangplan.execute.kubernetes.quota_steps import write_quota
from gangplan.execute.kubernetes.quotas import Quotas
from gangplan.execute.kubernetes.scaling import Scaled
from gangplan.execute.kubernetes.seen import SeenNode
from gangplan.execute.kubernetes.settings import KarpenterNodes, KueueQuota, NodeSettings, ScaledNodes
from gangplan.execute.kubernetes.snapshot import Cluster, Pools, Reading
from gangplan.kube import Api, connect
from gangplan.types import QUOTA_STEPS, Fleet, Observation, PoolNode, PoolNodes, Step, StepKind


def open_cluster(
    nodes: Mapping[str, NodeSettings],
    quotas: Mapping[str, KueueQuota],
    fleet: Fleet,
    *,
    context: str = "",
    api: Api | None = None,
    watched: bool = False,
    clock: Clock | None = None,
) -> ClusterTarget:
    """Open a cluster, by the context of a kubeconfig, as a target.

    Parameters
    ----------
    nodes, quotas
        By pool: who makes its nodes, and which quota lets it be used. A pool may be in one of them alone.
    watched
        Keep copies by watches, for a process that stays. Otherwise each observation lists everything anew.
    """
    pools = Pools(nodes=nodes, quotas=quotas, fleet=fleet)
    return ClusterTarget(api or connect(context), pools, watched=watched, clock=clock or load_settings().clock)


class ClusterTarget:
    """The pools of one cluster."""

    name = "cluster"
    kinds = frozenset(StepKind) - {StepKind.LAYOUT}

    def __init__(self, api: Api, pools: Pools, *, watched: bool, clock: Clock) -> None:
        self.api, self.pools, self._clock = api, pools, clock
        self._cluster = Cluster(api, watched=watched, karpenter=bool(pools.by_nodepool))
        self._require_served()
        self._scaled = {name: Scaled(api, each) for name, each in pools.nodes.items() if isinstance(each, ScaledNodes)}
        self._read: Reading | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """End the watches."""
        self._cluster.close()

    def observe(self) -> Observation:
        """Return what the cluster has now: the pools' nodes, their quotas, and all that holds slots of them."""
        reading = self._read = Reading(pools=self.pools, snapshot=self._cluster.now())
        return Observation(nodes=tuple(self._nodes(reading)), quotas=Quotas(reading).all(), grants=grants_in(reading))

    def apply(self, step: Step, *, dry_run: bool = False) -> None:
        """Take one step, or with `dry_run` let the API server and its webhooks check it."""
        if step.kind in QUOTA_STEPS:
            self._quota(step, dry_run=dry_run)
            return
        settings = self._settings(step)
        match step.kind:
            case StepKind.PROTECT:
                karpenter.protect(self.api, step.nodes, dry_run=dry_run)
            case StepKind.CORDON | StepKind.UNCORDON:
                self._cordon(step, dry_run=dry_run)
            case _ if isinstance(settings, KarpenterNodes):
                change = karpenter.order if step.kind is StepKind.ORDER else karpenter.remove
                change(self.api, settings.nodepool, step, dry_run=dry_run)
            case _ if step.pool in self._scaled:
                self._scale(step, dry_run=dry_run)
            case _:
                raise RejectedError(
                    f"pool {step.pool}: its nodes are fixed in targets.yaml: nobody orders or removes them"
                )

    def check(self) -> tuple[str, ...]:
        """Return what would keep plans from being carried out here, each with its remedy."""
        return problems(self.api, self._reading(anew=True), self._scaled)

    # ---------------------------------------------------------------- observing

    def _require_served(self) -> None:
        if self.pools.quotas and not self._cluster.kueue:
            raise InputError(
                "quota.kind", "kueue", f"is not served by the {self.api.shown}: install Kueue 0.16 or newer"
            )
        if self.pools.by_nodepool and not self._cluster.karpenter:
            raise InputError("nodes.kind", "karpenter", f"is not served by the {self.api.shown}: install Karpenter")

    def _reading(self, *, anew: bool = False) -> Reading:
        if self._read is None or anew:
            self._read = Reading(pools=self.pools, snapshot=self._cluster.now())
        return self._read

    def _settings(self, step: Step) -> NodeSettings:
        if step.pool not in self.pools.nodes:
            raise InputError.unknown("pool", step.pool, "no pool of this cluster", sorted(self.pools.nodes))
        return self.pools.nodes[step.pool]

    def _nodes(self, reading: Reading) -> Iterator[PoolNodes]:
        """Yield the nodes of each pool."""
        unprotected = _unprotected(reading)
        trouble = _trouble(reading)
        for pool, settings in self.pools.nodes.items():
            need = self.pools.fleet.pool(pool).slots_per_node
            nodes = tuple(_pool_node(node, need) for node in reading.members[pool])
            ordered = len(nodes)
            if isinstance(settings, KarpenterNodes):
                found = reading.snapshot.nodepools.get(settings.nodepool)
                if found is None or found.replicas is None:
                    remedy = "is no static NodePool of the cluster: make one with spec.replicas"
                    raise InputError(f"pools[{pool}].nodes.nodepool", settings.nodepool, remedy)
                ordered = found.replicas
            elif pool in self._scaled:
                ordered, nodes = self._scaled[pool].ordered(), nodes or self._scaled[pool].nodes()
            yield PoolNodes(
                pool=pool,
                ordered=ordered,
                nodes=nodes,
                unprotected=tuple(unprotected.get(pool, ())),
                trouble=trouble.get(pool, ""),
            )

    # ---------------------------------------------------------------- steps

    def _quota(self, step: Step, *, dry_run: bool) -> None:
        if step.pool not in self.pools.quotas:
            raise InputError.unknown("pool", step.pool, "no pool with a quota here", sorted(self.pools.quotas))
        take_over = self.pools.quotas[step.pool].take_over
        write_quota(self.api, Quotas(self._reading()), step, take_over=take_over, dry_run=dry_run)

    def _cordon(self, step: Step, *, dry_run: bool) -> None:
        now = self._clock()
        if step.pool in self._scaled and not self._has_nodes(step):
            at = now.isoformat() if step.kind is StepKind.CORDON else None
            self._scaled[step.pool].mark(step.nodes, at, dry_run=dry_run)
            return
        for node in step.nodes:
            if step.kind is StepKind.CORDON:
                cordon(self.api, node, now, dry_run=dry_run)
            else:
                uncordon(self.api, node, dry_run=dry_run)

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
        return bool(self._reading().members[step.pool])


def _pool_node(node: SeenNode, slots: int) -> PoolNode:
    """Return a node as its pool has it: usable when it is Ready with all its slots, and Karpenter is done with it."""
    return PoolNode(
        name=node.name,
        usable=node.ready and not node.new and node.slots >= slots,
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
