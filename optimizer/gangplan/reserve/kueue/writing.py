"""Writes Workloads and records; each write is guarded by the version of the Workload that it was decided on."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any

from gangplan.clock import to_us
from gangplan.errors import ConflictError, NotFoundError
from gangplan.kube import ATTEMPT, END, LEASE, Api, Claim, Object, claim_from
from gangplan.reserve.kueue import objects
from gangplan.reserve.kueue.objects import Records
from gangplan.types import Token


class Pen:
    """Writes Workloads of one namespace by server-side apply with our own field manager."""

    def __init__(self, api: Api, namespace: str) -> None:
        self._api = api
        self.namespace = namespace
        self.records = Records(api, namespace)

    def create(self, body: Object) -> Claim | None:
        """Create a Workload; None when there is one of that name."""
        try:
            return claim_from(self._api.create(objects.workloads(self.namespace), body))
        except ConflictError:
            return None

    def end(self, claim: Claim, reason: str, now: datetime) -> Claim:
        """End a reservation as it was last seen; raise ConflictError where it was written meanwhile.

        A released Workload is deleted at once. Every other end is first marked on the Workload, and so is the end of
        one that a Job has adopted: Kueue then stops the Job, and counts its quota until its pods are gone.
        """
        end = f"{reason}:{to_us(now)}"
        if reason != objects.RELEASED or claim.owner:
            return self.finish(self._marked(claim, end))
        over = replace(claim, end=end)
        self.records.add(over)
        return over if self.delete(claim) else self.records.of(claim.name) or over

    def finish(self, marked: Claim) -> Claim:
        """Record the end of a reservation whose Workload is marked, then delete that, unless a Job has adopted it."""
        self.records.add(marked)
        left: Claim | None = marked
        while left is not None and left.uid == marked.uid and not left.owner:
            try:
                self.delete(left)
                break
            except ConflictError:
                left = self.there(marked.name)
                if left is not None and left.owner:
                    self._marked(left, marked.end)
        return marked

    def _marked(self, claim: Claim, end: str) -> Claim:
        """Mark a Workload as ended; one that a Job has is deactivated, so that Kueue stops the Job."""
        return self._apply(claim, notes={END: end}, **({"active": False} if claim.owner else {}))

    def delete(self, claim: Claim) -> bool:
        """Delete a Workload as it was last seen; tell whether it was there."""
        return self._deleted(claim, uid=claim.uid, resourceVersion=claim.version)  # a Job may have adopted it meanwhile

    def forget(self, claim: Claim) -> None:
        """Delete the Workload of what is over, whatever became of it."""
        with suppress(ConflictError):  # it is another one by now
            self._deleted(claim, uid=claim.uid)

    def _deleted(self, claim: Claim, **exactly: str) -> bool:
        try:
            self._api.delete(self._path(claim.name), preconditions=exactly)
        except NotFoundError:
            return False
        return True

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
        """Let the lease of this grant end at a moment; Kueue itself ends it then, if no process of ours does."""
        return self._apply(self._limited(claim, end), notes={LEASE: f"{token}:{end}"})

    def _limited(self, claim: Claim, end: int) -> Claim:
        """Let so much of the time limit, which cannot be changed, count as spent that it is over when the lease ends.

        Of what a Job has adopted nothing counts as spent: Kueue would add to it what the Job ran before an eviction.
        """
        spent = 0 if claim.owner else objects.spent_by(claim, end)
        if spent == claim.spent_s:
            return claim
        body = {
            "metadata": {"resourceVersion": claim.version},
            "status": {"accumulatedPastExecutionTimeSeconds": spent or None},
        }
        return claim_from(self._api.merge(f"{self._path(claim.name)}/status", body))

    def take_over(self, claim: Claim, attempt: str, now: datetime, end: int | None) -> Claim:
        """Let another attempt have a reservation: a grant gets a new token, and with `end` it keeps its lease."""
        takeovers = claim.takeovers + 1 if claim.grant else 0
        taken = replace(claim, asked=f"{claim.grant} {takeovers} {to_us(now)} {attempt}")
        lease = claim.lease if end is None else f"{taken.token}:{end}"
        return self._apply(claim, notes={ATTEMPT: taken.asked, LEASE: lease})

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
        kept = [mark for mark in item["status"]["conditions"] if mark["type"] not in (*lost, "PodsReady")]
        message = "gangplan: the eviction is complete, the gang waits again"
        new = [_condition(kind, False, reason, message, now) for kind, reason in lost.items()]
        body = {
            "metadata": {"resourceVersion": claim.version},
            "status": {
                "admission": None,
                "conditions": [*kept, *new],
                "accumulatedPastExecutionTimeSeconds": None,  # the next grant has its whole time
            },
        }
        return claim_from(self._api.merge(f"{self._path(claim.name)}/status", body))

    def _path(self, name: str) -> str:
        return f"{objects.workloads(self.namespace)}/{name}"

    def _apply(self, claim: Claim, *, notes: dict[str, str] | None = None, **spec: Any) -> Claim:
        """Write what is ours: all of it each time, as what an apply leaves out is taken away."""
        held = {LEASE: claim.lease, END: claim.end, ATTEMPT: claim.asked} | (notes or {})
        body = self._body(claim)
        body["metadata"]["annotations"] = {name: value for name, value in held.items() if value}
        body["spec"] = ({"queueName": claim.queue} if claim.queue else {}) | spec
        return claim_from(self._api.apply(self._path(claim.name), body))

    def _body(self, claim: Claim) -> dict[str, Any]:
        """Return what names the Workload and the version that the write stands on."""
        named = {"name": claim.name, "namespace": claim.namespace, "uid": claim.uid, "resourceVersion": claim.version}
        return {"apiVersion": objects.VERSION, "kind": "Workload", "metadata": named}


def _condition(kind: str, holds: bool, reason: str, message: str, now: datetime) -> Object:
    return {
        "type": kind,
        "status": "True" if holds else "False",
        "reason": reason,
        "message": message,
        "lastTransitionTime": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
