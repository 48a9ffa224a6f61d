"""Static NodePools of Karpenter: ordered by their Scale, their nodes removed by name, pods kept from being disturbed.

Karpenter picks the nodes of a smaller NodePool by itself: any that are empty, also one on which a gang lands in this
moment. So it never gets to pick. First `limits.nodes` is held down to the nodes that will stay, so that nothing is
started in place of what goes; then the NodeClaims of our nodes are deleted; when these are gone, replicas fall to those
that are left, and the limit goes back to what it was.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

from gangplan.errors import ConflictError, InputError, NotFoundError, RejectedError, UnavailableError
from gangplan.execute.kubernetes.cordons import require_free
from gangplan.execute.kubernetes.scaling import write_scale
from gangplan.execute.kubernetes.seen import (
    DO_NOT_DISRUPT,
    HELD_LIMIT,
    KARPENTER,
    NODEPOOL,
    SeenNodeClaim,
    SeenNodePool,
    seen_nodeclaim,
    seen_nodepool,
)
from gangplan.kube import Api, Object, writing
from gangplan.types import Step

OBSERVE_S = 15.0
"""Karpenter must have seen a limit after so many seconds."""

GONE_S = 10.0
"""NodeClaims that were deleted are waited for so many seconds."""

_LOOK_S, _LONGEST_LOOK_S = 0.02, 0.5
_THREADS = 16
_NONE = "none"
_NOTE = f"/metadata/annotations/{HELD_LIMIT.replace('~', '~0').replace('/', '~1')}"


def static_nodepool(api: Api, nodepool: str) -> SeenNodePool:
    """Return a NodePool as it is now.

    Raises InputError where there is none, RejectedError where it is not static.
    """
    try:
        pool = seen_nodepool(api.get(_path(nodepool)))
    except NotFoundError:
        raise InputError("nodes.nodepool", nodepool, "is no NodePool of the cluster: check its spelling") from None
    if pool.replicas is None:
        raise RejectedError(f"NodePool {nodepool}: is not static: make one with spec.replicas, which cannot be added")
    return pool


def order(api: Api, pool: SeenNodePool, step: Step, *, dry_run: bool) -> None:
    """Order nodes up to the step's `after`.

    Raises RejectedError where the NodePool's limit is lower: Karpenter would stop there in silence.
    """
    path = _path(pool.name)
    if pool.most is not None and step.after > pool.most:
        raise RejectedError(
            f"NodePool {pool.name}: its limits.nodes is {pool.most}, so that {step.after} nodes would never come: "
            f"set it to {step.after + 1}"
        )
    if pool.held and not dry_run:  # by a process that was removing nodes and got no further
        api.patch(path, _restoring(pool), **writing(dry_run=False))
    write_scale(api, path, step, dry_run=dry_run)


def remove(api: Api, pool: SeenNodePool, known: Sequence[SeenNodeClaim], step: Step, *, dry_run: bool) -> None:
    """Remove the step's nodes and no others, and lower the replicas to the step's `after`.

    `known` are the pool's NodeClaims as they were observed; they are read again before any of them is deleted.

    NodeClaims that have no node yet go where nodes are withdrawn that never came. While there are fewer than were
    ordered, one may come at any moment: the limit is held down first, and the NodeClaims are read again.

    Raises
    ------
    ConflictError
        The replicas are not the step's `before`, or more nodes would have to go than the step names.
    UnavailableError
        Karpenter does not look at the NodePool.
    """
    path = _path(pool.name)
    if pool.replicas == step.after:
        return
    if pool.replicas != step.before:
        raise ConflictError(f"pool {step.pool}: {pool.replicas} nodes are ordered, not {step.before}")
    going = _going(pool, known, step)
    for node in step.nodes:
        require_free(api, node)
    if not dry_run and (going or len(known) < step.before):
        pool = _hold(api, path, pool, sum(not claim.leaving for claim in known) - len(going))
        claims = _claims(api, pool.name)
        going = _going(pool, claims, step)
        for claim in going:
            _delete(api, claim)
        _until_gone(api, pool.name, [claim.name for claim in claims if claim.leaving or claim in going])
    _swap(api, path, pool, step, dry_run=dry_run)


def _claims(api: Api, nodepool: str) -> list[SeenNodeClaim]:
    return [
        seen_nodeclaim(item) for item in api.items(f"{KARPENTER}/nodeclaims", labelSelector=f"{NODEPOOL}={nodepool}")
    ]


def _going(pool: SeenNodePool, claims: Sequence[SeenNodeClaim], step: Step) -> list[SeenNodeClaim]:
    """Return the NodeClaims of the step's nodes, and as many that have no node yet as must go beside them.

    Raises ConflictError where more nodes than `after` would stay.
    """
    there = [claim for claim in claims if not claim.leaving]
    named = [claim for claim in there if claim.node in step.nodes]
    surplus = max(0, len(there) - len(named) - step.after)
    going = [*named, *[claim for claim in there if not claim.node][:surplus]]
    staying = len(there) - len(going)
    if staying > step.after:
        raise ConflictError(f"NodePool {pool.name}: {staying} nodes would stay, and Karpenter would pick some of them")
    return going


def protect(api: Api, pods: tuple[str, ...], *, dry_run: bool) -> None:
    """Say on pods that Karpenter may not disturb them; one that is gone needs it no more."""
    with ThreadPoolExecutor(_THREADS) as threads:
        list(threads.map(partial(_protect, api, dry_run=dry_run), pods))


def _protect(api: Api, pod: str, *, dry_run: bool) -> None:
    namespace, _, name = pod.partition("/")
    body: Object = {"metadata": {"annotations": {DO_NOT_DISRUPT: "true"}}}
    with suppress(NotFoundError):
        api.merge(f"/api/v1/namespaces/{namespace}/pods/{name}", body, **writing(dry_run=dry_run))


def _path(nodepool: str) -> str:
    return f"{KARPENTER}/nodepools/{nodepool}"


def _hold(api: Api, path: str, pool: SeenNodePool, nodes: int) -> SeenNodePool:
    """Hold the limit down to so many nodes, and wait until Karpenter knows it."""
    was = pool.held or (_NONE if pool.limit is None else str(pool.limit))
    body: Object = {"metadata": {"annotations": {HELD_LIMIT: was}}, "spec": {"limits": {"nodes": str(nodes)}}}
    api.merge(path, body, **writing(dry_run=False))
    deadline, pause = time.monotonic() + OBSERVE_S, _LOOK_S
    while True:
        found = seen_nodepool(api.get(path))
        if found.observed:
            return found
        if time.monotonic() > deadline:
            raise UnavailableError(
                f"NodePool {pool.name}: Karpenter has not looked at it for {OBSERVE_S:g} s: is it up?"
            )
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_LOOK_S)


def _until_gone(api: Api, nodepool: str, names: Sequence[str]) -> None:
    """Wait until NodeClaims are gone: Karpenter may still count one as running, and would remove another node for it.

    Its counts lag behind what it was told, by seconds where the API server is busy. Raises ConflictError where one
    takes longer, such as for the pods on its node to end: whoever looks again goes on from here.
    """
    deadline, pause = time.monotonic() + GONE_S, _LOOK_S
    for name in names:
        while _is_there(api, name):
            if time.monotonic() > deadline:
                raise ConflictError(
                    f"NodePool {nodepool}: NodeClaim {name} is still leaving: its replicas fall after it"
                )
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_LOOK_S)


def _is_there(api: Api, claim: str) -> bool:
    try:
        api.get(f"{KARPENTER}/nodeclaims/{claim}")
    except NotFoundError:
        return False
    return True


def _restoring(pool: SeenNodePool) -> list[Object]:
    if not pool.held:
        return []
    limit: Object = {"op": "remove", "path": "/spec/limits/nodes"}
    if pool.held != _NONE:
        limit = {"op": "replace", "path": "/spec/limits/nodes", "value": pool.held}
    return [
        {"op": "test", "path": _NOTE, "value": pool.held},
        {"op": "remove", "path": _NOTE},
        limit,
    ]


def _swap(api: Api, path: str, pool: SeenNodePool, step: Step, *, dry_run: bool) -> None:
    """Lower the replicas and give the limit back, both or neither."""
    patch: list[Object] = [
        {"op": "test", "path": "/spec/replicas", "value": step.before},
        {"op": "replace", "path": "/spec/replicas", "value": step.after},
        *_restoring(pool),
    ]
    try:
        api.patch(path, patch, **writing(dry_run=dry_run))
    except RejectedError:
        now = seen_nodepool(api.get(path)).replicas
        if now == step.before:
            raise
        raise ConflictError(f"pool {step.pool}: {now} nodes are ordered, not {step.before}") from None


def _delete(api: Api, claim: SeenNodeClaim) -> None:
    with suppress(NotFoundError):
        api.delete(f"{KARPENTER}/nodeclaims/{claim.name}", preconditions={"uid": claim.uid})
