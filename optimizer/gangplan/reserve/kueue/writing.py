"""What we write into Workloads, each write guarded by the version that it was decided on."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from gangplan.kube.api import Api, ConflictError, Object
from gangplan.reserve.kueue import names
from gangplan.reserve.kueue.claim import Claim, claim_from
from gangplan.reserve.moments import to_us
from gangplan.types import Token

_LONGEST_MESSAGE = 1024


class Pen:
    """Writes Workloads of one namespace by server-side apply with our own field manager."""

    def __init__(self, api: Api, namespace: str) -> None:
        self._api = api
        self._namespace = namespace

    def read(self, name: str) -> Claim:
        """Read a Workload as it stands now."""
        return claim_from(self._api.get(self._path(name)))

    def create(self, body: Object) -> Claim | None:
        """Create a Workload; None when there is one of that name."""
        try:
            return claim_from(self._api.create(names.workloads(self._namespace), body))
        except ConflictError:
            return None

    def end(self, claim: Claim, reason: str, message: str, now: datetime) -> Claim:
        """End a reservation, and so give its quota back; one that a Job has adopted is stopped by Kueue first.

        A finished Workload whose Job runs on would run without quota, so that one is deactivated instead: Kueue
        suspends the Job, and counts the quota until its pods are gone. It is never made active again.
        """
        if claim.owner:
            notes = {names.END: f"{reason}:{to_us(now)}"}
            return self._apply(claim, metadata={"annotations": notes}, spec={"active": False})
        return self._condition(claim, "Finished", reason, message, now)

    def ready(self, claim: Claim, now: datetime) -> Claim:
        """Say that its pods are ready: where Kueue waits for that, it evicts a reservation that never says so."""
        return self._condition(claim, "PodsReady", "Reserved", "held by gangplan; pods come by adoption", now)

    def lease(self, claim: Claim, token: Token, end: int) -> Claim:
        """Let the lease of this grant end at a moment."""
        return self._apply(claim, metadata={"annotations": {names.LEASE: f"{token}:{end}"}})

    def queue(self, claim: Claim) -> Claim:
        """Queue what waited for its window."""
        return self._apply(claim, spec={"queueName": claim.our_queue})

    def requeue(self, claim: Claim, now: datetime) -> Claim:
        """Complete an eviction, so that its quota is free and it waits in the line again.

        The conditions and the admission are Kueue's own, so that this is a merge patch of the whole list, on exactly
        the version that was read.
        """
        item = self._api.get(self._path(claim.name))
        if item["metadata"]["resourceVersion"] != claim.version:
            raise ConflictError(f"{claim.key}: was written meanwhile")
        lost = {"QuotaReserved": "Pending", "Admitted": "NoReservation"}
        kept = [one for one in item["status"]["conditions"] if one["type"] not in (*lost, "PodsReady")]
        message = "gangplan: the eviction is complete, the gang waits again"
        new = [_condition(kind, False, reason, message, now) for kind, reason in lost.items()]
        body = {
            "metadata": {"resourceVersion": claim.version},
            "status": {"admission": None, "conditions": [*kept, *new]},
        }
        return claim_from(self._api.merge(f"{self._path(claim.name)}/status", body))

    def delete(self, claim: Claim) -> None:
        """Delete exactly this Workload."""
        self._api.delete(self._path(claim.name), preconditions={"uid": claim.uid})

    def _path(self, name: str) -> str:
        return f"{names.workloads(self._namespace)}/{name}"

    def _condition(self, claim: Claim, kind: str, reason: str, message: str, now: datetime) -> Claim:
        mark = _condition(kind, True, reason, message, now)
        body = self._body(claim) | {"status": {"conditions": [mark]}}
        return claim_from(self._api.apply(f"{self._path(claim.name)}/status", body))

    def _apply(self, claim: Claim, *, metadata: Object | None = None, spec: Object | None = None) -> Claim:
        body = self._body(claim)
        body["metadata"] |= metadata or {}
        if spec is not None:
            body["spec"] = spec
        return claim_from(self._api.apply(self._path(claim.name), body))

    def _body(self, claim: Claim) -> dict[str, Any]:
        """Return what names the Workload and the version that the write stands on."""
        named = {"name": claim.name, "namespace": claim.namespace, "uid": claim.uid, "resourceVersion": claim.version}
        return {"apiVersion": names.VERSION, "kind": "Workload", "metadata": named}


def _condition(kind: str, holds: bool, reason: str, message: str, now: datetime) -> Object:
    return {
        "type": kind,
        "status": "True" if holds else "False",
        "reason": reason,
        "message": message[:_LONGEST_MESSAGE],
        "lastTransitionTime": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
