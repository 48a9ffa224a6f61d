"""Questions to a plan: what if, and instead of what."""
