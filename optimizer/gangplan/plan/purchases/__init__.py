"""Months ahead: what to buy for which term, from typical weeks and growth; stated with the plan's own service rules."""
