"""Everything that can go wrong at once, from fixed seeds.

`python -m tests.reserve.support.simulation` is the long run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.effort import effort
from tests.reserve.support.simulation import Simulation


@pytest.mark.searches
@pytest.mark.parametrize("seed", effort([1, 2], [*range(1, 21)]))
def test_the_invariants_hold_while_everything_goes_wrong(tmp_path: Path, seed: int) -> None:
    """After 1,000 steps with lost and doubled messages, wrong clocks and deaths at any statement nothing is amiss."""
    found = Simulation(tmp_path, seed).run(1_000)
    for what in ("grants", "deaths", "deaths of leaders", "takeovers", "commands lost", "commands doubled"):
        assert found.get(what, 0) > 0, (what, found)
    assert found["answers held"] > 20, found
    assert found["submitted"] == sum(found.get(end, 0) for end in ("released", "cancelled", "expired", "preempted"))


def test_a_seed_gives_the_run_again(tmp_path: Path) -> None:
    """Two processes that hash differently take the same steps to the same audit log."""
    command = [sys.executable, "-m", "tests.reserve.support.simulation", "--steps", "300", "--seed", "4"]
    found: list[dict[str, Any]] = []
    for hashing in ("1", "2"):
        said = subprocess.run(
            command,
            env={**os.environ, "PYTHONHASHSEED": hashing},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            check=True,
        )
        found.append(json.loads(said.stdout.splitlines()[-1]))
    assert found[0] == found[1]
    assert found[0]["grants"] > 0


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE gangplan_reservations SET expires = expires + 1 WHERE state = 'granted'",
        "UPDATE gangplan_reservations SET state = 'waiting', token = NULL WHERE state = 'granted'",
        "DELETE FROM gangplan_reservations WHERE state = 'granted'",
        "UPDATE gangplan_head SET tokens = tokens - 1",
        "UPDATE gangplan_head SET term = term - 1",
        "DELETE FROM gangplan_audit WHERE change = (SELECT max(change) FROM gangplan_audit)",
    ],
)
def test_what_is_amiss_is_found(tmp_path: Path, tampering: str) -> None:
    """A row, a counter or the log that was changed behind the ledger's back does not go unseen."""
    world = Simulation(tmp_path, 6)
    for _ in range(20):
        world.direct(world.peers[0], world.draws.submit())
        world.mirror.catch_up()
    world.mirror.file.execute(tampering)
    with pytest.raises((AssertionError, KeyError)):
        look_again(world)
    world.unhook()


def look_again(world: Simulation) -> None:
    """Look at everything, and at one change more."""
    world.look_at_all()
    world.direct(world.peers[0], world.draws.submit())
    world.mirror.catch_up()
