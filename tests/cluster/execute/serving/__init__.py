"""Serving ahead of demand, on real autoscalers and buffers."""
