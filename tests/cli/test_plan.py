"""`gangplan plan ...`: plans are listed, explained, asked, compared, told apart, approved and published."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.command import Call, caller, widen
from tests.plan.builders import pool_of, wave

from gangplan import plan
from gangplan.config import Settings
from gangplan.testing import a_forecast
from gangplan.tracking import Store
from gangplan.types import Fleet, Plan, PoolKind

START = datetime(2026, 3, 2, 9, tzinfo=UTC)
FLEET = Fleet(
    pools=(
        pool_of("main", "h100", min_nodes=1, max_nodes=6, lead_time_hours=1),
        pool_of("cheap", "h100", PoolKind.SPOT, price_per_node_hour=7, max_nodes=3, interruption_per_hour=0.05),
    ),
    nodes={"main": 2},
)


def made(day: int, store: Store, home: Path) -> Plan:
    """A plan that is kept and not published."""
    start = START + timedelta(days=day)
    demand = {
        ("vision", "latency", "h100"): wave(12 + 2 * day, 0.5, 24),
        ("risk", "throughput", "h100"): wave(14, 0.3, 24),
    }
    ahead = a_forecast(demand, start)
    settings = Settings(home=home, horizon_hours=24, scenarios=3)
    return plan.log_plan(plan.solve(ahead, FLEET, settings=settings), ahead, store)


@pytest.fixture
def plans(mlflow_store: Store, tmp_path: Path) -> tuple[Plan, Plan]:
    """Monday's and Tuesday's plan."""
    return made(0, mlflow_store, tmp_path), made(1, mlflow_store, tmp_path)


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Call the command as a shell would, in this process."""
    monkeypatch.setenv("GANGPLAN_HOME", str(tmp_path))
    widen(monkeypatch, 160)
    return caller(monkeypatch, capsys)


def test_plans_are_listed_explained_and_told_apart(plans: tuple[Plan, Plan], call: Call) -> None:
    """The newest stands first; each is explained by its id; a diff is over the hours that both have."""
    monday, tuesday = plans
    assert [row["plan_id"] for row in call("plan", "list", "--json").json] == [tuesday.plan_id, monday.plan_id]
    assert call("plan", "explain", "--json").json["plan_id"] == tuesday.plan_id
    assert "The fleet costs" in call("plan", "explain", monday.plan_id).out
    same = call("plan", "diff", monday.plan_id, monday.plan_id, "--json").json
    assert (same["hours_in_common"], same["pools"]) == (24, {})
    other = call("plan", "diff", monday.plan_id, tuesday.plan_id, "--json").json
    assert other["hours_in_common"] == 0
    assert other["cost"] == {"a": round(monday.total_cost, 2), "b": round(tuesday.total_cost, 2)}
    assert call("plan", "diff", monday.plan_id, monday.plan_id).code == 0


def test_a_plans_orders_are_listed(plans: tuple[Plan, Plan], call: Call) -> None:
    """Each start of the next hours has the moment at which to order it, an hour ahead where nodes take one."""
    said = call("plan", "orders", plans[0].plan_id, "--json").json
    assert said
    for one in said:
        ahead = datetime.fromisoformat(one["serve_at"]) - datetime.fromisoformat(one["order_at"])
        assert ahead == timedelta(hours=1 if one["nodes"] > 0 and one["pool"] == "main" else 0)
    assert said[0]["words"].split(" (")[0] in call("plan", "orders", plans[0].plan_id).out.replace("\n", " ")


def test_accelerators_are_listed_by_what_they_can(call: Call) -> None:
    """The catalogue's entries with a feature, in words and JSON; a kind and a feature that are none are refused."""
    said = call("plan", "accelerators", "--feature", "bf16", "--memory", "90", "--kind", "tpu", "--json").json
    assert [one["name"] for one in said["accelerators"]] == ["tpu-v5p"]
    assert "estimated as of" in call("plan", "accelerators", "--kind", "asic").out
    assert "'npu' is no kind of accelerator" in call("plan", "accelerators", "--kind", "npu").err
    assert "did you mean bf16" in call("plan", "accelerators", "--feature", "bf61").err


def test_a_question_is_answered_side_by_side_and_writes_nothing(plans: tuple[Plan, Plan], call: Call) -> None:
    """More demand costs more, a budget costs service; no run is added; a wrong question exits with 2."""
    said = call("plan", "what-if", "--demand", "tenant:vision=+50%", "--json").json
    assert said["then"]["price"] > said["now"]["price"]
    assert said["now"]["cost"] == pytest.approx(plans[1].total_cost, abs=0.01)
    tight = call("plan", "what-if", "--plan", plans[0].plan_id, "--budget", "500", "--json").json
    assert tight["then"]["cost"] <= 500 < tight["now"]["cost"]
    assert tight["then"]["short_gpu_hours"] > tight["now"]["short_gpu_hours"]
    assert "Proven within" in call("plan", "what-if", "--pool", "main.max=+1").out
    wrong = call("plan", "what-if", "--pool", "main.size=1")
    assert (wrong.code, wrong.out) == (2, "")
    assert "NAME.FIELD=AMOUNT" in wrong.err
    assert len(call("plan", "list", "--json").json) == 2


def test_a_plan_is_compared_with_rules_of_thumb(plans: tuple[Plan, Plan], call: Call, mlflow_store: Store) -> None:
    """Six ways to run the fleet on the same fresh paths, kept with the plan."""
    rows = call("plan", "compare", plans[0].plan_id, "--json").json
    assert rows[0]["name"] == "this plan"
    assert len(rows) == 6
    assert plans[0].run_id is not None
    assert mlflow_store.read_table(plans[0].run_id, "alternatives").height == 6
    assert "95 % worst" in call("plan", "compare").out


def test_a_plan_is_approved_and_published(plans: tuple[Plan, Plan], call: Call, mlflow_store: Store) -> None:
    """Who approved and why is kept; a published plan is the ledger's calendar and the one that is applied."""
    monday, tuesday = plans
    assert call("apply", "--dry-run").code == 3  # nothing is published yet
    assert "approved by ada" in call("plan", "approve", monday.plan_id, "--by", "ada", "--why", "in budget").out
    done = call("plan", "publish", monday.plan_id, "--json").json
    assert (done["plan_id"], done["conflicts"]) == (monday.plan_id, [])
    listed = {row["plan_id"]: row for row in call("plan", "list", "--json").json}
    assert (listed[monday.plan_id]["published"], listed[tuesday.plan_id]["published"]) == ("yes", "")
    assert listed[monday.plan_id]["approved.note"].endswith("by ada: in budget")
    assert plan.read_published(mlflow_store).plan_id == monday.plan_id
    before = plan.plan_before(mlflow_store, START + timedelta(days=1))
    assert before is not None
    assert before.plan_id == monday.plan_id
    assert plan.plan_before(mlflow_store, START) is None
    assert call("plan", "publish", "plan-none").code == 3
