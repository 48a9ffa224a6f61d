"""How long a search goes on: a short run in `make test`, a long one in `make test-long`.

In a short run the same cases are tried each time; in a long one others each time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings

T = TypeVar("T")
LONG = bool(os.environ.get("GANGPLAN_TEST_LONG"))
settings.register_profile(
    "tests",
    derandomize=not LONG,
    database=None,
    deadline=None,  # how fast an example runs is the machine's load, too
    suppress_health_check=list(HealthCheck),
)


def effort(short: T, long: T) -> T:
    """Return what this run can afford; the test that asks is marked `searches`."""
    return long if LONG else short


def examples(short: int, long: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let Hypothesis try so many examples in a short run, and so many in a long one."""

    def decorate(test: Callable[..., Any]) -> Callable[..., Any]:
        return pytest.mark.searches(settings(max_examples=effort(short, long))(test))

    return decorate
