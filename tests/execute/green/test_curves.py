"""Curves come from what was measured and from nothing else; mistakes are named with field, value and remedy."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from tests.command import Call, caller
from tests.effort import examples

from gangplan.errors import InputError
from gangplan.execute import green
from gangplan.execute.green.curves import Measured
from gangplan.tracking import Store
from gangplan.types import Knob, PowerCurve, PowerPoint, WorkloadClass

DAY = date(2026, 2, 1)
HEAD = "workload_class,accelerator,cap_watts,speed,watts,measured,job"


def rows(setting: int, speed: float, watts: float, *, job: str = "a", count: int = 5, **more: object) -> list[Measured]:
    """So many equal measurements."""
    given_ = {"workload_class": WorkloadClass.THROUGHPUT, "accelerator": "h100", "knob": Knob.CAP, "measured": DAY}
    return [Measured(**{**given_, "setting": setting, "speed": speed, "watts": watts, "job": job, **more})] * count


def table(path: Path, *lines: str) -> Path:
    """A CSV file of measurements, five of each line."""
    path.write_text("\n".join([HEAD, *(line for line in lines for _ in range(5)), ""]))
    return path


def test_speeds_are_beside_each_jobs_own_without_a_cap() -> None:
    """Two jobs count in other units; the curve is the median of their shares."""
    (curve,) = green.fit_curves(
        [*rows(400, 80, 390), *rows(700, 100, 690), *rows(400, 3.6, 380, job="b"), *rows(700, 4.0, 670, job="b")]
    )
    assert [(point.setting, point.speed, point.watts, point.samples) for point in curve.points] == [
        (400, 0.85, 385.0, 10),
        (700, 1.0, 680.0, 10),
    ]
    assert curve.measured == DAY


@examples(30, 300)
@given(
    data=st.lists(
        st.tuples(st.integers(100, 700), st.floats(0.2, 1.0), st.floats(60, 690)),
        min_size=2,
        max_size=6,
        unique_by=lambda row: row[0],
    )
)
def test_a_fit_is_monotone_or_is_refused(data: list[tuple[int, float, float]]) -> None:
    """Whatever was measured: what is no curve is never made one."""
    measured = [row for setting, speed, watts in data for row in rows(setting, speed, watts)]
    with suppress(InputError):
        (curve,) = green.fit_curves(measured)
        assert [point.setting for point in curve.points] == sorted(setting for setting, *_ in data)
        assert curve.points[-1].speed == 1


@pytest.mark.parametrize(
    ("measured", "words"),
    [
        (rows(700, 100, 690) + rows(400, 80, 390, count=4), r"cap_watts\[400\]: '4 samples' are fewer than 5: measure"),
        (rows(700, 100, 690) + rows(400, 110, 390), "speed: 1.0 at 700 is less than 1.1 at 400, by more than noise"),
        (rows(700, 100, 690) + rows(400, 80, 450), "watts: 450 is more than the cap of 400 W: the cap did not hold"),
        (rows(700, 100, 690) + rows(400, 80, 390, job="b"), "job: 'b' was not measured at cap_watts 700"),
        (rows(700, 100, 690) + rows(1200, 80, 390, knob=Knob.CLOCK), "clock_mhz: .* is beside cap_watts"),
        (rows(700, 100, 690), "'1 points' must be 2 or more"),
        ([], "are empty: measure each class"),
    ],
)
def test_what_makes_no_curve_is_refused(measured: list[Measured], words: str) -> None:
    """Too few, not rising, a cap that did not hold, speeds beside nothing: never a made-up point."""
    with pytest.raises(InputError, match=words):
        green.fit_curves(measured)


def test_noise_is_levelled_out() -> None:
    """A setting that seems slower by a hundredth is as fast as the one below."""
    (curve,) = green.fit_curves([*rows(300, 70, 290), *rows(500, 99.5, 480), *rows(600, 99, 560), *rows(700, 100, 690)])
    assert [point.speed for point in curve.points] == [0.7, 0.995, 0.995, 1.0]


def test_a_file_of_curves_is_read_back_and_its_mistakes_are_named(tmp_path: Path) -> None:
    """Other classes stay; a field that is wrong is named with file, line, value and remedy."""
    file = tmp_path / "power.yaml"
    assert green.read_curves(file) == ()
    first = green.write_curves(file, green.fit_curves([*rows(400, 80, 390), *rows(700, 100, 690)]))
    both = green.write_curves(
        file, green.fit_curves([*rows(300, 80, 290, accelerator="l4"), *rows(700, 100, 690, accelerator="l4")])
    )
    assert set(first) < set(both) == set(green.read_curves(file))
    text = file.read_text()
    for before, after, words in (
        ("speed: 0.8", "speed: 1.2", "speed: 1.0 is less than 1.2 at the lower cap_watts 400: measure again"),
        ("samples: 5", "samples: 4", r"samples: 4 must be .* at least 5 .*power.yaml line \d"),
        ("watts: 390", "wats: 390", r"watts: '' is missing.*power.yaml line \d"),
        ("knob: cap_watts", "knob: cap", r"knob: 'cap' .*power.yaml line \d"),
        ("setting: 700", "setting: 350", "setting: 350 must be greater than 400, before it"),
    ):
        file.write_text(text.replace(before, after, 1))
        with pytest.raises(InputError, match=words):
            green.read_curves(file)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("throughput,h100,400,,390,2026-02-01,a", r"speed: '' must be a number greater than 0 \(caps.csv line 2\)"),
        ("fast,h100,400,1,390,2026-02-01,a", "workload_class: 'fast' is no workload class: use one of latency"),
        ("throughput,h100,,1,390,2026-02-01,a", "cap_watts: '' give one of cap_watts and clock_mhz"),
        ("throughput,h100,400,1,nan,2026-02-01,a", "watts: 'nan' must be a number"),
        ("throughput,h100,400,1,390,yesterday,a", "measured: 'yesterday' is no day"),
        ("throughput,h100,400,1,390,,a", "measured: '' is no day: give it like 2026-03-01, or --measured"),
        ("throughput,,400,1,390,2026-02-01,a", "accelerator"),
        ("throughput,h100,400.5,1,390,2026-02-01,a", "cap_watts: 400.5 must be a whole number"),
    ],
)
def test_a_wrong_row_is_named(line: str, words: str, tmp_path: Path) -> None:
    """File, line, field, value, remedy."""
    with pytest.raises(InputError, match=words):
        green.measured_from_csv(table(tmp_path / "caps.csv", line))


def test_runs_of_mlflow_are_measurements(mlflow_store: Store) -> None:
    """Tags say class, accelerator and cap; the watts are those of MLflow's own system metrics."""
    client = mlflow_store.client
    for cap, speed, watts in ((400, 8.0, 380.0), (700, 10.0, 660.0)):
        run = client.create_run("0", start_time=int(datetime(2026, 2, 3, tzinfo=UTC).timestamp() * 1000))
        tags = {"workload_class": "throughput", "accelerator": "h100", "power_cap_watts": str(cap), "job": "resnet"}
        for name, value in tags.items():
            client.set_tag(run.info.run_id, f"gangplan.{name}", value)
        for step in range(5):
            client.log_metric(run.info.run_id, "samples_per_second", speed, step=step)
            for gpu in (0, 1):
                name = f"system/gpu_{gpu}_power_usage_watts"
                client.log_metric(run.info.run_id, name, watts + 20 * gpu, step=step)
    (curve,) = green.fit_curves(green.measured_from_mlflow(mlflow_store.uri, "samples_per_second"))
    assert [(point.setting, point.speed, point.watts) for point in curve.points] == [
        (400, 0.8, 390.0),
        (700, 1.0, 670.0),
    ]
    assert curve.measured == date(2026, 2, 3)
    with pytest.raises(InputError, match="metric: 'steps' is in no run that has the tags"):
        green.measured_from_mlflow(mlflow_store.uri, "steps")


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Call the command in a home of the test's own."""
    monkeypatch.setenv("GANGPLAN_HOME", str(tmp_path))
    return caller(monkeypatch, capsys)


