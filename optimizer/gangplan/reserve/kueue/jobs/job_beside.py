"""A Job that runs on a reservation's slots without adopting it: for a pipeline that reserves, works, releases.

What a step reserves is held by the pipeline, which gives it back when the work is over, however that went. The Job goes
where the reservation is, is counted by nobody else, and cannot outlive the reservation's walltime.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from copy import deepcopy
from datetime import timedelta
from math import ceil

from gangplan.clock import Clock
from gangplan.config import load_settings
from gangplan.errors import GangplanError, InputError
from gangplan.kube import RESERVATION, Object
from gangplan.reserve import Ledger
from gangplan.reserve.kueue import objects
from gangplan.reserve.kueue.jobs.adopt import Handout, annotate, hand_out, path_of
from gangplan.reserve.kueue.ledger import KueueLedger
from gangplan.types import ReservationId

_log = logging.getLogger(__name__)

_LOOK_S = 1.0


class JobFailedError(GangplanError):
    """The Job of a step ended without having completed; its own words are in the message."""


def run_beside(
    ledger: Ledger,
    id: ReservationId,
    job: Object,
    *,
    check: Callable[[], None] = lambda: None,
    clock: Clock | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Object:
    """Run a Job on a reservation's slots to its end, and return it as it then is.

    `check` is called once a second, as `Held.check`: what it raises ends the wait and the Job, as the slots are no
    longer its own. One that failed by itself stays, for its logs.

    Raises InputError for what is no Job or a ledger that is not on Kueue, StaleTokenError where the reservation holds
    no slots, JobFailedError when the Job failed.
    """
    if not isinstance(ledger, KueueLedger):
        raise InputError("ledger", type(ledger).__name__, "is not on Kueue: give kueue://<context>/<namespace>/<queue>")
    if job.get("kind") != "Job":
        raise InputError("manifest.kind", job.get("kind", ""), "cannot run beside a reservation: give a Job")
    handout, held = hand_out(ledger, id), ledger.get(id)
    now = (clock or load_settings().clock)()
    left = (held.granted_at or now) + held.request.limit - now
    path = path_of(ledger.place.namespace, job)
    name = ledger.api.create(path, placed(job, handout, left))["metadata"]["name"]
    while True:
        seen = ledger.api.get(f"{path}/{name}")
        conditions = seen.get("status", {}).get("conditions", ())
        ended = {mark["type"]: mark for mark in conditions if mark["status"] == "True"}
        if "Complete" in ended:
            return seen
        if "Failed" in ended:
            raise JobFailedError(f"job {name}: failed: {ended['Failed'].get('message', '')}")
        try:
            check()
            sleep(_LOOK_S)
        except BaseException:  # whatever ends the wait: nobody would give the slots back after the Job
            _stop(ledger, f"{path}/{name}")
            raise


def _stop(ledger: KueueLedger, path: str) -> None:
    """Delete a Job with its pods; where that fails, its deadline ends it."""
    try:
        ledger.api.delete(path, propagationPolicy="Background")
    except GangplanError as error:
        _log.warning("%s: runs on to its deadline: %s", path, error)


def placed(job: Object, handout: Handout, left: timedelta) -> Object:
    """Return a Job whose pods go to a reservation's slots, with a deadline, and with no queue's name.

    Their annotations keep Kueue from counting them a second time, beside their reservation, where it chooses nodes.
    Their label says that the reservation is in use.
    """
    body = deepcopy(job)
    labels: dict[str, str] = body["metadata"].get("labels") or {}
    body["metadata"]["labels"] = {name: value for name, value in labels.items() if not name.startswith(objects.GROUP)}
    deadline, own = max(1, ceil(left.total_seconds())), body["spec"].get("activeDeadlineSeconds")
    body["spec"]["activeDeadlineSeconds"] = deadline if own is None else min(own, deadline)
    annotate(body["spec"]["template"], handout.annotations)
    meta: Object = body["spec"]["template"].setdefault("metadata", {})
    meta["labels"] = (meta.get("labels") or {}) | {RESERVATION: handout.workload}
    pods: Object = body["spec"]["template"]["spec"]
    pods["nodeSelector"] = (pods.get("nodeSelector") or {}) | handout.node_selector
    pods["tolerations"] = [*(pods.get("tolerations") or []), *handout.tolerations]
    return body
