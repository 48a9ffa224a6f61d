"""What containers used of CPU and memory, by the kubelets' own metrics (cAdvisor): for requests of running pods."""

from __future__ import annotations

from datetime import datetime

from gangplan.clock import HOUR
from gangplan.telemetry.sources.prometheus.server import Session, parse_server
from gangplan.types import ContainerUse

_LABELS = "namespace, pod, container"
_OF = '{container!="", container!="POD"}'


def read_containers(source: str, now: datetime, *, hours: int = 48) -> tuple[ContainerUse, ...]:
    """Return what each container used in the last hours: the 95 % quantile of cores in 5 minutes, the most memory.

    A container that one of both was not measured for is left out.

    Raises
    ------
    InputError
        The address, or how one logs in, is wrong.
    UnavailableError
        The server does not answer.
    """
    cpu = f"quantile_over_time(0.95, rate(container_cpu_usage_seconds_total{_OF}[5m])[{hours}h:5m])"
    memory = f"container_memory_working_set_bytes{_OF}"
    with Session(parse_server(source)) as session:
        cores, most, seen = (
            _values(session, name, f"max by ({_LABELS}) ({promql})", now)
            for name, promql in (
                ("container cpu", cpu),
                ("container memory", f"max_over_time({memory}[{hours}h])"),
                ("container hours", f"count_over_time({memory}[{hours}h:1h])"),
            )
        )
    return tuple(
        ContainerUse(
            namespace=key[0], pod=key[1], container=key[2], cores=cores[key], memory=most[key], hours=seen.get(key, 0.0)
        )
        for key in sorted(cores.keys() & most.keys())
    )


def _values(session: Session, name: str, promql: str, now: datetime) -> dict[tuple[str, str, str], float]:
    """Return the value of each container at one moment."""
    series = session.ask(name, promql, [now.replace(microsecond=0)], HOUR)
    return {
        (one["metric"].get("namespace", ""), one["metric"].get("pod", ""), one["metric"].get("container", "")): value
        for one in series
        for _, text in one["values"][-1:]
        if (value := float(text)) >= 0
    }
