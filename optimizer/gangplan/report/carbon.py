"""What a plan's nodes emit, from the fleet file's power and carbon intensity."""

from __future__ import annotations

from gangplan.types import Plan


def emission(plan: Plan) -> dict[str, float]:
    """Kilograms of carbon dioxide by pool; empty where the fleet file says nothing of power or carbon."""
    hourly = {
        pool.name: [
            pool.power_kw_per_node * pool.carbon_g_per_kwh / 1000 * factor
            for factor in (pool.carbon_factors or (1.0,) * 24)
        ]
        for pool in plan.fleet.pools
    }
    found = {name: 0.0 for name, row in hourly.items() if any(row)}
    for hour, pool, nodes in plan.nodes.select("hour", "pool", "nodes").iter_rows():
        if pool in found:
            found[pool] += nodes * hourly[pool][hour.hour]
    return found
