from .reading import read_prometheus as read_prometheus
