"""One round of answers: the requests are read, decided on together, and those with something new are written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from gangplan.errors import ConflictError, NotFoundError
from gangplan.execute.requests.answers import answers
from gangplan.execute.requests.objects import CLASS, MANAGED, PATH, TEMPLATES, request_path
from gangplan.execute.requests.values import Answer, NodeRequest, PodsAsked, Said
from gangplan.kube import (
    KUEUE,
    POOL_LABELS,
    Api,
    Claim,
    Object,
    accelerator_of,
    accelerators_in,
    claim_from,
    gpus_of,
    requests_of,
)
from gangplan.types import Fleet, Grant, Observation, Plan

ACCEPTED, PROVISIONED, FAILED = "Accepted", "Provisioned", "Failed"
_MOST_WORDS = 1000  # a condition's message may have 32,768 characters, Kueue's own copy of it fewer


def answer_all(
    api: Api,
    plan: Plan,
    observed: Observation,
    grants: Iterable[Grant],
    now: datetime,
    *,
    fail_after: timedelta | None = None,
) -> tuple[Answer, ...]:
    """Answer all requests of our class once, and return the answers; what stands there already is not written again.

    A request that somebody else changed meanwhile is left for the next round. `observed` and `grants` must be from
    before this call.
    """
    requests = read_requests(api, plan.fleet)
    given = answers(requests, plan, observed, grants, now, fail_after=fail_after)
    for answer in given:
        if answer.new:
            with suppress(ConflictError, NotFoundError):
                write(api, answer, now)
    return given


def read_requests(api: Api, fleet: Fleet) -> tuple[NodeRequest, ...]:
    """Return the requests of our class whose Workloads are not over; none where the cluster knows no such requests."""
    try:
        items = [item for item in api.items(PATH) if item["spec"].get("provisioningClassName") == CLASS]
    except NotFoundError:
        return ()
    if not items:
        return ()
    templates = {_key(item): item["template"] for item in api.items(TEMPLATES, labelSelector=MANAGED)}
    claims = {claim.key: claim for claim in map(claim_from, api.items(f"{KUEUE}/workloads"))}
    return tuple(request for item in items for request in _request(item, templates, claims, fleet))


def _key(item: Object) -> str:
    return f"{item['metadata'].get('namespace', '')}/{item['metadata']['name']}"


def _request(
    item: Object, templates: Mapping[str, Object], claims: Mapping[str, Claim], fleet: Fleet
) -> Iterator[NodeRequest]:
    """Yield the request; nothing where its Workload is over, or a template of its pods is not there yet."""
    meta = item["metadata"]
    asked = item["spec"]["podSets"]
    names = [f"{meta['namespace']}/{one['podTemplateRef']['name']}" for one in asked]
    owner = next((one["name"] for one in meta.get("ownerReferences", ()) if one["kind"] == "Workload"), "")
    claim = claims.get(f"{meta['namespace']}/{owner}")
    if claim is None or claim.finished or not templates.keys() >= set(names):
        return
    said, message = _said(item)
    yield NodeRequest(
        namespace=meta["namespace"],
        name=meta["name"],
        version=meta["resourceVersion"],
        workload=owner,
        created=datetime.fromisoformat(meta["creationTimestamp"]),
        pods=tuple(_pods(one["count"], templates[name], fleet) for one, name in zip(asked, names, strict=True)),
        priority=claim.priority,
        reserved=claim.reserved,
        admitted=claim.admitted is not None,
        limit=timedelta(seconds=claim.limit_s) if claim.limit_s else None,
        can_fail=bool(claim.owner or claim.request),
        said=said,
        message=message,
    )


def _pods(count: int, template: Object, fleet: Fleet) -> PodsAsked:
    slots = gpus_of(template)
    return PodsAsked(pods=count, slots=slots, pool=_pool(template["spec"], fleet) if slots else "")


def _pool(spec: Object, fleet: Fleet) -> str:
    """Return the pool that a pod's selector names, or the only one with the accelerator that it names; empty: none.

    The selector is that of the flavor, as Kueue has chosen it.
    """
    selector: dict[str, str] = spec.get("nodeSelector") or {}
    named = next((selector[label] for label in POOL_LABELS if selector.get(label)), "")
    accelerators = {accelerator_of(selector, name) for name in accelerators_in(requests_of(spec))}
    alike = [pool.name for pool in fleet.pools if pool.accelerator in accelerators]
    return named or (alike[0] if len(alike) == 1 else "")


def _said(item: Object) -> tuple[Said | None, str]:
    """Return our last answer."""
    marks = {one["type"]: one for one in item.get("status", {}).get("conditions", ())}
    if marks.get(FAILED, {}).get("status") == "True":
        return Said.FAILED, marks[FAILED].get("message", "")
    mark = marks.get(PROVISIONED)
    if mark is None:
        return None, ""
    if mark["status"] == "True":
        return Said.THERE, mark.get("message", "")
    return next((said for said in Said if said == mark.get("reason")), None), mark.get("message", "")


def write(api: Api, answer: Answer, now: datetime) -> None:
    """Write an answer where nobody has changed the request since it was read.

    Raises
    ------
    ConflictError
        Somebody has: it must be read again.
    NotFoundError
        It is gone.
    """
    request = answer.request
    path = request_path(request.namespace, request.name)
    if answer.said == Said.STALE:
        api.delete(path, preconditions={"resourceVersion": request.version})
        return
    there, failed = answer.said == Said.THERE, answer.said == Said.FAILED
    marks = {ACCEPTED: True, PROVISIONED: there, **({FAILED: True} if failed else {})}
    conditions = [_condition(kind, holds, answer, now) for kind, holds in marks.items()]
    api.merge(
        f"{path}/status", {"metadata": {"resourceVersion": request.version}, "status": {"conditions": conditions}}
    )


def _condition(kind: str, holds: bool, answer: Answer, now: datetime) -> Object:
    return {
        "type": kind,
        "status": str(holds),
        "reason": answer.said.value,
        "message": answer.message[:_MOST_WORDS],
        "lastTransitionTime": f"{now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
    }
