"""The controller as processes beside a cluster."""
