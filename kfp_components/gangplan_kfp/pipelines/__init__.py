"""Pipelines made of gangplan's components."""
