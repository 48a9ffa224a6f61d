"""What the watcher of the faults in Airflow makes of works and looks."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.parts.airflow.watch import Held, Seen, Work, taken_twice, without_slots, works_of
from benchmarks.parts.airflow.work import work


def a_work(begin: float, last: float, *, node: str = "h100-owned-0", token: int = 1) -> Work:
    """Work of a process of its own."""
    return Work(f"{begin}", "r00001", "r-1", token, (node,), begin, last)


def seen(*spans: Held) -> Seen:
    """What looks from 0 to 20 s, four times a second, saw of one reservation."""
    found = Seen(looks=[look / 4 for look in range(80)])
    found.held["r-1"].extend(spans)
    return found


def test_a_work_is_read_from_its_first_line_to_its_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a work writes is read back: on what it was, and until when it was alive."""
    file = tmp_path / "works.jsonl"
    file.touch()
    monkeypatch.setenv("GANGPLAN_BENCH_WORKS", str(file))
    work({"id": "r-1", "token": 3, "nodes": ["a-0", "a-1"]}, "r00001", 0)
    work(None, "r00002", 0)
    first, second = works_of(file)
    assert (first.id, first.token, first.nodes, first.run) == ("r-1", 3, ("a-0", "a-1"), "r00001")
    assert first.last >= first.begin
    assert (second.id, second.nodes) == (None, ())


@pytest.mark.parametrize(
    ("first", "second", "twice"),
    [
        (a_work(0, 2), a_work(2.5, 4), False),
        (a_work(0, 3), a_work(2.5, 4), True),
        (a_work(0, 9), a_work(2.5, 4), True),
        (a_work(0, 3), a_work(2.5, 4, node="h100-owned-1"), False),
    ],
)
def test_two_works_alive_on_one_node_are_found(first: Work, second: Work, twice: bool) -> None:
    """A node that two works were alive on at one time was given twice."""
    assert len(list(taken_twice([second, first]))) == twice


def test_a_long_work_is_found_beside_each_that_came_meanwhile() -> None:
    """A work that outlives the next one on its node is seen beside the one after it too."""
    assert len(list(taken_twice([a_work(0, 9), a_work(1, 2), a_work(3, 4)]))) == 2


@pytest.mark.parametrize(
    ("spans", "found"),
    [
        ([Held(1, 4.0, 12.0)], []),
        ([Held(1, 4.0)], []),
        ([], ["without slots"]),
        ([Held(2, 4.0, 12.0)], ["without slots"]),
        ([Held(1, 0.0, 2.0)], ["without slots"]),
        ([Held(1, 4.0, 6.0)], ["overstayed"]),
    ],
)
def test_work_must_begin_and_stay_on_slots_of_its_own(spans: list[Held], found: list[str]) -> None:
    """Work that began without a grant under its token, or outlived it, is found."""
    assert [one["found"] for one in without_slots([a_work(5.0, 10.0)], seen(*spans))] == found
