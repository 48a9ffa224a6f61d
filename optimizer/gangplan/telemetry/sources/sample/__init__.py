"""The sample: a made-up cluster with its jobs and metrics."""
