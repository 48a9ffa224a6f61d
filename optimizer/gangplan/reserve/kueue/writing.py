"""What we write: Workloads, each write guarded by the version that it was decided on, and how they ended."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any

from gangplan.errors import NotFoundError
from gangplan.kube.api import NAMES_ONLY, Api, ConflictError, Object
from gangplan.reserve.kueue import names
from gangplan.reserve.kueue.claim import Claim, claim_from
from gangplan.reserve.kueue.record import claim_of, record_of
from gangplan.reserve.moments import to_us
from gangplan.types import Token


class Pen:
    """Writes Workloads of one namespace by server-side apply with our own field manager."""

    def __init__(self, api: Api, namespace: str) -> None:
        self._api = api
        self._namespace = namespace

    def create(self, body: Object) -> Claim | None:
        """Create a Workload; None when there is one of that name."""
        try:
            return claim_from(self._api.create(names.workloads(self._namespace), body))
        except ConflictError:
            return None

    def end(self, claim: Claim, reason: str, message: str, now: datetime) -> Claim:
        """End a reservation: record it, then give its quota back; where it had ended already, return how."""
        over = replace(claim, end=f"{reason}:{to_us(now)}")
        try:
            self._api.create(names.records(self._namespace), record_of(over, message))
        except ConflictError:
            over = self.ended(claim.name) or over
        self.drop(claim, over.end)
        return over

    def ended(self, name: str) -> Claim | None:
        """Return a reservation that is over by its record; None where there is none."""
        try:
            return claim_of(self._api.get(f"{names.records(self._namespace)}/{names.RECORD}{name}"))
        except NotFoundError:
            return None

    def ended_names(self, queue: str) -> set[str]:
        """Return the ids of all reservations of a queue that have a record."""
        selector = f"{names.MANAGED}=gangplan,{names.QUEUE}={queue}"
        every = self._api.items(names.records(self._namespace), accept=NAMES_ONLY, labelSelector=selector)
        return {str(one["metadata"]["name"]).removeprefix(names.RECORD) for one in every}

    def drop(self, claim: Claim, end: str) -> None:
        """Delete the Workload of what is over; one that a Job has adopted is stopped by Kueue instead.

        A Job whose Workload goes would run on without quota. So that one is deactivated: Kueue suspends the Job, and
        counts the quota until its pods are gone. It is never made active again.
        """
        while not self._dropped(claim, end):
            now = self.there(claim.name)
            if now is None or now.uid != claim.uid:
                return
            claim = now

    def _dropped(self, claim: Claim, end: str) -> bool:
        """Tell whether a Workload went, or was deactivated, as it was last seen."""
        with suppress(ConflictError, NotFoundError):
            if not claim.owner:
                self._api.delete(self._path(claim.name), preconditions=_exactly(claim))
            elif not claim.end:
                self._apply(claim, notes={names.END: end}, active=False)
            return True
        return False

    def there(self, name: str) -> Claim | None:
        """Read a Workload as it stands now; None where there is none."""
        try:
            return claim_from(self._api.get(self._path(name)))
        except NotFoundError:
            return None

    def ready(self, claim: Claim, now: datetime) -> Claim:
        """Say that its pods are ready: where Kueue waits for that, it evicts a reservation that never says so."""
        mark = _condition("PodsReady", True, "Reserved", "held by gangplan; pods come by adoption", now)
        body = self._body(claim) | {"status": {"conditions": [mark]}}
        return claim_from(self._api.apply(f"{self._path(claim.name)}/status", body))

    def lease(self, claim: Claim, token: Token, end: int) -> Claim:
        """Let the lease of this grant end at a moment."""
        return self._apply(claim, notes={names.LEASE: f"{token}:{end}"})

    def queue(self, claim: Claim) -> Claim:
        """Queue what waited for its window."""
        return self._apply(claim, queueName=claim.our_queue)

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

    def forget(self, claim: Claim) -> None:
        """Delete what is left of a reservation that is over: its Workload first, so that it cannot come back."""
        for path in (self._path(claim.name), f"{names.records(self._namespace)}/{names.RECORD}{claim.name}"):
            with suppress(NotFoundError):
                self._api.delete(path)

    def _path(self, name: str) -> str:
        return f"{names.workloads(self._namespace)}/{name}"

    def _apply(self, claim: Claim, *, notes: dict[str, str] | None = None, **spec: Any) -> Claim:
        """Write what is ours: all of it each time, as what an apply leaves out is taken away."""
        held = {names.LEASE: claim.lease, names.END: claim.end} | (notes or {})
        body = self._body(claim)
        body["metadata"]["annotations"] = {name: value for name, value in held.items() if value}
        body["spec"] = ({"queueName": claim.queue} if claim.queue else {}) | spec
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
        "message": message,
        "lastTransitionTime": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _exactly(claim: Claim) -> dict[str, str]:
    """Return what a Workload must be to be deleted: a Job may have adopted it meanwhile."""
    return {"uid": claim.uid, "resourceVersion": claim.version}
