"""What the operators and the trigger say of a reservation: why it waits, and what is held."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from gangplan.types import Reservation, ReservationState


def words(reservation: Reservation, now: datetime) -> str:
    """Say in one line what is waited for, until when, and why."""
    request = reservation.request
    gang = " + ".join(f"{pods.count} x {pods.gpus_per_pod} GPUs" for pods in request.pod_sets)
    lost = " in place of lost nodes" if reservation.state is ReservationState.INTERRUPTED else ""
    line = f"waiting for {gang} of {' or '.join(request.accelerators)}{lost}; {eta(reservation, now)}"
    if (reason := reservation.reason) is None:
        return line
    return "; ".join([f"{line}; {reason.message}", *reason.helps])


def eta(reservation: Reservation, now: datetime) -> str:
    """Say when the slots are expected, and from when on where that is not promised."""
    at, expected = reservation.eta, reservation.eta_range
    if at is None:
        return "no ETA yet"
    line = f"ETA {at:%Y-%m-%d %H:%M:%S} UTC (in {max(0, round((at - now).total_seconds()))} s)"
    return line if expected is None or expected[0] == at else f"{line}, at the earliest {expected[0]:%H:%M:%S}"


def slots(reservation: Reservation, because: str | None) -> dict[str, Any]:
    """Give a granted reservation as a task's XCom: plain values, no secret (the token only tells old holders apart)."""
    waited, first_eta, expires_at = reservation.waited, reservation.first_eta, reservation.expires_at
    return {
        "id": reservation.id,
        "token": reservation.token,
        "key": reservation.request.request_key,
        "gpus": reservation.request.gpus,
        "placements": [vars(placement) for placement in reservation.placements],
        "nodes": sorted({placement.node for placement in reservation.placements}),
        "expires_at": expires_at.isoformat() if expires_at else None,
        "waited_s": round(waited.total_seconds(), 1) if waited else 0.0,
        "first_eta": first_eta.isoformat() if first_eta else None,
        "waited_because": because,
        "interruptions": reservation.interruptions,
    }
