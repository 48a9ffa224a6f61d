"""Reservations: whole gangs of GPU slots, promised now or for a window to come."""

from gangplan.reserve.contract import Ledger
from gangplan.reserve.opening import open_ledger

__all__ = ["Ledger", "open_ledger"]
