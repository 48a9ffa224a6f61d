"""What a solution says: the plan, its prices, its limits, its orders, in words."""
