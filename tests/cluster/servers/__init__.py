"""A real cluster on this machine, from published Go modules."""
