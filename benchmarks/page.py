"""`make bench-page`: the web page's calendar with 2,000 reservations of 50 tenants, on the server's side.

`page_ms` is the time from a request to the last byte of the answer when the ledger has to be read anew: the median of
many, and the worst beside it. `page_svg_kb` is the drawing, as it is sent: compressed.
"""

from __future__ import annotations

import gzip
import statistics
import tempfile
import time
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

from fastapi import FastAPI
from fastapi.testclient import TestClient

from benchmarks.parts.figures import Figure, report
from gangplan.config import Settings
from gangplan.reserve import OperableLedger, Policy, Quota, TenantPolicy
from gangplan.serve import Link, Right, make_app
from gangplan.testing import NOW, FakeClock, a_calendar, a_pool, a_request
from gangplan.types import PodSet, ReservationState

RESERVATIONS, TENANTS, ROUNDS = 2000, 50, 30
POOLS = ("h100-owned", "a100-owned", "h100-spot", "l4-spot")
NODES, GPUS = 64, 8
BAR_MS, BAR_KB = "<= 300", "<= 200"


class Anyone:
    """A visitor who may do everything."""

    name = "bench"

    def may(self, right: Right, key: str = "") -> bool:
        """Everything."""
        return True

    def hidden(self, keys: Iterable[str]) -> frozenset[str]:
        """Nothing."""
        return frozenset()

    def links(self, key: str) -> tuple[Link, ...]:
        """Nowhere."""
        return ()


def fill(ledger: OperableLedger, clock: FakeClock) -> None:
    """Let gangs of all tenants come over five hours, run for one to nine hours, and pile up in the line."""
    pools = [a_pool(name, max_nodes=NODES, gpus_per_node=GPUS) for name in POOLS]
    ledger.publish(a_calendar(pools, start=NOW - timedelta(hours=6), hours=[NODES] * 240))
    quotas = {f"tenant-{index:02}": _rules(index) for index in range(TENANTS)}
    ledger.set_policy(Policy(tenants=quotas, depth=32), by="bench", why="a cohort of fifty")
    for index in range(RESERVATIONS):
        clock.now = NOW - timedelta(hours=5) * (1 - index / RESERVATIONS)
        pods = 1 + index * 7 % 4
        starts = NOW + timedelta(hours=12 + index % 9) if index % 25 == 0 else None
        ledger.submit(
            a_request(
                f"airflow/train_{index % 40}/manual__2026-03-02/reserve/{index}",
                tenant=f"tenant-{index * 13 % TENANTS:02}",
                pod_sets=(PodSet(count=pods, gpus_per_pod=GPUS if index % 3 else GPUS // 2),),
                accelerators=(("h100", "a100", "h100", "l4")[index % 4],),
                duration=timedelta(minutes=40 + index * 17 % 500),
                earliest_start=starts,
                latest_start=None if starts is None else starts + timedelta(hours=24),
            )
        )
        if index % 3 == 2:
            _end_one(ledger, index)
    clock.now = NOW
    ledger.tick()


def _rules(index: int) -> TenantPolicy:
    return TenantPolicy(
        cohort="all", quotas={name: Quota(nominal=12 + index % 5 * 4) for name in ("h100", "a100", "l4")}
    )


def _end_one(ledger: OperableLedger, index: int) -> None:
    """Let one of those that hold slots give them back."""
    holding = ledger.list(ReservationState.GRANTED)
    if holding:
        one = holding[index % len(holding)]
        assert one.token is not None
        ledger.release(one.id, one.token)


def app_over(clock: FakeClock, home: Path) -> FastAPI:
    """Return the page over a filled ledger in SQLite."""
    app = make_app(
        Anyone, ledger_url=lambda: f"sqlite:///{home}/ledger.db", settings=lambda: Settings(home=home), clock=clock
    )
    fill(app.state.site.live.ask(lambda ledger: ledger), clock)
    return app


def measure(client: TestClient, app: FastAPI) -> tuple[list[float], str]:
    """Ask for the page often, each time with a ledger that is read anew."""
    times: list[float] = []
    text = client.get("/").text  # compiles the templates
    for _ in range(ROUNDS):
        live = app.state.site.live
        live._looked = float("-inf")
        live._parts.clear()
        before = time.perf_counter()
        text = client.get("/").text
        times.append((time.perf_counter() - before) * 1000)
    return times, text


def main() -> None:
    """Fill, measure, report."""
    with tempfile.TemporaryDirectory() as folder:
        app = app_over(FakeClock(), Path(folder))
        with TestClient(app) as client:
            times, text = measure(client, app)
    drawing = text[text.index("<svg") : text.index("</svg>")]
    size = len(gzip.compress(drawing.encode(), 6)) / 1000
    bars = drawing.count("<rect")
    report(
        "page",
        [
            Figure(
                name="page_ms", value=statistics.median(times), unit="ms", peer=f"worst {max(times):.0f} ms", bar=BAR_MS
            ),
            Figure(name="page_svg_kb", value=size, unit="kB", peer=f"{bars} bars", bar=BAR_KB),
        ],
    )


if __name__ == "__main__":
    main()
