"""What a waiting task tells: a log that can be read, a link to its place in the page; and who waits for another."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.airflow.versions import TaskDeferred

from gangplan.client import lives, submit
from gangplan.config import present
from gangplan.errors import InputError
from gangplan.reserve import Ledger
from gangplan.testing import a_request
from gangplan.types import Limit, Reason, Reservation, ReservationId, ReservationState
from gangplan_airflow import GangSensor, RenewGangOperator, ReserveGangOperator
from gangplan_airflow.compat import AirflowFailException
from gangplan_airflow.gangs.sensor import GangStateTrigger
from gangplan_airflow.hook import slots
from gangplan_airflow.links import ReservationLink
from gangplan_airflow.wait_log import WaitLog

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
REASON = Reason(
    limit=Limit.CAPACITY,
    message="too few GPUs are free. Held by: search (8 GPUs until 2026-03-02 14:30:00Z)",
    helps=("ask for a100 as well: it would start by 2026-03-02 13:00:00Z",),
)


def waiting(**changes: Any) -> Reservation:
    """A reservation that waits until half past two."""
    given: dict[str, Any] = {
        "eta": NOON + timedelta(hours=2, minutes=30),
        "promised": True,
        "reason": REASON,
        **changes,
    }
    id, state = ReservationId("r-1"), ReservationState.WAITING
    return Reservation(id=id, request=a_request(), state=state, submitted_at=NOON, **given)


def test_a_wait_is_told_in_short_lines_in_the_dag_s_zone() -> None:
    """What until when, why, what helps: each a line, each time in the zone of the DAG, nothing cut."""
    assert WaitLog("Europe/Berlin").news(waiting(), NOON) == [
        "waiting for 2 x 4 GPUs of h100; ETA 2026-03-02 15:30 CET (in 2.5 h)",
        "too few GPUs are free. Held by: search (8 GPUs until 2026-03-02 15:30 CET)",
        "ask for a100 as well: it would start by 2026-03-02 14:00 CET",
    ]


def test_each_line_is_said_once() -> None:
    """Neither an ETA that moves by seconds nor a triggerer that takes over says again what was said."""
    log = WaitLog("UTC")
    log.news(waiting(), NOON)
    moved = waiting(eta=NOON + timedelta(hours=2, minutes=30, seconds=20))
    assert log.news(moved, NOON + timedelta(minutes=1)) == []
    assert WaitLog("UTC", log.said).news(moved, NOON) == []
    later = replace(moved, eta=NOON + timedelta(hours=3), reason=replace(REASON, helps=()))
    assert log.news(later, NOON) == ["waiting for 2 x 4 GPUs of h100; ETA 2026-03-02 15:00 UTC (in 3.0 h)"]


def test_a_wait_without_an_eta_says_so() -> None:
    """No start is known, and no reason."""
    assert WaitLog("UTC").news(waiting(eta=None, promised=False, reason=None), NOON) == [
        "waiting for 2 x 4 GPUs of h100; ETA unknown"
    ]


class Key:
    """What Airflow tells a link of its task instance."""

    dag_id, run_id, task_id, map_index, try_number = "dag", "run 1", "big.reserve", -1, 1


def test_the_link_leads_to_the_reservation_s_own_page() -> None:
    """By its id once it is asked for, by its key before."""
    reserve = ReserveGangOperator(
        task_id="reserve", tenant="vision", accelerators=["h100"], pods=1, gpus_per_pod=4, duration=60
    )
    link: Any = ReservationLink()
    assert link.get_link(reserve, ti_key=Key()).endswith(
        "/gangplan/find?key=airflow%2Fdag%2Frun%201%2Fbig.reserve%2F-1"
    )
    reserve.reservation_id = "r-1"
    assert link.get_link(reserve, ti_key=Key()).endswith("/gangplan/reservations/r-1")
    assert [type(one) for one in reserve.operator_extra_links] == [ReservationLink]


@pytest.mark.present("the ledger lives by the machine's clock")
def test_a_sensor_waits_for_anothers_slots(ledger: Ledger) -> None:
    """It defers while the reservation waits or is not there, and goes on when it is granted, or has ended."""
    context: Any = {}
    granted, ended = (
        GangSensor(task_id=until, request_key="key", until=until)  # type: ignore[arg-type]
        for until in ("granted", "ended")
    )
    with pytest.raises(TaskDeferred) as deferred:
        granted.execute(context)
    trigger = deferred.value.trigger
    assert isinstance(trigger, GangStateTrigger)
    assert GangStateTrigger(**trigger.serialize()[1]).serialize() == trigger.serialize()
    held = submit(ledger, a_request("key"), present())
    assert granted.execute(context) == held.id
    with pytest.raises(TaskDeferred):
        ended.execute(context)
    ledger.cancel(held.id)
    assert ended.execute(context) == held.id
    with pytest.raises(InputError, match="until: 'free' is unknown"):
        GangSensor(task_id="free", request_key="key", until="free")  # type: ignore[arg-type]


@pytest.mark.present("the ledger lives by the machine's clock")
def test_a_renewal_lets_the_lease_last_longer(ledger: Ledger) -> None:
    """Within the walltime; what went back already fails the task for good."""
    request = a_request("key", duration=timedelta(minutes=1), walltime=timedelta(hours=1))
    held = submit(ledger, request, present())
    renew = RenewGangOperator(task_id="renew", slots=slots(held, None), duration="30m")
    assert datetime.fromisoformat(renew.execute({}) or "") > present() + timedelta(minutes=29)  # type: ignore[typeddict-item]
    ledger.cancel(lives(ledger, "key")[0].id)
    with pytest.raises(AirflowFailException, match="clear the reserve task"):
        renew.execute({})  # type: ignore[typeddict-item]
