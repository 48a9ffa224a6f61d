"""Lifts of events are measured with honest uncertainty, new kinds borrow, and the forecast moves by them."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from gangplan import forecast
from gangplan.clock import HOUR
from gangplan.forecast.models.lifts import job_share, measure_lifts, with_known_events
from gangplan.forecast.series.panel import Panel, from_usage
from gangplan.tables import ANNOUNCED, EVENTS, conform
from gangplan.types import Usage

from .conftest import CHAT, END, TRAIN, Trained, a_usage, waves

HOURS = 2400
Event = tuple[datetime, datetime, str, str | None]


def events_of(rows: list[Event]) -> pl.DataFrame:
    """A table of events."""
    return conform("events", pl.DataFrame(rows, schema=EVENTS, orient="row"), EVENTS)


def past(kind: str, *, every: int, hours: int, first: int = 400) -> list[Event]:
    """An event that came back, for all tenants."""
    begin = END - HOURS * HOUR
    return [(begin + at * HOUR, begin + (at + hours) * HOUR, kind, None) for at in range(first, HOURS - 200, every)]


def world(factors: dict[str, float], events: list[Event], seed: int = 1) -> Panel:
    """Two series whose demand is multiplied by a factor while an event of that kind is on."""
    rows = {CHAT: waves(HOURS, seed=seed), TRAIN: waves(HOURS, seed=seed + 1)}
    begin = END - HOURS * HOUR
    for start, end, kind, _ in events:
        for values in rows.values():
            values[(start - begin) // HOUR : max(0, (end - begin) // HOUR)] *= factors.get(kind, 1.0)
    return from_usage(a_usage(rows, events=events_of(events)))


@pytest.mark.parametrize("factor", [0.6, 1.0, 1.4])
def test_band_holds_the_truth_eight_times_in_ten(factor: float) -> None:
    """Over 20 worlds, five occurrences each, the 80 % band of the lift holds the true factor in 65 to 97 % of cases."""
    held: list[bool] = []
    for seed in range(20):
        panel = world({"release": factor}, past("release", every=420, hours=20), seed=10 * seed)
        for lift in measure_lifts(panel):
            low, high = lift.band
            held.append(low <= factor <= high)
            assert lift.occurrences >= 4
            assert lift.factor == pytest.approx(factor, rel=0.12)
    assert 0.65 <= np.mean(held) <= 0.97


def test_new_kind_borrows_from_what_it_is_like() -> None:
    """Named by `like`, or by a shared word, a new kind takes the lift of its model with a wider band; else the mean."""
    ahead = [(END + 5 * HOUR, END + 9 * HOUR, kind, None) for kind in ("release-major", "gala", "fair")]
    known = past("release", every=420, hours=20) + past("holiday", every=500, hours=24, first=600)
    panel = world({"release": 1.5, "holiday": 0.7}, known + ahead)
    announced = pl.DataFrame([{"kind": "gala", "like": "holiday"}])
    found = {lift.kind: lift for lift in measure_lifts(panel, announced) if lift.workload_class == CHAT[1]}
    assert found["release-major"].source == "like release"
    assert found["release-major"].factor == pytest.approx(found["release"].factor)
    assert found["release-major"].sd > found["release"].sd
    assert found["gala"].factor == pytest.approx(found["holiday"].factor)
    assert found["holiday"].factor < found["fair"].factor < found["release"].factor
    assert found["fair"].occurrences == 0


def test_one_occurrence_is_shrunk_more_than_six() -> None:
    """The same measured lift counts for less, and is less certain, when it was seen once."""
    often = {one.workload_class: one for one in measure_lifts(world({"sale": 1.5}, past("sale", every=340, hours=12)))}
    seldom = world({"sale": 1.5}, past("sale", every=340, hours=12)[:1])
    once = {one.workload_class: one for one in measure_lifts(seldom)}
    assert once[CHAT[1]].sd > often[CHAT[1]].sd


def test_forecast_moves_by_what_the_model_does_not_know() -> None:
    """Quantiles are multiplied in the hours of a kind that the model has not learned, and in no other."""
    ahead = [(END + 5 * HOUR, END + 9 * HOUR, "release-major", CHAT[0])]
    panel = world({"release": 1.5}, past("release", every=420, hours=20) + ahead)
    made = np.broadcast_to(np.array([30.0, 40.0, 50.0, 55.0, 60.0]), (2, 24, 5)).copy()
    told = with_known_events(made, panel, None, ("release",))
    chat, train = panel.keys.index(CHAT), panel.keys.index(TRAIN)
    assert told[chat, 5:9, 1] == pytest.approx(60, rel=0.1)
    assert (told[chat, 5:9, 3] - told[chat, 5:9, 1] > 1.4 * 15).all()
    assert np.allclose(told[train], made[train])
    assert np.allclose(np.delete(told[chat], range(5, 9), axis=0), np.delete(made[chat], range(5, 9), axis=0))
    assert np.allclose(
        with_known_events(made, panel, None, ("release", "release-major"))[chat, 5:9, 1], told[chat, 5:9, 1]
    )


def job(start: datetime, hours: float, gpus: float) -> dict[str, object]:
    """A planned job of the throughput series."""
    tenant, workload, accelerator = TRAIN
    return {
        **dict.fromkeys(ANNOUNCED),
        "start": start,
        "end": start + timedelta(hours=hours),
        "kind": "job",
        "tenant": tenant,
        "workload_class": workload,
        "accelerator": accelerator,
        "gpus": gpus,
    }


def test_planned_job_is_added_in_the_share_that_came() -> None:
    """Without a past a planned job counts in full; when past ones asked for half, the share falls below 0.7."""
    panel = world({}, [])
    ahead = conform("announced", pl.DataFrame([job(END + 3 * HOUR, 1.5, 64)], schema=ANNOUNCED), ANNOUNCED)
    made = np.full((2, 24, 5), 40.0)
    told = with_known_events(made, panel, ahead, ())
    row = panel.keys.index(TRAIN)
    assert told[row, 2:6, 1] == pytest.approx([40, 104, 72, 40])
    assert (told[row, 3, 0], told[row, 3, 4]) != (104, 104)
    begins = [END - hours * HOUR for hours in range(300, 2100, 190)]
    jobs = conform("announced", pl.DataFrame([job(at, 10, 40) for at in begins], schema=ANNOUNCED), ANNOUNCED)
    values = panel.values.copy()
    for at in begins:
        first = (at - panel.start) // HOUR
        values[row, first : first + 10] += 20
    share, sd = job_share(Panel(start=panel.start, keys=panel.keys, values=values, events=panel.events), jobs)
    assert 0.5 <= share < 0.7
    assert sd < 0.3


def test_prediction_hears_of_a_planned_job(trained: Trained) -> None:
    """A job that people announced raises the champion's forecast by its GPUs in its hours."""
    usage = trained.usage
    ahead = conform("announced", pl.DataFrame([job(END + 3 * HOUR, 2, 64)], schema=ANNOUNCED), ANNOUNCED)
    told = Usage(**{**vars(usage), "announced": ahead})
    plain, more = (
        forecast.predict(one, trained.store, None, settings=trained.settings).quantiles for one in (usage, told)
    )
    gain = (more["q0.5"] - plain["q0.5"]).to_numpy()
    assert sorted(gain.round(6))[-3:] == [0.0, 64.0, 64.0]
