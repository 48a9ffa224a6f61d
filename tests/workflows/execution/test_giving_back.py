"""What ended owners have left is given back once, and another attempt's is not; owners as texts."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from gangplan import client
from gangplan.config import load_settings
from gangplan.errors import UnavailableError
from gangplan.testing import NOW, a_request, memory_ledger
from gangplan.types import ObjectOwner, PipelineOwner, PodSet, Reservation, ReservationState, cluster_owner
from gangplan.workflows.execution.giving_back import GivingBack

JOB = ObjectOwner(namespace="vision", kind="Job", name="train", uid="u-1")
ONE = (PodSet(count=1, gpus_per_pod=1),)


@pytest.mark.parametrize("owner", [JOB, PipelineOwner(run="run/1 %")])
def test_owners_are_read_from_the_attempts_that_they_begin(owner: ObjectOwner | PipelineOwner) -> None:
    """Whatever comes after them in the path."""
    for path in ("", "/1", "/gang/1", "/gang/shard-1/1"):
        assert cluster_owner(f"{owner}{path}") == owner


@pytest.mark.parametrize("text", ["", "kfp", "kfp/", "kubernetes/a/Job/x", "kubernetes/a/Job//u", "airflow/a/b/c/-1/1"])
def test_what_names_no_owner_of_a_cluster_is_none(text: str) -> None:
    """Such as a path that is too short, or that of an Airflow."""
    assert cluster_owner(text) is None


def test_the_setting_says_whose_a_request_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the step itself does not; nothing is taken over by it, and nothing has to be claimed."""
    monkeypatch.setenv("GANGPLAN_OWNER", f"{JOB}/")
    ledger = memory_ledger()
    mine = client.submit(ledger, a_request("mine", pod_sets=ONE), NOW + timedelta(hours=1))
    said = client.submit(ledger, a_request("said", pod_sets=ONE), NOW + timedelta(hours=1), "airflow/a/b/c/-1/1")
    assert (mine.owner, mine.claim_by) == (str(JOB), None)
    assert said.attempt == "airflow/a/b/c/-1/1"
    assert load_settings().attempt == f"{JOB}/1"


@dataclass
class Known:
    """Knows of attempts by their texts; in `over` are those that have ended."""

    over: set[str] = field(default_factory=set[str])
    away: bool = False

    def look(self) -> None:
        """Be there, or not."""
        if self.away:
            raise UnavailableError("is away")

    def of(self, row: Reservation) -> tuple[str, str]:
        """Every attempt is known."""
        return ("kind", row.attempt) if row.attempt else ("", "")

    def ended(self, row: Reservation) -> str:
        """Say so of those."""
        return "it has ended" if row.attempt in self.over else ""


def test_each_is_given_back_once_and_a_source_that_is_away_holds_no_other_up() -> None:
    """One that another attempt took over between the look and the end stays."""
    ledger, given = memory_ledger(), list[str]()
    held = [ledger.submit(a_request(f"job-{n}", pod_sets=ONE), f"a/{n}/1") for n in range(4)]
    known, away = Known({"a/0/1", "a/1/1"}), Known(away=True)

    def may_begin() -> None:
        ledger.submit(a_request("job-1", pod_sets=ONE), "a/1/2")

    back = GivingBack(ledger=ledger, owners=(away, known), clock=lambda: NOW, may_begin=may_begin, given=given.append)
    for _ in range(2):
        with pytest.raises(UnavailableError):
            back.look()
    states = [ledger.get(row.id).state for row in held]
    assert states == [ReservationState.CANCELLED, *[ReservationState.GRANTED] * 3]
    assert ledger.get(held[1].id).attempt == "a/1/2"
    assert given == ["kind"]
    assert back.knows("a/3/1")
    assert not back.knows("a/0/1")
