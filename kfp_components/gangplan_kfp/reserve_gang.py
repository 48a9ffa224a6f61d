"""The component `reserve_gang`. No postponed annotations here: KFP's compiler reads them as they are written."""

# pyright: reportMissingImports=false, reportInvalidTypeForm=false

from typing import List, NamedTuple

from kfp import dsl

from gangplan_kfp.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def reserve_gang(
    run_id: str,
    tenant: str,
    accelerators: List[str],
    pods: int,
    gpus_per_pod: int,
    duration: str,
    reservation: dsl.Output[dsl.Markdown],
    timeout_seconds: int = 3600,
    name: str = "gang",
    priority: int = 100,
    workload_class: str = "throughput",
    topology: str = "",
    preemptible: bool = False,
    ledger: str = "",
    home: str = "",
) -> NamedTuple(
    "Gang", [("reservation_id", str), ("token", int), ("pool", str), ("nodes", List[str]), ("expires_at", str)]
):
    """Reserve a gang of GPU slots, whole or not at all; wait for it up to `timeout_seconds`, else fail and say why.

    Args:
        run_id: Pass dsl.PIPELINE_JOB_ID_PLACEHOLDER; with `name` it makes the step idempotent.
        tenant: Who asks.
        accelerators: Accelerators that will do, the preferred first.
        pods: Pods of the gang.
        gpus_per_pod: Whole GPUs of each pod.
        duration: Expected run time, like 30m or 2h; the lease ends by itself after it.
        reservation: What was reserved, where, until when, and what it waited for.
        timeout_seconds: How long to wait for the slots before the step fails.
        name: Tells the gangs of one run apart.
        priority: The higher is served first.
        workload_class: latency, throughput or cost.
        topology: node, nvlink or rack: how close together all pods must stand; rack:preferred: should stand.
        preemptible: Whether a higher rank may take the slots back after notice.
        ledger: URL of the ledger; empty: GANGPLAN_LEDGER of the image's environment.
        home: gangplan's folder; empty: GANGPLAN_HOME of the image's environment.
    """
    from gangplan_kfp import edge, holding, pages

    with edge.one_line_errors():
        request = holding.request_from(
            run_id=run_id,
            name=name,
            tenant=tenant,
            accelerators=accelerators,
            pods=pods,
            gpus_per_pod=gpus_per_pod,
            duration=duration,
            priority=priority,
            workload_class=workload_class,
            topology=topology,
            preemptible=preemptible,
        )
        taken = holding.take(request, timeout_seconds=timeout_seconds, ledger=ledger, home=home)
        pages.write(reservation, pages.of_taken(taken))
        return taken.outputs()
