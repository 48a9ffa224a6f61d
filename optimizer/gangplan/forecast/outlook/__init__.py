"""Other horizons: months, totals, minutes."""
