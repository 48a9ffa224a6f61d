"""The search for the cheapest fleet: decomposition, bounds, rounding."""
