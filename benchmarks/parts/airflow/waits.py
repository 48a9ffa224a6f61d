"""What waiting costs and how soon a wait ends: many tasks in one triggerer, a line, a reservation beside a pool."""

from __future__ import annotations

import json
import re
import statistics
import time
from collections import Counter
from collections.abc import Generator
from contextlib import closing, contextmanager
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

from benchmarks.parts.airflow.client import ENDED, Client
from benchmarks.parts.airflow.stack import WORKERS, Stack, until
from benchmarks.parts.figures import Figure
from gangplan.clock import floor_hour, system_clock
from gangplan.progress import Progress
from gangplan.reserve import OperableLedger, open_ledger
from gangplan.testing import a_calendar, a_pool, a_request
from gangplan.types import PodSet, Reservation, ReservationState

WAITING, GRANTED, LINE = 1000, 300, 21
GPUS = 4
"""Of a node."""

SETTLE_S, WATCHED_S = 10.0, 30.0
PATIENCE_S = 3600.0
ROUNDS, RUNS, SLOTS, WORK_S = 2, 6, 2, 20
_STATEMENT = re.compile(r"(?:statement|execute [^:]*): (.*)")
_NO_QUERY = ("BEGIN", "COMMIT", "ROLLBACK", "LISTEN", "ALTER SYSTEM", "SELECT PG_RELOAD_CONF", "SET", "SHOW", ";")
_LOOK = "SELECT gangplan_head.change, gangplan_head.arrivals"


@contextmanager
def airflow(python: Path, dags: list[str], **environment: str) -> Generator[Client]:
    """Run an Airflow that knows these DAGs."""
    with Stack(python, **environment) as stack, closing(Client(stack)) as client:
        client.wait_ready(dags)
        yield client


@contextmanager
def filled(client: Client, nodes: int) -> Generator[tuple[OperableLedger, Reservation]]:
    """Give the ledger so many nodes, all of which one gang holds."""
    with ledger_of(client, nodes) as ledger:
        whole = (PodSet(count=nodes, gpus_per_pod=GPUS),)
        holder = ledger.submit(a_request("the holder of all", pod_sets=whole, duration=timedelta(hours=20)))
        assert holder.state is ReservationState.GRANTED
        yield ledger, holder


@contextmanager
def ledger_of(client: Client, nodes: int) -> Generator[OperableLedger]:
    """Open the ledger, with a pool of so many nodes for two days."""
    with open_ledger(client.stack.ledger.url) as ledger:
        pool = a_pool(max_nodes=nodes, gpus_per_node=GPUS)
        ledger.publish(a_calendar([pool], start=floor_hour(system_clock()), hours=[nodes] * 48))
        yield ledger


def waiting(python: Path, share: int, progress: Progress) -> list[Figure]:
    """Return the share of a core that a triggerer uses for many waits, and what it asks the ledger."""
    count = WAITING // share
    with airflow(python, ["bench_wait"], GANGPLAN_BENCH_WAITING=str(count)) as client:
        with filled(client, 1):
            pass
        progress(0, count, "the idle triggerer")
        idle = _core_share(client.stack)
        client.trigger("bench_wait", "one")
        _deferred(client, count, progress)
        time.sleep(SETTLE_S)
        asked, looks, busy = _watched(client.stack)
        most = Counter(query[:60] for query in asked).most_common(4)
    peer = f"{count:,} waiting {busy:.4f}, none {idle:.4f} of a core, over {WATCHED_S:.0f} s"
    words = "; ".join(f"{number} x {text}" for text, number in most)
    per_look = len(asked) / max(1, looks)
    return [
        Figure(name="waiting_1000_core", value=busy - idle, unit="", bar="<= 0.03", peer=peer),
        Figure(
            name="waiting_1000_queries",
            value=per_look,
            unit="per look",
            bar="<= 1",
            peer=f"{len(asked) / WATCHED_S:.1f}/s, {looks} looks: {words}",
        ),
    ]


def _deferred(client: Client, count: int, progress: Progress) -> None:
    """Wait until all reserve tasks wait in the triggerer."""

    def all_wait() -> bool:
        ready = client.count("bench_wait", "reserve", "deferred")
        progress(ready, count, "tasks that wait")
        return ready >= count

    until(PATIENCE_S, f"{count} deferred tasks", all_wait, pause=1)


def _core_share(stack: Stack) -> float:
    """Return the share of a core that the triggerer uses."""
    began, used = time.monotonic(), stack.processor_time("triggerer")
    time.sleep(WATCHED_S)
    return (stack.processor_time("triggerer") - used) / (time.monotonic() - began)


def _watched(stack: Stack) -> tuple[list[str], int, float]:
    """Return what the ledger was asked meanwhile, how often somebody looked for news, and the triggerer's share."""
    stack.ledger.log_statements("all")
    start = stack.ledger.log.stat().st_size
    share = _core_share(stack)
    with stack.ledger.log.open(encoding="utf-8", errors="replace") as log:
        log.seek(start)
        said = [found[1] for line in log if (found := _STATEMENT.search(line))]
    stack.ledger.log_statements("none")
    asked = [query for query in said if not query.upper().startswith(_NO_QUERY)]
    return asked, sum(query.startswith(_LOOK) for query in asked), share


