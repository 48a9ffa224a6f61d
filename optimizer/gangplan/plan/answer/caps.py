"""From work under caps on the demand paths to one cap for each class, pool and hour."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import polars as pl

from gangplan.plan.answer.solution import TOLERANCE, Solution
from gangplan.plan.problem import Array
from gangplan.tables import PLAN_CAPS, conform
from gangplan.types import PowerCurve, PowerPoint, WorkloadClass

_SLACK = 1e-6
"""A mean speed this much below a point's is the solver's rounding."""


def caps_of(solution: Solution) -> pl.DataFrame | None:
    """Return the lowest cap under which each class is at least as fast as the plan counts on in the mean of its paths.

    So a cap never takes more speed than was planned. There are rows where work is expected, and none at all where no
    curve was measured.
    """
    problem = solution.problem
    if not problem.modes:
        return None
    rows: list[dict[str, Any]] = []
    for kind, g in dict.fromkeys(
        (problem.workloads[mode.workload].workload_class, mode.group) for mode in problem.modes
    ):
        curve = problem.policy.curve(kind, problem.groups[g].accelerator)
        if curve is not None:
            rows += _rows(solution, curve, kind, g)
    return conform("caps", pl.DataFrame(rows, schema=PLAN_CAPS), PLAN_CAPS).sort("hour", "pool", "workload_class")


def _rows(solution: Solution, curve: PowerCurve, kind: WorkloadClass, g: int) -> list[dict[str, Any]]:
    """Return the rows of one class on the pools of one group."""
    problem, rows = solution.problem, list[dict[str, Any]]()
    gpus, done = _work(solution, kind, g)
    for t in range(len(problem.periods)):
        if gpus[t] <= TOLERANCE:
            continue
        point = _slowest(curve, float(done[t] / gpus[t]))
        first = problem.start + timedelta(hours=int(problem.periods.starts[t]))
        for hour in range(problem.periods.lengths[t]):
            for p in problem.groups[g].pools:
                row = {
                    "hour": first + timedelta(hours=hour),
                    "pool": problem.pools[p].name,
                    "workload_class": kind.value,
                    "knob": curve.knob.value,
                    "setting": 0 if point is curve.points[-1] else point.setting,
                    "gpus": _share(solution, g, p, t) * float(gpus[t]),
                }
                rows.append({**row, "speed": point.speed, "watts": point.watts})
    return [row for row in rows if row["gpus"] > 0]


def _work(solution: Solution, kind: WorkloadClass, g: int) -> tuple[Array, Array]:
    """Return the GPUs at work for a class on a group in the mean of the paths, and the same times their speed."""
    problem = solution.problem
    members = [
        w for w, load in enumerate(problem.workloads) if load.workload_class is kind and (w, g) in solution.serve
    ]
    gpus = sum(solution.serve[w, g].mean(axis=0) for w in members)
    lost = sum(
        (1 - mode.point.speed) * capped.mean(axis=0)
        for mode, capped in zip(problem.modes, solution.capped, strict=True)
        if mode.group == g and mode.workload in members
    )
    return gpus, gpus - lost  # pyright: ignore[reportReturnType] - there is a mode, so neither sum is empty


def _slowest(curve: PowerCurve, speed: float) -> PowerPoint:
    """Return the lowest point that is at least as fast."""
    return next((point for point in curve.points if point.speed >= speed - _SLACK), curve.points[-1])


def _share(solution: Solution, g: int, p: int, t: int) -> float:
    """Return the share of a group's GPUs that stand in one pool."""
    gpus = solution.nodes[:, t] * solution.problem.usable_gpus
    total = float(gpus[list(solution.problem.groups[g].pools)].sum())
    return float(gpus[p]) / total if total else 0.0
