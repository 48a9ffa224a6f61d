"""`gangplan forecast ...`: growth and its picture, when a pool is full, events, spikes, drift; in words and in JSON."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.command import Call, caller

DAYS = 40


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder for the room."""
    return tmp_path_factory.mktemp("forecast-home")


@pytest.fixture
def call(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Call the command as a shell would, in this process."""
    monkeypatch.setenv("GANGPLAN_HOME", str(home))
    monkeypatch.setenv("GANGPLAN_HORIZON_HOURS", "24")
    monkeypatch.setenv("GANGPLAN_BACKTEST_ORIGINS", "2")
    return caller(monkeypatch, capsys)


@pytest.fixture
def filled(call: Call, home: Path) -> Call:
    """The command over forty days of a tenant's demand."""
    file = home / "demand.csv"
    if not file.exists():
        rows = ["hour,tenant,workload_class,accelerator,gpus"]
        for hour in range(24 * DAYS):
            gpus = 20 + 5 * (hour % 24 > 8) + hour % 7 / 10 + hour / 100
            rows.append(f"{_hour(hour)},search,latency,h100,{gpus:.2f}")
        file.write_text("\n".join(rows) + "\n")
        assert call("ingest", str(file)).code == 0
        assert call("init").code == 0
    return call


def _hour(hour: int) -> str:
    """The hour of January and February 2026."""
    day = hour // 24
    month, date = (1, day + 1) if day < 31 else (2, day - 30)
    return f"2026-{month:02}-{date:02}T{hour % 24:02}:00:00Z"


def test_growth_is_shown_and_drawn(filled: Call, tmp_path: Path) -> None:
    """The total and the tenant grow, with a range, and the picture is a PNG."""
    said = filled("forecast", "--days", "30", "--plot", str(tmp_path / "growth.png"), "--json").json
    assert [one["name"] for one in said["trends"]] == ["all", "search"]
    month = said["trends"][0]["per_month"]
    assert 0 < month["low"] <= month["middle"] <= month["high"]
    assert (tmp_path / "growth.png").read_bytes()[:4] == b"\x89PNG"
    assert "growth a month" in filled("forecast", "--days", "30").out


def test_plot_that_cannot_be_written_is_one_line(filled: Call) -> None:
    """A folder that is not there is named with a remedy."""
    said = filled("forecast", "--plot", "/nowhere/growth.png")
    assert said.code == 2
    assert said.err.count("\n") == 1
    assert "plot: /nowhere/growth.png cannot be written" in said.err


def test_full_day_of_each_pool_is_named(filled: Call) -> None:
    """Each accelerator of the fleet file has its line, the day it is full or that it is not within a year."""
    said = filled("forecast", "--when-full", "--json").json
    assert {"accelerator", "capacity", "busiest_now", "early", "middle", "late"} == set(said[0])
    assert "8 of 10 cases" in filled("forecast", "--when-full").out


def test_events_are_told_and_shown(filled: Call, tmp_path: Path) -> None:
    """A calendar is brought in, its bad row named; its kinds appear with their lift, and what lies ahead."""
    file = tmp_path / "calendar.csv"
    file.write_text(
        "start,end,kind,tenant\n2099-03-10T08:00:00Z,2099-03-11T08:00:00Z,launch,search\nsoon,2099-01-01T00:00:00Z,launch,\n"
    )
    told = filled("forecast", "tell", str(file), "--json").json
    assert (told["rows"], told["rejected_count"], told["kinds"]) == (1, 1, {"launch": 1})
    said = filled("forecast", "events", "--json").json
    assert (said["lifts"][0]["kind"], said["lifts"][0]["occurrences"]) == ("launch", 0)
    assert [one["kind"] for one in said["ahead"]] == ["launch"]
    assert "launch" in filled("forecast", "events").out


def test_minutes_of_serving(filled: Call, home: Path) -> None:
    """Job records give GPUs in steps of minutes; without samples of requests it is said what brings them in."""
    folder = home / "serving"
    folder.mkdir()
    header = "job_id,tenant,workload_class,accelerator,gpus,submitted_at,started_at,ended_at"
    jobs = [
        f"j{place},search,latency,h100,{1 + place % 3},{_hour(place // 4)},{_hour(place // 4)},{_hour(place // 4 + 2)}"
        for place in range(4 * 24 * 6)
    ]
    (folder / "jobs.csv").write_text("\n".join([header, *jobs]) + "\n")
    assert filled("ingest", str(folder)).code == 0
    said = filled("forecast", "minutes", "--step", "10", "--hours", "1", "--json").json
    assert (said["of"], said["step_minutes"], len(said["rows"])) == ("gpus", 10, 6)
    assert said["rows"][0]["time"] == said["from"]
    assert all(row["q0.1"] <= row["q0.5"] <= row["q0.99"] for row in said["rows"])
    again = filled("forecast", "minutes", "--step", "10", "--hours", "1", "--json").json
    assert (said["learned"], again["learned"]) == (True, False)
    assert (again["run_id"], again["rows"]) == (said["run_id"], said["rows"])
    assert "30 min" in filled("forecast", "minutes", "--step", "10", "--hours", "1").out
    assert "requests per second" in filled("forecast", "minutes", "--of", "requests").err


def test_drift_and_spikes_say_what_is_missing(filled: Call) -> None:
    """Without a champion, or a plan, the way to one is named."""
    assert "gangplan train" in filled("forecast", "drift").err
    assert "gangplan plan" in filled("forecast", "spikes").err
