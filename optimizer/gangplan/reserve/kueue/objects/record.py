"""Records of how reservations ended: small ConfigMaps, each with all that one process ended within some milliseconds.

A record is written before the end itself, which is that the Workload is deleted or marked as ended. Both writes are
guarded by the version of the Workload that they were decided on: of many who end a reservation at the same time, one
succeeds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from threading import Lock
from typing import Any
from uuid import uuid4

from gangplan.errors import ConflictError
from gangplan.kube import NAMES_ONLY, Api, Claim, Mark, Object
from gangplan.reserve.kueue.objects import names, view

_TOGETHER_S = 0.02
"""Seconds that a record waits for more where ends follow each other faster, like PostgreSQL's commit_delay."""

_MOST = 100
"""The most records in one ConfigMap, which holds 1 MiB."""

_TEXTS = ("name", "namespace", "uid", "owner", "request", "lease", "end", "asked")
_NUMBERS = ("created", "submitted", "priority", "evictions")
_GRANT = ("QuotaReserved", "Admitted")


class Records:
    """The records of one namespace, written several at once where many reservations end at a time (group commit)."""

    def __init__(self, api: Api, namespace: str) -> None:
        self._api, self._path = api, f"/api/v1/namespaces/{namespace}/configmaps"
        self._lock = Lock()  # guards what follows
        self._open: _Batch | None = None
        self._last = -_TOGETHER_S

    def add(self, claim: Claim) -> None:
        """Record how a reservation ends; it is there when this returns."""
        with self._lock:
            batch, now = self._open, time.monotonic()
            leads = batch is None or not batch.takes(claim)
            if batch is None or leads:
                batch = self._open = _Batch(claim.our_queue)
            batch.claims[claim.name] = claim
            waits, self._last = now - self._last < _TOGETHER_S, now
        if leads:
            self._write(batch, _TOGETHER_S if waits else 0.0)
        batch.written.result()

    def _write(self, batch: _Batch, seconds: float) -> None:
        """Write a batch after a while; whoever is in it hears when that failed."""
        try:
            time.sleep(seconds)
            self._close(batch)
            with suppress(ConflictError):  # the name is this batch's own: an answer was lost, and it is there
                self._api.create(self._path, batch.body())
            batch.written.set_result(None)
        except BaseException as error:
            self._close(batch)
            batch.written.set_exception(error)
            raise

    def _close(self, batch: _Batch) -> None:
        with self._lock:
            if self._open is batch:
                self._open = None

    def of(self, name: str) -> Claim | None:
        """Return a reservation as it ended, if it is over; None where there is no record."""
        items = self._api.items(self._path, labelSelector=names.ENDED + name)
        claims = (claim for item in items for claim in claims_of(item) if claim.name == name)
        return min(claims, key=_counts, default=None)

    def names(self, queue: str) -> set[str]:
        """Return the ids of all reservations of a queue that have a record."""
        every = self._api.items(self._path, accept=NAMES_ONLY, labelSelector=_of_queue(queue))
        labels = (label for item in every for label in item["metadata"]["labels"])
        return {label.removeprefix(names.ENDED) for label in labels if label.startswith(names.ENDED)}

    def all(self, queue: str) -> dict[str, Claim]:
        """Return all reservations of a queue that have a record, by id."""
        ended: dict[str, Claim] = {}
        for item in self._items(queue):
            for claim in claims_of(item):
                ended[claim.name] = min(claim, ended.get(claim.name, claim), key=_counts)
        return ended

    def forget(self, queue: str, gone: set[str]) -> None:
        """Delete the records of which nothing but these ids is left."""
        for item in self._items(queue):
            if {claim.name for claim in claims_of(item)} <= gone:
                self._api.delete(f"{self._path}/{item['metadata']['name']}")

    def _items(self, queue: str) -> Iterator[Object]:
        return self._api.items(self._path, labelSelector=_of_queue(queue))


class _Batch:
    """The records that are written together."""

    def __init__(self, queue: str) -> None:
        self.queue = queue
        self.claims: dict[str, Claim] = {}
        self.written: Future[None] = Future()

    def takes(self, claim: Claim) -> bool:
        """Tell whether it has room for one more."""
        return claim.our_queue == self.queue and claim.name not in self.claims and len(self.claims) < _MOST

    def body(self) -> Object:
        """Return the ConfigMap that says how they ended."""
        labels = {names.MANAGED: "gangplan", names.QUEUE: self.queue} | {names.ENDED + name: "" for name in self.claims}
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": f"{names.RECORD}{uuid4().hex[:20]}", "labels": labels},
            "immutable": True,
            "data": {name: _text(claim) for name, claim in self.claims.items()},
        }


def _text(claim: Claim) -> str:
    kept: dict[str, Any] = {name: getattr(claim, name) for name in (*_TEXTS, *_NUMBERS)}
    if not claim.asked:
        del kept["asked"]  # records that were written before there was one have none
    marks = {kind: mark.since for kind, mark in claim.marks.items() if mark.holds and kind in _GRANT}
    return json.dumps({**kept, "marks": marks}, separators=(",", ":"))


def claims_of(item: Object) -> list[Claim]:
    """Read reservations that are over back, as if their Workloads still stood."""
    queue = item["metadata"]["labels"][names.QUEUE]
    return [_claim(json.loads(text), queue) for text in item["data"].values()]


def _claim(kept: dict[str, Any], queue: str) -> Claim:
    marks = {kind: Mark(True, since, "", "") for kind, since in kept.pop("marks").items()}
    return Claim(
        version="",
        queue=queue,
        our_queue=queue,
        active=False,
        deleted=True,
        limit_s=None,
        gpus=0,
        pod_sets=(),
        marks=marks,
        cluster_queue="",
        shares=(),
        **kept,
    )


def _counts(claim: Claim) -> tuple[bool, int]:
    """Order the records of one reservation: the first one counts.

    A release is recorded before it is done, and may not have come to be; all else was marked on the Workload first.
    """
    reason, _, moment = claim.end.partition(":")
    return reason == view.RELEASED, int(moment)


def _of_queue(queue: str) -> str:
    return f"{names.MANAGED}=gangplan,{names.QUEUE}={queue}"
