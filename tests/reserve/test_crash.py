"""Clients killed in the middle of what they do: no acknowledged grant is lost, none doubled, none overlapping."""

from __future__ import annotations

import random
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

from gangplan.reserve import open_ledger
from gangplan.testing import NOW, FakeClock, a_calendar, a_pool, a_request
from gangplan.types import PodSet, ReservationState

POOL = a_pool(max_nodes=8)
ONE = (PodSet(count=1, gpus_per_pod=1),)
CLIENT = """
import sys
from gangplan.reserve import open_ledger
from gangplan.testing import NOW, a_request
from gangplan.types import PodSet
with open_ledger(sys.argv[1], clock=lambda: NOW) as ledger:
    for n in range(10_000):
        held = ledger.submit(a_request(f"{sys.argv[2]}-{n}", pod_sets=(PodSet(count=1, gpus_per_pod=1),)))
        print("granted", held.id, held.token, flush=True)
        if n % 2 and held.token:
            print("released", ledger.release(held.id, held.token).id, held.token, flush=True)
"""


def killed(url: str, name: str, lines: int) -> list[list[str]]:
    """Start a client, kill it after it acknowledged so many lines, and return what it had acknowledged."""
    with subprocess.Popen([sys.executable, "-c", CLIENT, url, name], stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        seen = [client.stdout.readline() for _ in range(lines)]
        client.kill()
        seen += client.stdout.readlines()
    return [line.split() for line in seen if line.endswith("\n")]


def test_killed_clients_lose_and_double_nothing(tmp_path: Path) -> None:
    """Whatever a client was told before kill -9 stands; the ledger goes on, and no node carries too much."""
    url, dice = f"sqlite:///{tmp_path / 'ledger.db'}", random.Random(11)
    with open_ledger(url, clock=lambda: NOW) as ledger:
        ledger.publish(a_calendar([POOL]))
    told = [line for n in range(6) for line in killed(url, f"c{n}", dice.randrange(1, 12))]
    with open_ledger(url, clock=FakeClock()) as ledger:
        rows = {row.id: row for row in ledger.list()}
        tokens = [row.token for row in rows.values() if row.token is not None]
        assert len(tokens) == len(set(tokens))
        for word, id, said in told:
            assert said in (str(rows[id].token), "None")
            if word == "released":
                assert rows[id].state is ReservationState.RELEASED
        held: dict[str, int] = {}
        for row in rows.values():
            for placement in row.placements if row.state is ReservationState.GRANTED else ():
                held[placement.node] = held.get(placement.node, 0) + placement.gpus
        assert all(gpus <= POOL.gpus_per_node for gpus in held.values())
        assert ledger.submit(a_request("after", pod_sets=ONE, duration=timedelta(minutes=1))).submitted_at == NOW