def granted(python: Path, share: int, progress: Progress) -> list[Figure]:
    """Return how soon all waiting tasks have ended when all are granted at once, and how many were lost."""
    count = GRANTED // share
    with (
        airflow(python, ["bench_wait"], GANGPLAN_BENCH_WAITING=str(count)) as client,
        filled(client, -(-count // GPUS)) as (ledger, holder),
    ):
        client.trigger("bench_wait", "one")
        _deferred(client, count, progress)
        time.sleep(SETTLE_S)
        began, moment = time.monotonic(), system_clock()
        assert holder.token is not None
        ledger.release(holder.id, holder.token)
        until(600, "the end of all reserve tasks", lambda: _open_tasks(client) == 0, pause=0.05)
        took = time.monotonic() - began
        lost, states = _lost(client, ledger), Counter(task.state for task in client.tasks())
        ends = [(end - moment).total_seconds() for (end,) in client.rows("SELECT end_date FROM task_instance") if end]
    half = f"the first after {min(ends):.1f} s, half after {statistics.median(ends):.1f} s"
    said = ", ".join(f"{number} {state}" for state, number in states.items())
    return [
        Figure(
            name="grant_to_success_s", value=took, unit="s", bar="<= 10", peer=f"{said}; {half}; {WORKERS} worker slots"
        ),
        Figure(name="grant_lost", value=lost, unit="tasks", bar="<= 0", peer=f"of {count}"),
    ]


def _open_tasks(client: Client) -> int:
    query = "SELECT count(*) FROM task_instance WHERE state IS NULL OR state NOT IN ('success', 'failed', 'skipped')"
    return int(client.rows(query)[0][0])


def _lost(client: Client, ledger: OperableLedger) -> int:
    """Return how many tasks did not end with the slots that the ledger says are theirs."""
    held = {one.id: one.token for one in ledger.list(ReservationState.GRANTED)}
    said = client.rows("SELECT value FROM xcom WHERE task_id = 'reserve' AND key = 'return_value'")
    found = [value if isinstance(value, dict) else json.loads(value) for (value,) in said]
    good = {one["id"] for one in found if held.get(one["id"]) == one["token"]}
    return len(client.tasks("task_id = 'reserve'")) - len(good)


def line(python: Path, share: int, progress: Progress) -> list[Figure]:
    """Return how long after a release the next one's work begins."""
    count = max(4, LINE // share)
    with airflow(python, ["bench_line"]) as client, ledger_of(client, 1) as ledger:
        for index in range(count):
            client.trigger("bench_line", f"run-{index:03}")
        _all_ended(client, count, progress)
        begins = _begins(client.stack.works)
        done = sorted((one for one in ledger.list() if one.granted_at), key=lambda one: one.granted_at or 0)
    gaps: list[float] = []
    grants: list[float] = []
    for before, after in pairwise(done):
        assert before.ended_at is not None
        assert after.granted_at is not None
        gaps.append(begins[after.id] - before.ended_at.timestamp())
        grants.append((after.granted_at - before.ended_at).total_seconds())
    peer = f"{len(gaps)} handovers, worst {max(gaps):.2f} s; the grant after {statistics.median(grants):.3f} s"
    return [Figure(name="release_to_work_s", value=statistics.median(gaps), unit="s", bar="<= 1.5", peer=peer)]


def _begins(works: Path) -> dict[str, float]:
    """Return when the work on each reservation began, by the wall clock."""
    offset = time.time() - time.monotonic()
    lines = [json.loads(text) for text in works.read_text().splitlines()]
    return {line["id"]: line["at"] + offset for line in lines if line["what"] == "begin"}


def _all_ended(client: Client, count: int, progress: Progress) -> None:
    """Wait until so many DAG runs have ended, all well."""

    def ended() -> bool:
        states = [state for state in client.runs().values() if state in ENDED]
        progress(len(states), count, "DAG runs")
        return len(states) >= count

    until(PATIENCE_S, f"{count} DAG runs", ended, pause=0.1)
    assert "failed" not in client.runs().values(), client.tasks("state = 'failed'")


def overhead(python: Path, share: int, progress: Progress) -> list[Figure]:
    """Return how much longer DAG runs take with reserve and release than with a slot of an Airflow pool."""
    rounds, runs = max(1, ROUNDS // share), max(2, RUNS // share)
    took = {"bench_line": 0.0, "bench_pool": 0.0}
    with airflow(python, list(took), GANGPLAN_BENCH_WORK_S=str(WORK_S)) as client, ledger_of(client, SLOTS):
        client.ask("POST", "/api/v2/pools", {"name": "bench", "slots": SLOTS, "include_deferred": False})
        ended = 0
        for number in range(rounds):
            for dag in took:
                began = time.monotonic()
                for index in range(runs):
                    client.trigger(dag, f"{dag}-{number}-{index}")
                ended += runs
                _all_ended(client, ended, progress)
                took[dag] += time.monotonic() - began
    ours, pool = took["bench_line"], took["bench_pool"]
    waves = rounds * -(-runs // SLOTS)
    each = f"a wave {ours / waves:.1f} and {pool / waves:.1f} s"
    peer = f"{rounds} x {runs} runs of {WORK_S} s on {SLOTS} slots: {ours:.1f} s, with a pool {pool:.1f} s; {each}"
    return [Figure(name="overhead_x", value=ours / pool, unit="", bar="<= 1.15", peer=peer)]
