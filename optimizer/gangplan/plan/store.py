"""Plans in MLflow: one run each, with hashes of its inputs, its tables, and the forecast that it was made from."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from mlflow.entities import Metric, Param, Run
from mlflow.exceptions import MlflowException

from gangplan.clock import parse_utc
from gangplan.config import read_fleet, write_fleet
from gangplan.errors import NotFoundError
from gangplan.plan.answer import explain
from gangplan.tables import (
    PLAN_CAPS,
    PLAN_COST,
    PLAN_LIMITS,
    PLAN_NODES,
    PLAN_SHORTAGE,
    QUANTILE_TABLE,
    Schema,
    conform,
)
from gangplan.tracking import PLAN, Store
from gangplan.types import Forecast, Plan, PlanId, require_name

if TYPE_CHECKING:
    from gangplan.plan.questions import Alternative  # it brings Pyomo

_TABLES: dict[str, Schema] = {
    "nodes": PLAN_NODES,
    "cost": PLAN_COST,
    "shortage": PLAN_SHORTAGE,
    "limits": PLAN_LIMITS,
}
_FIELDS = ("plan_id", "status", "gap", "total_cost", "explanation", "seed", "forecast_model", "settings", "inputs")
_REMEDY = "run `gangplan plan`"
_ONCE = "plan.once"
_MOST_NAMED = 20  # a tag has room for some thousand characters
_SCORED_AFTER = timedelta(hours=24)
"""A plan is scored once a day of it has passed."""


def log_plan(plan: Plan, forecast: Forecast, store: Store, *, once: str = "") -> Plan:
    """Keep a plan as an MLflow run and return it with its `run_id`; `once` names who asked for it.

    The run has the settings and the seed as parameters, the sha256 of forecast and fleet as tags, and cost, gap and
    shortage as metrics. Its files are the tables, `explanation.md` and `fleet.yaml`.
    """
    tags = {
        "plan_id": plan.plan_id,
        "status": plan.status,
        **({_ONCE: once} if once else {}),
        "forecast_issued_at": forecast.issued_at.isoformat(),
        "forecast_model": forecast.model,
        "forecast_run_id": forecast.run_id or "",
        "forecast_corrected_by": forecast.corrected_by or "",
        "forecast_known_until": "" if forecast.known_until is None else forecast.known_until.isoformat(),
        "forecast_stands_out": json.dumps(forecast.stands_out[:_MOST_NAMED]),
    }
    with store.run(PLAN, plan.plan_id, tags) as run_id:
        given = {"seed": plan.seed, "pools": len(plan.fleet.pools), **plan.settings}
        store.client.log_batch(
            run_id, metrics=_metrics(plan), params=[Param(name, str(value)) for name, value in given.items()]
        )
        for name, schema in _TABLES.items():
            store.log_table(run_id, name, conform(name, getattr(plan, name), schema))
        if plan.caps is not None:
            store.log_table(run_id, "caps", conform("caps", plan.caps, PLAN_CAPS))
        store.log_table(run_id, "forecast", conform("forecast", forecast.quantiles, QUANTILE_TABLE))
        _log_files(plan, store, run_id)
    return replace(plan, run_id=run_id)


def read_plan(store: Store, plan_id: PlanId | None = None) -> tuple[Plan, Forecast]:
    """Return a plan, by default the newest, and the forecast that it was made from."""
    tags = {} if plan_id is None else {"plan_id": require_name("plan", plan_id)}
    return _read(store, store.latest(PLAN, tags, remedy=_REMEDY))


def plan_made_once(store: Store, once: str) -> Plan | None:
    """Return the plan that was made for who asks in that name, if it was."""
    return next((_read(store, run)[0] for run in store.runs(PLAN, {_ONCE: once})), None)


def read_published(store: Store, known: Plan | None = None) -> Plan:
    """Return the newest published plan; where that is `known`, nothing of it is read again."""
    run = store.latest(PLAN, {"published": "yes"}, remedy=f"{_REMEDY}, or `gangplan plan publish`")
    return known if known is not None and known.run_id == run.info.run_id else _read(store, run)[0]


def plan_before(store: Store, start: datetime) -> Plan | None:
    """Return the newest published plan that begins before `start`, if any: the one that a new plan follows."""
    for run in store.runs(PLAN, {"published": "yes"}, limit=50):
        if parse_utc("issued_at", run.data.tags["forecast_issued_at"]) < start:
            return _read(store, run)[0]
    return None


def mark(store: Store, plan: Plan, state: str, note: str, *, yes: bool = True) -> None:
    """Mark a plan's run as "published", "approved", "rejected" or "asked" (or no longer), with a note."""
    if plan.run_id is None:
        raise NotFoundError(f"plan {plan.plan_id}: is not kept: {_REMEDY}")
    store.client.set_tag(plan.run_id, state, "yes" if yes else "no")
    store.client.set_tag(plan.run_id, f"{state}.note", note)


def is_approved(store: Store, plan: Plan) -> bool:
    """Whether somebody has approved a plan."""
    return _is_marked(store, plan, "approved")


