"""Who only reads plans does not wait for the solver's libraries."""

from __future__ import annotations

import subprocess
import sys

from gangplan import plan


def test_reading_plans_needs_no_solver() -> None:
    """Neither Pyomo nor HiGHS nor scipy.stats is imported to list and read plans."""
    program = """
import sys
from gangplan import plan
plan.list_plans, plan.read_plan, plan.explain, plan.orders
assert not {"pyomo", "highspy", "scipy.stats"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_each_name_is_the_same_whenever_it_is_asked_for() -> None:
    """No module of the same name takes its place once it was imported."""
    first = {name: getattr(plan, name) for name in dir(plan)}
    assert all(getattr(plan, name) is found for name, found in first.items())
    assert all(map(callable, first.values()))
