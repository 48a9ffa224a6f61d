"""The carbon of grids: what ships, what users bring in, and what a plan makes of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.command import Call, caller
from tests.plan.builders import pool_of, settings_of

from gangplan import plan
from gangplan.clock import HOUR
from gangplan.errors import InputError
from gangplan.execute import green
from gangplan.execute.green.carbon import grid_of
from gangplan.testing import a_forecast
from gangplan.types import Fleet
from gangplan.workflows.power import with_power

START = datetime(2026, 2, 1, tzinfo=UTC)


def hourly(path: Path, days: int = 30, *, region: str = "GBR", first: datetime = START) -> Path:
    """A series that is the hour of the day times ten."""
    hours = [first + place * HOUR for place in range(24 * days)]
    path.write_text(
        "\n".join(["hour,region,g_per_kwh", *(f"{h:%Y-%m-%dT%H:%MZ},{region},{10 * h.hour}" for h in hours)])
    )
    return path


def test_what_ships_has_its_year_and_source() -> None:
    """Countries and regions of Google Cloud; no figure without where it comes from."""
    known = green.yearly_grids()
    assert (round(known["DEU"].g_per_kwh), known["DEU"].year) == (381, 2023)
    assert known["DEU"].words == "the yearly mean of 2023 (CodeCarbon 3.3.2)"
    assert known["europe-north1"].words == "the yearly mean of a year that is not stated (CodeCarbon 3.3.2)"
    assert len(known) > 240
    assert all(0 <= one.g_per_kwh < 2000 and one.source for one in known.values())


def test_others_tables_are_read_by_naming_their_columns(tmp_path: Path) -> None:
    """Half hours become hours, units grams, local times UTC; a byte order mark is no letter."""
    file = tmp_path / "fuel.csv"
    file.write_text("\ufeffDATETIME,GAS,CARBON\n2026-07-01 12:00:00,1,0.2\n2026-07-01 12:30:00,1,0.4\n")
    columns = green.CarbonColumns(
        names={"hour": "DATETIME", "g_per_kwh": "CARBON"}, region="GBR", unit="kg/kWh", zone="Europe/London"
    )
    assert green.read_carbon(file, columns) == {"GBR": {datetime(2026, 7, 1, 11, tzinfo=UTC): pytest.approx(300.0)}}
    pounds = green.CarbonColumns(names={"hour": "DATETIME", "g_per_kwh": "GAS"}, region="US", unit="lb/MWh")
    assert next(iter(green.read_carbon(file, pounds)["US"].values())) == pytest.approx(0.4536, abs=1e-4)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hour,g\n", "columns.region: 'region' is no column: the table has hour, g; say which it is, region=NAME"),
        ("hour,region,g_per_kwh\nnoon,DEU,3\n", r"hour: 'noon' is no ISO 8601 time.*\(c.csv line 2\)"),
        ("hour,region,g_per_kwh\n2026-02-01T00:00Z,DEU,many\n", r"g_per_kwh: 'many' must be a number.*line 2"),
        ("hour,region,g_per_kwh\n2026-02-01T00:00Z,DEU,400000\n", "from 0 to 3,000 g/kWh: name its unit"),
        ("hour,region,g_per_kwh\n2026-02-01T00:00Z,,4\n", r"region: '' is missing \(c.csv line 2\)"),
    ],
)
def test_a_wrong_row_is_named(text: str, words: str, tmp_path: Path) -> None:
    """File, line, field, value, remedy."""
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(InputError, match=words):
        green.read_carbon(tmp_path / "c.csv")


def test_a_series_has_its_hours_and_what_is_typical_beyond(tmp_path: Path) -> None:
    """Hours that it has are its own; gaps and later ones are the mean of their hour over the last 28 days."""
    hours = green.read_carbon(hourly(tmp_path / "c.csv"))["GBR"]
    late = START + timedelta(days=29, hours=5)
    hours[late] = 999.0
    del hours[late + HOUR]
    grid = grid_of("GBR", hours)
    assert grid.at(START + 3 * HOUR) == 30
    assert grid.at(late) == 999.0
    assert grid.at(late + HOUR) == 60  # a gap
    assert grid.at(late + timedelta(days=2)) == pytest.approx((27 * 50 + 999) / 28)
    assert "1 of them missing" in grid.source


def test_a_plan_counts_hours_then_the_fleets_figure_then_the_yearly_mean(tmp_path: Path, now: datetime) -> None:
    """Each pool has the best that is known of its region, and the explanation says which."""
    hourly(tmp_path / "carbon.csv", days=2, first=now - timedelta(days=1))
    pools = [
        pool_of("series", "h100", region="GBR", power_kw_per_node=10, carbon_g_per_kwh=77),
        pool_of("own", "a100", region="DEU", power_kw_per_node=10, carbon_g_per_kwh=77),
        pool_of("mean", "l4", region="FRA", power_kw_per_node=10),
        pool_of("named", "l40s", region="eu-west-1", power_kw_per_node=10),
        pool_of("unknown", "h200", region="moon", power_kw_per_node=10),
    ]
    fleet = Fleet(pools=tuple(pools), nodes={pool.name: 1 for pool in pools})
    settings = settings_of(scenarios=1, home=tmp_path)
    policy = with_power(plan.PlanPolicy(grid_of={"eu-west-1": "IRL"}), fleet, settings)
    medians = {("ann", "latency", pool.accelerator): [7.0] * 24 for pool in pools}
    found = plan.solve(a_forecast(medians, now, (1.0,) * 5), fleet, settings=settings, policy=policy)
    emitted = dict(found.cost.select("pool", "carbon_kg").iter_rows())
    yearly = green.yearly_grids()
    assert emitted == {
        "series": pytest.approx(sum(10 * hour for hour in range(24)) / 100),
        "own": pytest.approx(24 * 0.77),
        "mean": pytest.approx(24 * yearly["FRA"].g_per_kwh / 100),
        "named": pytest.approx(24 * yearly["IRL"].g_per_kwh / 100),
        "unknown": 0.0,
    }
    said = "\n".join(found.explanation)
    assert "Carbon of FRA: the yearly mean of 2023" in said
    assert "Carbon of GBR: hourly series of GBR" in said
    assert "Carbon of DEU" not in said
    with pytest.raises(InputError, match=r"grid_of\[eu-west-1\]: 'Mars' is no grid"):
        with_power(replace(policy, grid={}, grid_of={"eu-west-1": "Mars"}), fleet, settings)


def test_the_commands_bring_series_in_and_list_what_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same hours twice are there once; a region that nobody knows is refused."""
    monkeypatch.setenv("GANGPLAN_HOME", str(tmp_path / "home"))
    call: Call = caller(monkeypatch, capsys)
    file = hourly(tmp_path / "c.csv", days=2)
    assert call("power", "carbon", "import", str(file), "--json").json[0]["hours"] == 48
    longer = hourly(tmp_path / "c.csv", days=3)
    (row,) = call("power", "carbon", "import", str(longer), "--json").json
    assert (row["hours"], row["first"], row["last"]) == (72, "2026-02-01T00:00Z", "2026-02-03T23:00Z")
    listed = call("power", "carbon", "list", "GBR", "DEU", "--json").json
    assert [(each["region"], each["g_per_kwh"]) for each in listed] == [("GBR", 115.0), ("DEU", 380.9)]
    assert call("power", "carbon", "list", "nowhere").code == 2
    assert call("power", "carbon", "import", str(file), "--column", "hour").code == 2
    assert call("power", "carbon", "import", str(file), "--unit", "oz").code == 2
