"""From a ledger's URL to an open ledger, of which only the kind that is asked for is loaded: steps start sooner."""

from __future__ import annotations

from typing import cast

from gangplan.clock import Clock
from gangplan.config import load_settings
from gangplan.reserve.contract import OperableLedger


def open_ledger(url: str, *, clock: Clock | None = None) -> OperableLedger:
    """Open the ledger at a URL, and bring its schema up to date.

    `sqlite:///path/to/ledger.db` keeps it in a file, `postgresql://user@host/database` on a server,
    `memory://` in this process alone, `kueue://<context>/<namespace>/<LocalQueue>` on a cluster's queue.
    The clock is by default that of the settings.
    """
    clock = clock or load_settings().clock
    if url.startswith("kueue:"):
        from gangplan.reserve.kueue import open_kueue

        return cast("OperableLedger", open_kueue(url, clock=clock))  # it refuses what Kueue has nothing for
    from gangplan.reserve.opening import open_sql_ledger

    return open_sql_ledger(url, clock=clock)
