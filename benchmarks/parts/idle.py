"""What many waiting clients cost while nothing happens."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Event

from gangplan.reserve import open_ledger
from gangplan.testing import a_calendar, a_pool, a_request
from gangplan.types import PodSet, Reservation, ReservationState

CLIENTS = 5_000
SETTLE = 5.0
WATCHED = 20.0
"""Seconds: until the first looks are over, and for how long the processor's time is counted then."""


def idle_share(url: str, *, clients: int = CLIENTS) -> float:
    """Return the share of one core that a process uses in which so many gangs wait, and which leads the ledger too."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(_share, url, clients).result()


def _share(url: str, clients: int) -> float:
    """Let one gang hold the cluster, others wait to be called, and count the processor's time."""
    pool = a_pool(gpus_per_node=8, max_nodes=100)
    whole = (PodSet(count=100, gpus_per_pod=8),)
    called: list[Reservation] = []
    told = Event()
    with open_ledger(url) as ledger, ThreadPoolExecutor(64) as workers:
        ledger.publish(a_calendar([pool], start=datetime.now(UTC) - timedelta(hours=1)))
        holder = ledger.submit(a_request("holder", pod_sets=whole, duration=timedelta(hours=3)))
        wishes = [a_request(f"w{number}", pod_sets=whole, tenant=f"t{number % 8}") for number in range(clients)]
        waiting = list(workers.map(ledger.submit, wishes))
        assert {one.state for one in waiting} == {ReservationState.WAITING}

        def call(seen: Reservation) -> None:
            if seen.state is ReservationState.GRANTED:
                called.append(seen)
                told.set()

        for one in waiting:
            ledger.subscribe(one.id, call)
        time.sleep(SETTLE)  # what is measured next is time in which nothing happens
        began, used = time.monotonic(), time.process_time()
        time.sleep(WATCHED)
        share = (time.process_time() - used) / (time.monotonic() - began)
        assert not called
        assert holder.token is not None
        ledger.release(holder.id, holder.token)
        assert told.wait(10), "the first in the line was not called"
    return share