def test_the_command_fits_keeps_shows_and_draws(call: Call, tmp_path: Path) -> None:
    """From a table to power.yaml and a picture; without a table it shows what there is."""
    assert "nothing is capped" in call("power", "curve").out
    file = table(tmp_path / "caps.csv", "cost,h100,400,80,390,2026-02-01,a", "cost,h100,700,100,690,2026-02-01,a")
    made = call("power", "curve", str(file), "--plot", str(tmp_path / "caps.svg"), "--json")
    assert made.code == 0, made.err
    assert [point["speed"] for point in made.json["curves"][0]["points"]] == [0.8, 1.0]
    assert "cost on h100, measured 2026-02-01" in (tmp_path / "caps.svg").read_text()
    assert "80.0%" in call("power", "curve", "--plot", str(tmp_path / "caps.png")).out
    assert (tmp_path / "caps.png").read_bytes().startswith(b"\x89PNG")
    few = call("power", "curve", str(file), "--least", "6")
    assert (few.code, "are fewer than 6" in few.err) == (2, True)
    assert call("power", "curve", "mlflow+sqlite:///x.db").code == 2
    assert call("power", "curve", str(file), "--plot", "x.pdf").code == 2


def test_points_are_checked_where_they_are_made(now: Callable[[], datetime]) -> None:
    """A curve made in code keeps the rules of the file."""
    low = PowerPoint(setting=400, speed=0.8, watts=390, samples=5)
    with pytest.raises(InputError, match="must be 1 at the highest setting"):
        PowerCurve(
            workload_class=WorkloadClass.COST,
            accelerator="h100",
            measured=DAY,
            points=(low, PowerPoint(setting=700, speed=0.9, watts=690, samples=5)),
        )
