"""The words in which users read about a reservation: what it waits for, until when and why, or what it holds."""

from __future__ import annotations

from datetime import datetime
from urllib.parse import unquote

from gangplan.types import GangRequest, Reservation, ReservationState


def wait_text(reservation: Reservation, eta: str, *, name_slots: bool) -> str:
    """Return one line about a reservation that waits: its ETA, the reason, and what would help.

    `name_slots` says whether the line names the slots that it waits for.
    """
    if name_slots:
        head = f"{waits_for_text(reservation)};"
    else:
        interrupted = reservation.state is ReservationState.INTERRUPTED
        head = f"waiting{' for slots in place of lost nodes' if interrupted else ''}:"
    return "; ".join([f"{head} ETA {eta}", *reason_texts(reservation)])


def state_text(reservation: Reservation) -> str:
    """Return where a reservation stands, and whether its holder must leave, or nobody has claimed its slots."""
    if reservation.notice is not None:
        return f"{reservation.state}, must leave"
    if reservation.claim_by is None:
        return reservation.state.value
    return (
        f"{reservation.state}, nobody claimed it"
        if reservation.state.final
        else f"{reservation.state}, not claimed yet"
    )


def attempt_text(attempt: str) -> str:
    """Return an attempt for a reader, such as `airflow/train/monday/big, try 2`; an empty text for nobody's."""
    owner, _, number = attempt.rpartition("/")
    return f"{_readable(owner)}, try {_readable(number)}" if owner else _readable(number)


def _readable(path: str) -> str:
    """Return a path without its percent-encoding, unless that would hold a command to a terminal."""
    plain = unquote(path)
    return plain if plain.isprintable() else path


def waits_for_text(reservation: Reservation) -> str:
    """Return what a reservation waits for."""
    instead = " in place of lost nodes" if reservation.state is ReservationState.INTERRUPTED else ""
    return f"waiting for {slots_text(reservation.request)}{instead}"


def slots_text(request: GangRequest) -> str:
    """Return the slots of a request in words, such as `2 x 4 GPUs of h100 or a100`."""
    pods = " + ".join(f"{pods.count} x {pods.gpus_per_pod} GPUs" for pods in request.pod_sets)
    return f"{pods} of {' or '.join(request.accelerators)}"


def eta_text(reservation: Reservation, *, expected: datetime | None = None, now: datetime | None = None) -> str:
    """Return when a waiting reservation starts: the promised or estimated time, and the earliest one.

    Parameters
    ----------
    expected
        When it would start, where the ledger has no ETA for it.
    now
        Adds the seconds from then until the start.
    """
    start = reservation.eta or expected
    if start is None:
        return "unknown"
    estimated = reservation.eta is not None and not reservation.promised
    seconds = "" if now is None else f" (in {max(0, round((start - now).total_seconds()))} s)"
    earliest = reservation.eta_range[0] if reservation.eta_range else start
    early = "" if earliest == start else f", at the earliest {time_text(earliest)}"
    return f"{time_text(start)}{' (estimated)' if estimated else ''}{seconds}{early}"


def reason_texts(reservation: Reservation) -> list[str]:
    """Return why a reservation waits, and then each thing that would help."""
    return [] if reservation.reason is None else [reservation.reason.message, *reservation.reason.helps]


def places_text(reservation: Reservation) -> str:
    """Return the nodes of a granted reservation with their GPUs."""
    return ", ".join(f"{place.gpus} GPUs on {place.node}" for place in reservation.placements)


def time_text(moment: datetime | None) -> str:
    """Return a time for a reader, in UTC to the second."""
    return "unknown" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S} UTC"
