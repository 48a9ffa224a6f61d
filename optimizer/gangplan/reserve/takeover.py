"""Which attempt may take a reservation over, and which may end it; the same for every kind of ledger."""

from __future__ import annotations

from gangplan.errors import KeyConflictError, StaleTokenError
from gangplan.types import ReservationId, owner_of


def require_owner(request_key: str, present: str, attempt: str) -> None:
    """Refuse an attempt whose owner is another one than the present attempt's; an empty attempt is anybody's."""
    if present and attempt and owner_of(present) != owner_of(attempt):
        raise KeyConflictError(
            f"request_key: {request_key!r} is that of a live request of {present}: give each run its own key, for "
            "example with the run's id in it"
        )


def require_present(id: ReservationId, present: str, attempt: str | None) -> None:
    """Refuse an attempt that is not the present one; None stands for whichever it is."""
    if attempt not in (None, present):
        raise StaleTokenError(
            f"attempt: {attempt or 'none'} is not the one of {id}, which is {present or 'none'}; nothing was changed"
        )
