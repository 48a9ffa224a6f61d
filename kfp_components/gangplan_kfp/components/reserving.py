"""The component `reserve_gang`. No postponed annotations here: KFP's compiler reads them as they are written."""

# pyright: reportInvalidTypeForm=false

from typing import List, NamedTuple

from kfp import dsl

from gangplan_kfp.components.keyed import keyed
from gangplan_kfp.support import IMAGE


@keyed
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
    min_pods: int = 0,
    max_pods: int = 0,
    walltime: str = "",
    priority: int = 100,
    priority_class: str = "",
    workload_class: str = "throughput",
    topology: str = "",
    speed: str = "",
    slot: str = "gpu",
    deadline: str = "",
    preemptible: bool = False,
    checkpoint: str = "",
    part: str = "",
    handover: str = "",
    node_label: str = "",
    wait: bool = True,
    ledger: str = "",
    home: str = "",
) -> NamedTuple(
    "Gang",
    [
        ("reservation_id", str),
        ("token", int),
        ("pool", str),
        ("nodes", List[str]),
        ("expires_at", str),
        ("gang", str),
        ("node_affinity", dict),
        ("node_selector", dict),
        ("tolerations", list),
        ("accelerator", str),
        ("accelerators_per_pod", str),
    ],
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
        min_pods: The fewest pods that the running gang may be resized to; 0: pods.
        max_pods: The most pods that it may be resized to; 0: pods.
        walltime: Hard limit over all renewals, like 12h; empty: the duration.
        priority: The higher is served first.
        priority_class: A class of the ledger's policy, whose priority counts instead.
        workload_class: latency, throughput or cost.
        topology: node, nvlink or rack: how close together all pods must stand; rack:preferred: should stand.
        speed: Measured factors of accelerators, like h100=2,a100=1: twice as fast takes half the time.
        slot: gpu, or the part of a GPU that a pool is divided into, like 1g.10gb or 1/4.
        deadline: UTC time by which the walltime must be over, like 2026-03-01T12:00:00Z; not started in time, it fails.
        preemptible: Whether a gang that is entitled to them may take the slots back after notice.
        checkpoint: The least notice that it then gets, like 5m; empty: what the policy says.
        part: Tells gangs of one name apart, such as the item of a loop.
        handover: For how long the slots are kept between two steps that hold them, like 50s; empty: the duration.
        node_label: The label of the cluster's nodes that has the ledger's names of them; empty: on Kueue the hostname,
            else no nodes are asked for.
        wait: False only takes a place in the line; then wait_for_gang waits.
        ledger: URL of the ledger; empty: GANGPLAN_LEDGER of the image's environment.
        home: gangplan's folder; empty: GANGPLAN_HOME of the image's environment.
    """
    from gangplan_kfp import support

    with support.one_line_errors():
        request = support.request_from(
            run_id=run_id,
            name=name,
            part=part,
            tenant=tenant,
            accelerators=accelerators,
            pods=pods,
            gpus_per_pod=gpus_per_pod,
            duration=duration,
            min_pods=min_pods,
            max_pods=max_pods,
            walltime=walltime,
            priority=priority,
            priority_class=priority_class,
            workload_class=workload_class,
            topology=topology,
            speed=speed,
            slot=slot,
            deadline=deadline,
            preemptible=preemptible,
            checkpoint=checkpoint,
        )
        taken = support.take(
            request,
            timeout_seconds=timeout_seconds,
            handover=handover,
            node_label=node_label,
            wait=wait,
            ledger=ledger,
            home=home,
        )
        support.write(reservation, support.of_taken(taken))
        return taken.outputs()
