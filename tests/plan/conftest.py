"""The sample of the plan's tests: six pools, ten series, a week."""

from __future__ import annotations

import pytest
from tests.plan.builders import SAMPLE, pool_of, wave

from gangplan.testing import a_forecast
from gangplan.types import Fleet, Forecast


@pytest.fixture(scope="session")
def sample_fleet() -> Fleet:
    """Six pools of three accelerators, and the lab."""
    return Fleet(
        pools=(
            pool_of("h100-owned", "h100", "owned", min_nodes=8, max_nodes=8, price_per_node_hour=16),
            pool_of("h100-on-demand", "h100", max_nodes=12, price_per_node_hour=32, lead_time_hours=2),
            pool_of("a100-owned", "a100", "owned", min_nodes=10, max_nodes=10, price_per_node_hour=9),
            pool_of("a100-on-demand", "a100", max_nodes=14, price_per_node_hour=20, lead_time_hours=1),
            pool_of("a100-spot", "a100", "spot", max_nodes=8, price_per_node_hour=7, interruption_per_hour=0.05),
            pool_of("l4-on-demand", "l4", gpus_per_node=4, max_nodes=60, price_per_node_hour=3.2, lead_time_hours=1),
            pool_of("h100-lab", "h100-lab", "owned", gpus_per_node=4, min_nodes=2, max_nodes=2, price_per_node_hour=8),
        ),
        nodes={"h100-owned": 8, "h100-on-demand": 2, "a100-owned": 10, "l4-on-demand": 14, "h100-lab": 2},
    )


@pytest.fixture(scope="session")
def sample_forecast() -> Forecast:
    """Ten series over 168 hours, a few hundred GPUs."""
    return a_forecast({series: wave(mean, swing, 168) for series, (mean, swing) in SAMPLE.items()})
