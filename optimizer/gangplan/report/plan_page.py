"""One plan as an HTML file: its drawing over the demand, why it is so, its pools, shortages and limits."""

from __future__ import annotations

from pathlib import Path

from gangplan.config import write_atomic
from gangplan.pages import DARK, LIGHT, OPACITY, templates
from gangplan.report import capacity, tables
from gangplan.types import Forecast, Plan


def write_plan(path: Path, plan: Plan, forecast: Forecast) -> Path:
    """Write a plan's page whole or not at all, and return its path; it has no scripts and nothing to fetch."""
    template = templates(Path(__file__).parent).get_template("plan.html.j2")
    text = template.render(
        light=LIGHT, dark=DARK, opacity=OPACITY, plan=plan, forecast=forecast, capacity=capacity, tables=tables
    )
    write_atomic(path, text)
    return path
