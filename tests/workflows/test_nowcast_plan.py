"""A spike that began an hour ago changes the plan: capacity is taken before its peak."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.command import Call, caller
from tests.plan.builders import pool_of

from gangplan import cycle, plan, telemetry
from gangplan.config import Settings, write_fleet
from gangplan.testing import NOW
from gangplan.tracking import open_store
from gangplan.types import Fleet, Plan

Capture = pytest.CaptureFixture[str]

HOURS = 1000
FLEET = Fleet(pools=(pool_of("main", "h100", min_nodes=0, max_nodes=40, lead_time_hours=1),), nodes={"main": 6})


def demand() -> np.ndarray:
    """A daily cycle in which, now and then, three hours stand out more and more; the last time it begins now."""
    clock = np.arange(HOURS)
    values = 40 + 8 * np.sin(2 * np.pi * clock / 24) + np.random.default_rng(3).normal(0, 0.7, HOURS)
    for begun in (*range(300, HOURS - 60, 90), HOURS - 1):
        values[begun : begun + 3] += np.array([25.0, 60.0, 60.0])[: HOURS - begun]
    return values


def written(folder: Path, hours: int) -> str:
    """A file of the first hours."""
    first = NOW - timedelta(hours=HOURS)
    rows = [f"{(first + timedelta(hours=at)).isoformat()},chat,latency,h100,{demand()[at]:.2f}" for at in range(hours)]
    file = folder / f"{hours}.csv"
    file.write_text("\n".join(["hour,tenant,workload_class,accelerator,gpus", *rows]) + "\n")
    return str(file)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a champion that knows nothing of the spike, and telemetry in which it has begun."""
    folder = tmp_path_factory.mktemp("spike")
    settings = Settings(home=folder, horizon_hours=24, backtest_origins=2)
    cycle.ingest(settings, written(folder, HOURS - 24), telemetry.Timing(replay=True))
    cycle.train(settings)
    cycle.ingest(settings, written(folder, HOURS))
    write_fleet(settings.fleet_file, FLEET)
    return folder


def planned(home: Path, *, nowcast: bool, mip_gap: float = 0.01, late: int = 0) -> Plan:
    """A plan that is not published, made some hours after the telemetry's last."""
    now = NOW + timedelta(hours=late)
    settings = Settings(home=home, horizon_hours=24, scenarios=5, nowcast=nowcast, mip_gap=mip_gap, now=now)
    return cycle.make_plan(settings, hold=True)


def nodes_at_the_peak(made: Plan) -> int:
    """How many nodes run in the spike's third hour, the first that nodes can be had for."""
    return int(made.nodes.sort("hour")["nodes"][1])


def test_capacity_is_taken_before_the_peak(home: Path) -> None:
    """Spikes of the past doubled in their second hour: the plan holds what the next hours ask for, and says why."""
    with_it, without = (planned(home, nowcast=nowcast) for nowcast in (True, False))
    peak = demand()[HOURS - 25] + 60  # GPUs, what the spike comes to an hour from now
    assert 8 * nodes_at_the_peak(with_it) >= 0.9 * peak
    assert nodes_at_the_peak(with_it) > nodes_at_the_peak(without)
    assert any("chat / latency / h100" in line and "expected" in line for line in with_it.explanation)
    assert not any("next 6 h corrected" in line for line in without.explanation)
    _, ahead = plan.read_plan(open_store(Settings(home=home)), with_it.plan_id)
    assert len(ahead.stands_out) == 1


def test_later_hours_stay_calm(home: Path) -> None:
    """What comes after the six hours is forecast as if nothing had stood out."""
    tables = [planned(home, nowcast=nowcast, mip_gap=1e-4).nodes.sort("hour") for nowcast in (True, False)]
    late = [int(table.filter(pl.col("hour") >= NOW + timedelta(hours=8))["nodes"].sum()) for table in tables]
    assert late[0] <= late[1]


def test_command_plans_at_once(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """`spikes --replan` names the series and publishes a plan from the corrected forecast; the next look agrees."""
    monkeypatch.setenv("GANGPLAN_HOME", str(home))
    monkeypatch.setenv("GANGPLAN_HORIZON_HOURS", "24")
    call: Call = caller(monkeypatch, capsys)
    planned(home, nowcast=False)
    said = call("forecast", "spikes", "--replan", "--json").json
    assert [one["series"] for one in said["alarms"]] == ["chat / latency / h100"]
    assert said["plan"]["explanation"][0].startswith("chat / latency / h100 asked for")
    assert plan.read_published(open_store(Settings(home=home))).plan_id == said["plan"]["plan_id"]
    again = call("forecast", "spikes", "--json").json
    _, ahead = plan.read_plan(open_store(Settings(home=home)))
    assert [row["q0.95"] for row in again["corrected"]] == ahead.quantiles.sort("hour")["q0.95"][:6].to_list()


def test_the_last_delivered_hour_is_heard_when_the_clock_has_passed_it(home: Path) -> None:
    """An hour later, without new telemetry, the spike still raises its alarm."""
    made = planned(home, nowcast=True, late=1)
    assert made.issued_at == NOW + timedelta(hours=1)
    assert made.explanation[0].startswith("chat / latency / h100 asked for")


def test_a_plan_from_late_telemetry_names_its_age(home: Path) -> None:
    """Ten hours are planned from, with a warning that stands first; the age is kept with the plan."""
    made = planned(home, nowcast=True, late=10)
    assert made.explanation[0].startswith("The telemetry is late: its last hour ended 10 h before this plan begins")
    _, ahead = plan.read_plan(open_store(Settings(home=home)), made.plan_id)
    assert (ahead.known_until, ahead.age) == (NOW, timedelta(hours=10))


def test_old_telemetry_is_not_planned_from(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """Beyond the setting there is no plan: age, setting and remedies are named, and the exit code says no."""
    monkeypatch.setenv("GANGPLAN_HOME", str(home))
    call: Call = caller(monkeypatch, capsys)
    plans = len(plan.list_plans(open_store(Settings(home=home))))
    said = call("--now", (NOW + timedelta(days=4)).isoformat(), "plan")
    assert said.code == 3
    assert "its last hour ended 4 days before now, on 2026-03-02 09:00" in said.err
    assert all(remedy in said.err for remedy in ("stale_after_hours", "--until now", "--replay", "--now"))
    assert len(plan.list_plans(open_store(Settings(home=home)))) == plans
