from .containers import read_containers as read_containers
from .reading import read_prometheus as read_prometheus
