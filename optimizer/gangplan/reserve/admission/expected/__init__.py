"""When a waiting gang is expected to start."""
