"""`gangplan plan commitments`: from telemetry and from a table, in words, in JSON and as pictures."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from tests.command import Call, caller, widen
from tests.plan.builders import pool_of

from gangplan.config import write_fleet
from gangplan.plan.purchases.demand import add_months
from gangplan.types import Fleet, PoolKind, Term

TABLE = "month,tenant,workload_class,accelerator,gpus,low,high\n" + "".join(
    f"2026-{month:02},ann,throughput,h100,{20 + 4 * month},{18 + 2 * month},{24 + 8 * month}\n" for month in range(1, 7)
)


@pytest.fixture
def home(tmp_path: Path, mlflow_template: Path) -> Path:
    """A home with a fleet that has an offer, and a store without telemetry."""
    store = tmp_path / "mlflow" / "mlflow.db"
    store.parent.mkdir()
    store.write_bytes(mlflow_template.read_bytes())
    pools = (pool_of("term", "h100", PoolKind.COMMITTED, max_nodes=6), pool_of("free", "h100", max_nodes=6))
    write_fleet(
        tmp_path / "fleet.yaml",
        Fleet(pools=pools, terms=(Term(pool="term", months=6, price_per_node_hour=11.0),)),
    )
    (tmp_path / "demand.csv").write_text(TABLE)
    return tmp_path


@pytest.fixture
def call(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Call the command as a shell would, in this process."""
    monkeypatch.setenv("GANGPLAN_HOME", str(home))
    widen(monkeypatch, 160)
    return caller(monkeypatch, capsys)


def test_a_table_says_what_to_buy(call: Call, home: Path) -> None:
    """Steady growth is bought for; the page, the SVG and the PNG are written; a wrong ending is refused."""
    said = call("plan", "commitments", "--demand", str(home / "demand.csv"), "--paths", "3", "--json").json
    assert (said["start"], said["end"]) == ("2026-01-01", "2026-07-01")
    assert sum(one["nodes"] for one in said["purchases"]) >= 2
    assert said["purchases"][0]["pool"] == "term"
    assert said["earnings"][0]["earns"] > 0
    assert [one["name"] for one in said["ways"]] == ["this plan", "nothing for a term", "the busiest hour for a term"]
    assert said["demand"][0]["q0.5"] == pytest.approx(24)
    for name, begins in (("buy.html", b"<!doctype html>"), ("buy.svg", b"<?xml"), ("buy.png", b"\x89PNG")):
        shown = call(
            "plan", "commitments", "--demand", str(home / "demand.csv"), "--paths", "2", "--plot", str(home / name)
        )
        assert f"wrote {home / name}" in shown.out.replace("\n", "")
        assert "Order now" in shown.out
        assert (home / name).read_bytes().lstrip().startswith(begins)
    assert "term" in (home / "buy.html").read_text()
    wrong = call("plan", "commitments", "--demand", str(home / "demand.csv"), "--plot", str(home / "buy.pdf"))
    assert (wrong.code, "must end in .html, .svg or .png" in wrong.err) == (2, True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("2026-03", "2026-13"), "demand line 4: month"),
        (("32,24", "-1,24"), "demand line 4: gpus: -1.0"),
        (("throughput", "bulk"), "workload_class: 'bulk' is not a workload class"),
        (("accelerator", "chip"), "demand.accelerator"),
        (("2026-03", "2026-09"), "must have each month from 2026-01 once"),
    ],
)
def test_a_wrong_table_is_named(change: tuple[str, str], said: str, call: Call, home: Path) -> None:
    """What is no month, no number, no class or no column is one line with its place, and the exit code is 2."""
    (home / "demand.csv").write_text(TABLE.replace(*change))
    wrong = call("plan", "commitments", "--demand", str(home / "demand.csv"))
    assert (wrong.code, wrong.out) == (2, "")
    assert said in wrong.err


def test_telemetry_and_its_growth_say_what_to_buy(call: Call, home: Path) -> None:
    """Without a table the trend is looked at; a fleet without offers is looked at with the catalogue's."""
    start, rows = datetime(2026, 1, 1, tzinfo=UTC), ["hour,tenant,workload_class,accelerator,gpus"]
    for hour in range(24 * 40):
        gpus = 20 + 5 * (hour % 24 > 8) + hour / 60
        rows.append(f"{start + timedelta(hours=hour):%Y-%m-%dT%H:%M:%SZ},search,latency,h100,{gpus:.2f}")
    (home / "usage.csv").write_text("\n".join(rows) + "\n")
    assert call("ingest", str(home / "usage.csv"), "--replay").code == 0
    write_fleet(home / "fleet.yaml", Fleet(pools=(pool_of("h100-on-demand", "h100", max_nodes=12),)))
    said = call("plan", "commitments", "--months", "2", "--paths", "3", "--json").json
    assert add_months(date.fromisoformat(said["start"]), 2).isoformat() == said["end"]
    assert len(said["demand"]) == 2
    assert {one["pool"] for one in said["full"]} == {"h100-on-demand", "h100-committed"}
    assert "estimates of" in said["explanation"][-1]
    assert 25 < said["demand"][0]["q0.1"] < said["demand"][1]["q0.9"] < 100