def is_rejected(store: Store, plan: Plan) -> bool:
    """Whether somebody has rejected a plan."""
    return _is_marked(store, plan, "rejected")


def is_published(store: Store, plan: Plan) -> bool:
    """Whether a plan was published."""
    return _is_marked(store, plan, "published")


def _is_marked(store: Store, plan: Plan, state: str) -> bool:
    return plan.run_id is not None and store.client.get_run(plan.run_id).data.tags.get(state) == "yes"


def list_plans(store: Store) -> list[dict[str, str]]:
    """Return the tags of the plans' runs, the newest first."""
    states = ("published", "approved", "approved.note", "rejected", "rejected.note", "asked")
    names = ("plan_id", "status", "forecast_issued_at", *states)
    return [{name: run.data.tags.get(name, "") for name in names} for run in store.runs(PLAN, limit=100)]


def log_alternatives(store: Store, plan: Plan, alternatives: Sequence[Alternative]) -> None:
    """Keep a plan's comparison with its alternatives in its run."""
    if plan.run_id is not None:
        store.log_table(plan.run_id, "alternatives", pl.DataFrame([vars(alternative) for alternative in alternatives]))


def log_report(store: Store, plan: Plan, text: str) -> None:
    """Keep the report's page with its plan."""
    if plan.run_id is not None:
        store.client.log_text(plan.run_id, text, "report.html")
        store.client.set_tag(plan.run_id, "reported", "yes")


def read_alternatives(store: Store, plan: Plan) -> pl.DataFrame | None:
    """Return a plan's comparison with its alternatives, if it was made."""
    if plan.run_id is None:
        return None
    try:
        return store.read_table(plan.run_id, "alternatives")
    except NotFoundError:
        return None


def plan_that_ran(store: Store, until: datetime) -> tuple[Plan, Forecast] | None:
    """Return the newest plan made at least a day before `until`, if there is one."""
    for run in store.runs(PLAN, limit=1000):
        if parse_utc("issued_at", run.data.tags["forecast_issued_at"]) <= until - _SCORED_AFTER:
            return _read(store, run)
    return None


def _metrics(plan: Plan) -> list[Metric]:
    at = int(plan.issued_at.timestamp() * 1000)
    figures = {
        "total_cost": plan.total_cost,
        "gap": plan.gap,
        "expected_short_gpu_hours": float(plan.shortage["expected_gpus"].sum()),
        **{f"cost.{pool}": cost for pool, cost in plan.cost.select("pool", "cost").iter_rows()},
    }
    return [Metric(name, value, at, 0) for name, value in figures.items()]


def _log_files(plan: Plan, store: Store, run_id: str) -> None:
    """Keep the plan's own fields, the fleet and the explanation."""
    fields = {name: getattr(plan, name) for name in _FIELDS}
    fields |= {"issued_at": plan.issued_at.isoformat(), "caps": plan.caps is not None}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "plan.json").write_text(json.dumps(fields, indent=1))
        (folder / "explanation.md").write_text(explain(plan) + "\n")
        write_fleet(folder / "fleet.yaml", plan.fleet)
        (folder / "warm_start.npz").write_bytes(plan.warm_start)
        digest = hashlib.sha256((folder / "fleet.yaml").read_bytes()).hexdigest()
        store.client.set_tag(run_id, "sha256.fleet", digest)
        for file in sorted(folder.iterdir()):
            store.client.log_artifact(run_id, str(file))  # pyright: ignore[reportUnknownMemberType]


def _read(store: Store, run: Run) -> tuple[Plan, Forecast]:
    run_id, tags = run.info.run_id, run.data.tags
    with tempfile.TemporaryDirectory() as folder:
        fields: dict[str, Any] = json.loads(_download(store, run_id, "plan.json", folder).read_text())
        fleet = read_fleet(_download(store, run_id, "fleet.yaml", folder))
        fields["warm_start"] = _download(store, run_id, "warm_start.npz", folder).read_bytes()
    fields["issued_at"] = parse_utc("issued_at", fields["issued_at"])
    fields["explanation"] = tuple(fields["explanation"])
    fields["caps"] = store.read_table(run_id, "caps") if fields.get("caps") else None
    fields |= {name: store.read_table(run_id, name) for name in _TABLES}
    forecast = Forecast(
        issued_at=parse_utc("forecast_issued_at", tags["forecast_issued_at"]),
        model=tags["forecast_model"],
        quantiles=store.read_table(run_id, "forecast"),
        run_id=tags["forecast_run_id"] or None,
        corrected_by=tags["forecast_corrected_by"] or None,
        stands_out=tuple(json.loads(tags.get("forecast_stands_out", "[]"))),
        known_until=parse_utc("forecast_known_until", known) if (known := tags.get("forecast_known_until")) else None,
    )
    return Plan(**fields, fleet=fleet, run_id=run_id), forecast


def _download(store: Store, run_id: str, name: str, folder: str) -> Path:
    try:
        return Path(store.client.download_artifacts(run_id, name, folder))
    except (MlflowException, OSError) as error:
        raise NotFoundError(f"run {run_id}: no {name}: {error}: {_REMEDY}") from error
