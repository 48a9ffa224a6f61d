"""What an author writes; `test_stubs.py` compares what a type checker says with the marks at the ends of lines."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from gangplan.client import Held
from gangplan_airflow import gang, hold, task


@task.gang(tenant="vision", accelerators=["h100"], pods=2, gpus_per_pod=4, duration="10m", on_timeout="skip", retries=2)
def train(rate: float, held: Held, slots: dict[str, Any]) -> float:
    """Train."""
    return rate if held.notice is None else 0.0


@task.gang(tenant="vision", accelerators=["h100"], pods=2, duration="10m")  # wrong: gpus_per_pod is missing
def too_little() -> None:
    """Say too little."""


@task.gang(tenant="vision", accelerators=["h100"], pods=2, gpus_per_pod=4, duration="10m", on_timeout="stop")  # wrong
def too_bold() -> None:
    """Ask for what there is not."""


with gang("big", tenant="vision", accelerators=["h100"], pods=2, gpus_per_pod=4, duration=timedelta(hours=1)) as slots:
    train.override(retries=3).expand(rate=[0.1, 0.01])
    kwargs = slots.pod_kwargs(pod_set=0, adopt=False)
    slots.pods()  # wrong: there is no such method

with gang("big", tenant="vision", accelerators=["h100"], pods=[2], gpus_per_pod=4, duration="1h"):  # wrong: a list
    pass

with hold(on_notice=lambda notice: print(notice.until, notice.why)) as lease:
    lease.check()


@task.bash
def other() -> str:
    """Airflow's own decorators are there, too."""
    return "true"
