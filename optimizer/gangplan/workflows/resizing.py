"""Requests of running pods follow what Prometheus measured."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from gangplan import execute, telemetry

if TYPE_CHECKING:
    from gangplan.execute import Resize, ResizeRules
    from gangplan.kube import Api


def resize_running(api: Api, source: str, rules: ResizeRules, *, now: datetime) -> tuple[Resize, ...]:
    """Resize the running pods of the classes that have a rule, once; return every change, with why some wait.

    Parameters
    ----------
    source
        prometheus+http://host:9090, which has the kubelets' container metrics.
    """
    return execute.resize_all(api, telemetry.read_containers(source, now), rules) if rules else ()
