"""Gangs in pipelines that run: KFP's local runner, the real ledger, and the holder around each task inside."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kfp import dsl
from tests.kfp.specs import WISH, add, fail, measure, say, train

from gangplan.reserve import Ledger
from gangplan.types import Reservation, ReservationState
from gangplan_kfp import on_gang, reserved_gang

Opened = Callable[[], Ledger]


def ended(ledger: Opened) -> list[Reservation]:
    """Return all reservations, each of which was granted and given back."""
    with ledger() as book:
        found = book.list()
    assert all(one.granted_at is not None for one in found)
    assert {one.state for one in found} == {ReservationState.RELEASED}
    return found


def shards(capfd: pytest.CaptureFixture[str]) -> list[tuple[str, str]]:
    """Return which shards were trained on which reservation."""
    return sorted(re.findall(r"shard (\d) on (\S+)", capfd.readouterr().out))


@dsl.pipeline(name="inner")
def inner(shard: int) -> int:
    """A pipeline that another uses as a task."""
    return train(shard=shard).output


def test_all_work_in_a_block_runs_on_its_slots(ledger: Opened, runs: Path, capfd: Any) -> None:
    """In a loop, its collected outputs and a pipeline used as a task: each holds the same gang, released at the end."""

    @dsl.pipeline(name="whole")
    def whole() -> None:
        with reserved_gang(retry=False, **WISH):
            with dsl.ParallelFor([1, 2]) as shard:
                trained = train(shard=shard)
            inner(shard=add(shards=dsl.Collected(trained.output)).output)

    whole()
    (held,) = ended(ledger)
    assert shards(capfd) == [("1", held.id), ("2", held.id), ("3", held.id)]


def test_each_iteration_has_slots_of_its_own(ledger: Opened, runs: Path) -> None:
    """In a loop each releases its own, also when its work failed."""

    @dsl.pipeline(name="loops")
    def loops() -> None:
        with dsl.ParallelFor([1, 2]) as shard, reserved_gang(part=shard, retry=False, **WISH):
            fail()

    with pytest.raises(RuntimeError, match="fail"):
        loops()
    assert sorted(held.request.request_key.split("/", 2)[2] for held in ended(ledger)) == ["gang/1", "gang/2"]


def test_one_component_with_a_gang_in_a_condition(ledger: Opened, runs: Path, capfd: Any) -> None:
    """It reserves, holds and releases, and others use its output."""

    @dsl.pipeline(name="conditions")
    def conditions() -> None:
        with dsl.If(measure().output == 1):
            say(text=f"trained {on_gang(name='one', **WISH)(train)(shard=4).output}")

    conditions()
    (held,) = ended(ledger)
    assert held.request.request_key.endswith("/one")
    assert shards(capfd) == [("4", held.id)]
