"""What a run's page shows of a step: figures as metrics, a model by its name in MLflow, the rest as Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gangplan import summaries

if TYPE_CHECKING:
    from gangplan.telemetry import IngestReport
    from gangplan.types import Learning, Plan, Training
    from gangplan.workflows import Applied
    from gangplan_kfp.support.holding import Taken


def write(artifact: Any, text: str) -> None:
    """Write a Markdown artifact."""
    Path(artifact.path).write_text(text)


def log_metrics(artifact: Any, figures: Mapping[str, float]) -> None:
    """Log the finite figures: KFP fails on NaN, which an empty back-test gives."""
    for name, value in figures.items():
        if math.isfinite(value):
            artifact.log_metric(name, float(value))


def point_at_model(artifact: Any, version: str, figures: Mapping[str, float], **more: str) -> None:
    """Let a Model artifact name a version in MLflow's registry, with its finite figures: nothing is copied."""
    artifact.uri = f"models:/gangplan-demand/{version}"
    finite = {name: value for name, value in figures.items() if math.isfinite(value)}
    artifact.metadata.update({"framework": "mlflow", "version": version, **finite, **more})


def ingest_figures(brought: IngestReport) -> dict[str, float]:
    """Return how much an import brought, and how old its last hour is."""
    summary = summaries.of_ingest(brought)
    return {name: float(summary[name]) for name in ("rows", "rejected_count", "series", "jobs", "age_hours")}


def of_ingest(brought: IngestReport) -> str:
    """Return a page about an import: its span, its counts, what was kept out and why."""
    summary = summaries.of_ingest(brought)
    rows = [(name, summary[name]) for name in ("source", "start", "end", "rows", "rejected_count", "series", "jobs")]
    kept = "Already there" if brought.reused else "Written"
    lines = [*summary["notes"], *(f"kept out: {row}" for row in summary["rejected"])]
    words = "\n".join(f"- {line}" for line in lines)
    return (
        f"# Telemetry up to {summary['end']}\n\n{kept}: run {brought.run_id}\n\n{_table(('', ''), rows)}\n\n{words}\n"
    )


def learning_figures(learning: Learning) -> dict[str, float]:
    """Return how the plan did, and the forecast before and after what was learned."""
    summary = summaries.of_learning(learning)
    return {name: float(value) for name, value in summary.items() if isinstance(value, int | float)}


def of_learning(learning: Learning) -> str:
    """Return a page about what happened beside what was planned."""
    summary = summaries.of_learning(learning)
    rows = [(name, f"{value:,.2f}") for name, value in learning_figures(learning).items()]
    return f"# Planned against happened, {summary['start']} to {summary['end']}\n\n{_table(('', ''), rows)}\n"


def of_taken(taken: Taken) -> str:
    """Return a page about a granted reservation: its nodes, its lease, and what it waited for."""
    held = taken.reservation
    summary = summaries.of_reservation(held)
    places = [(p.pool, p.node, p.pods, p.gpus) for p in held.placements]
    return "\n\n".join(
        (
            f"# {held.request.gpus} GPUs for {held.request.tenant}: {held.state.value}",
            _table(
                ("", ""),
                [
                    ("lease until", summary["expires_at"]),
                    ("waited", f"{summary['waited_s']} s"),
                    ("reservation", summary["id"]),
                    ("key", summary["key"]),
                    ("fencing token", summary["token"]),
                ],
            ),
            _table(("pool", "node", "pods", "GPUs"), places),
            "## What the step said",
            "\n".join(f"- {line}" for line in taken.lines),
        )
    )


def training_figures(training: Training) -> dict[str, float]:
    """Return the figures of the back-test."""
    return {
        "wql_percent": training.wql,
        "naive_wql_percent": training.naive_wql,
        "coverage_80": training.coverage_80,
        "promoted": float(training.promoted),
    }


def of_training(training: Training) -> str:
    """Return a page about a training: the back-test, and whether the model became champion."""
    verdict = "champion" if training.promoted else "challenger"
    rows = [(name, f"{value:.3f}") for name, value in training_figures(training).items() if name != "promoted"]
    notes = "\n".join(f"- {note}" for note in (training.reason, *training.notes))
    return f"# Demand model {training.version}: {verdict}\n\n{_table(('back-test', ''), rows)}\n\n{notes}\n"


def plan_figures(plan: Plan) -> dict[str, float]:
    """Return the plan's cost, proven gap and shortage."""
    summary = summaries.of_plan(plan)
    return {name: summary[name] for name in ("total_cost", "gap", "expected_short_gpu_hours", "p95_short_gpu_hours")}


def of_plan(plan: Plan) -> str:
    """Return a page about a plan: its cost by pool, and who is short of GPUs, when and why."""
    summary = summaries.of_plan(plan)
    costs = [(pool, f"{cost:,.2f}") for pool, cost in summary["cost"].items()]
    words = "\n".join(f"- {line}" for line in plan.explanation)
    return f"# Plan {plan.plan_id}: {summary['total_cost']:,.2f}\n\n{_table(('pool', 'cost'), costs)}\n\n{words}\n"


def apply_figures(applied: Applied) -> dict[str, float]:
    """Return how many steps were done, wait and were refused, and what the nodes cost per hour before and after."""
    summary = summaries.of_applied(applied)
    counts = {name: float(len(summary[name])) for name in ("done", "waiting", "refused")}
    return {**counts, **{f"cost_per_hour_{when}": cost for when, cost in summary["cost_per_hour"].items()}}


def of_applied(applied: Applied) -> str:
    """Return a page about a pass that carried a plan out: each step, why, and what it waits for."""
    summary = summaries.of_applied(applied)
    rows = [
        (state, step["pool"], step["kind"], step["before"], step["after"], step["waits_for"] or step["why"])
        for state in ("done", "waiting")
        for step in summary[state]
    ]
    rows += [("refused", s["pool"], s["kind"], s["before"], s["after"], s["said"]) for s in summary["refused"]]
    title = "reached" if summary["reached"] else "on the way"
    return f"# The plan is {title}\n\n{_table(('', 'pool', 'step', 'from', 'to', 'why, or waits for'), rows)}\n"


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    """Return a Markdown table."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
