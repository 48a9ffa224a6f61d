"""Prometheus -> Telemetry: what pods asked for (kube-state-metrics) and what GPUs did (DCGM exporter), hour by hour.

A namespace is a tenant, the GPU model of a node an accelerator. Pods on nodes whose model nothing tells, and pods of
tenants that never had a node, count as asking for any accelerator.
"""

from __future__ import annotations

from datetime import datetime

import polars as pl

from gangplan.clock import HOUR
from gangplan.errors import InputError
from gangplan.progress import Progress, no_progress
from gangplan.tables import DEMAND, NODES, QUEUE, conform
from gangplan.telemetry.demand import fill_grid
from gangplan.telemetry.sources.prometheus.cluster import Cluster
from gangplan.telemetry.sources.prometheus.queries import (
    CLASSES,
    CLUSTERS,
    CPU,
    GPU,
    HOST,
    MEMORY,
    NEEDED,
    NETWORK,
    QUERIES,
    RENAMED,
    WAITING_GPUS,
    WAITING_PODS,
)
from gangplan.telemetry.sources.prometheus.server import POINTS, Samples, Server, Session, parse_server
from gangplan.telemetry.values import REJECTED_KEPT, Telemetry
from gangplan.types import ANY, SERIES, WorkloadClass


def read_prometheus(source: str, now: datetime, progress: Progress = no_progress) -> Telemetry:
    """Return the telemetry of the cluster that a Prometheus watches, up to the present hour.

    Raises
    ------
    InputError
        When the address, or how one logs in, is wrong, or no pod asked for GPUs.
    UnavailableError
        When the server does not answer.
    """
    server = parse_server(source)
    with Session(server) as session:
        answers = session.fetch(now, progress)
        if answers["asked"].frame.is_empty():
            raise _nothing(session, server, now)
    cluster = Cluster(answers)
    rejected = [row for answer in answers.values() for row in answer.rejected]
    asked = _asked(answers, cluster)
    start, end = asked["hour"].min(), asked["hour"].max()
    assert isinstance(start, datetime)  # noqa: S101 - the frame is not empty
    assert isinstance(end, datetime)  # noqa: S101
    return Telemetry(
        source=server.shown,
        start=start,
        end=end + HOUR,
        rows=sum(answer.frame.height for answer in answers.values()),
        demand=seen_demand(asked, start, end + HOUR),
        live=True,
        nodes=_nodes(answers, cluster),
        queue=_queue(answers, asked),
        rejected=tuple(rejected[:REJECTED_KEPT]),
        rejected_count=len(rejected),
        notes=(*_remarks(answers, session), *cluster.notes()),
    )


def _nothing(session: Session, server: Server, now: datetime) -> InputError:
    """Return the error that there is no demand, which names the selectors that match nothing."""
    missing = " and ".join(selector.partition("{")[0] for selector in NEEDED if not session.matches(selector, now))
    why = f" (no series of {missing} with its GPU resources or phases)" if missing else ""
    remedy = f"has no pod that asks for GPUs in {server.days} days: is kube-state-metrics scraped?{why}"
    return InputError("source", server.shown, remedy)


def _remarks(answers: dict[str, Samples], session: Session) -> list[str]:
    """Say which selectors match nothing, and how the server and its scrapes had to be helped."""
    notes = [f"no series of {query.lost}" for query in QUERIES if query.lost and answers[query.name].frame.is_empty()]
    if not answers[RENAMED.name].frame.is_empty():
        notes.append(
            "kube-state-metrics is scraped without honorLabels: exported_namespace, exported_pod and exported_container"
            " are read (set honorLabels: true in its scrape)"
        )
    clusters = sorted(set(answers[CLUSTERS.name].frame["cluster"]))
    if len(clusters) > 1:
        notes.append(
            f"{len(clusters)} clusters are added up: {', '.join(clusters[:4])}{', ...' if clusters[4:] else ''}"
        )
    if session.points < POINTS:
        notes.append(f"the server refused a week at once: it was asked for {session.points} hours at a time")
    if session.warned:
        notes.append(f"the server warned with {session.warned} answers, which may lack something: {session.warning}")
    return notes


def seen_demand(asked: pl.DataFrame, start: datetime, end: datetime) -> pl.DataFrame:
    """Return the demand of every hour: in an hour with samples of any series, one without a sample asked for 0 GPUs."""
    seen = asked.select("hour").unique()
    filled = fill_grid(asked, start, end).join(seen.with_columns(seen=pl.lit(value=True)), on="hour", how="left")
    gpus = pl.when(pl.col("seen")).then(pl.col("gpus").fill_null(0.0))
    return conform("demand", filled.with_columns(gpus.alias("gpus")), DEMAND).sort(*SERIES, "hour")


def _asked(answers: dict[str, Samples], cluster: Cluster) -> pl.DataFrame:
    """Return the GPUs that were asked for, by hour and series (DEMAND), only where there is a sample."""
    asked = _in_gpus(answers["asked"].frame, cluster)
    return conform(
        "demand",
        asked.join(_usual_accelerator(asked), on="namespace", how="left")
        .join(_classes(answers), on="namespace", how="left")
        .with_columns(
            tenant=pl.col("namespace"),
            accelerator=pl.coalesce("accelerator", pl.when(pl.col("node") == "").then("usual"), pl.lit(ANY)),
            workload_class=pl.col("workload_class").fill_null(WorkloadClass.THROUGHPUT.value),
        )
        .group_by(pl.col("time").alias("hour"), *SERIES)
        .agg(pl.sum("value").round(6).alias("gpus"))
        .sort(*SERIES, "hour"),
        DEMAND,
    )


def _in_gpus(frame: pl.DataFrame, cluster: Cluster) -> pl.DataFrame:
    """Return samples of resources as samples of whole accelerators, with their names; a share of unknown size is 1."""
    kinds = frame.select("node", "resource").unique()
    told = [(cluster.accelerator(*kind) or None, cluster.share(*kind) or 1.0) for kind in kinds.iter_rows()]
    schema = {"accelerator": pl.String(), "share": pl.Float64()}
    known = pl.concat([kinds, pl.DataFrame(told, schema=schema, orient="row")], how="horizontal")
    joined = frame.join(known, on=["node", "resource"], how="left")
    return joined.with_columns(value=pl.col("value") * pl.col("share"))


def _usual_accelerator(asked: pl.DataFrame) -> pl.DataFrame:
    """Return the accelerator that each namespace used most; its pods without a node count as asking for it."""
    used = asked.drop_nulls("accelerator").group_by("namespace", "accelerator").agg(pl.sum("value"))
    first = used.sort(["namespace", "value", "accelerator"], descending=[False, True, False])
    return first.unique("namespace", keep="first").select("namespace", usual="accelerator")


def _classes(answers: dict[str, Samples]) -> pl.DataFrame:
    """Return each namespace's workload class, from its newest label gangplan.io/workload-class."""
    label = "label_gangplan_io_workload_class"
    known = answers[CLASSES.name].frame.filter(pl.col(label).is_in([kind.value for kind in WorkloadClass]))
    newest = known.sort("time").unique("namespace", keep="last")
    return newest.select("namespace", workload_class=label)


def _queue(answers: dict[str, Samples], asked: pl.DataFrame) -> pl.DataFrame:
    """Return the pods and GPUs that waited (QUEUE), for the accelerator that the tenant asked for most."""
    most = asked.group_by("tenant", "accelerator").agg(pl.sum("gpus").alias("sum")).sort("sum", "accelerator")
    place = most.unique("tenant", keep="last").select("tenant", "accelerator")
    pods = answers[WAITING_PODS.name].frame.select("time", "namespace", jobs="value")
    waiting = answers[WAITING_GPUS.name].frame.group_by("time", tenant="namespace").agg(gpus=pl.sum("value"))
    joined = waiting.join(pods, left_on=["time", "tenant"], right_on=["time", "namespace"], how="left")
    named = joined.join(place, on="tenant", how="left").with_columns(
        pl.col("accelerator").fill_null(ANY), pl.col("jobs").fill_null(0)
    )
    return conform("queue", named, QUEUE).sort("time", "tenant")


def _nodes(answers: dict[str, Samples], cluster: Cluster) -> pl.DataFrame:
    """Return the nodes' utilisation (NODES); CPU and network are null without a node exporter."""
    hosts = cluster.hosts.select(*HOST, "dcgm_node").unique()
    frame = _by_node(answers, GPU.name, hosts)
    others = [_by_node(answers, MEMORY.name, hosts)]
    for query in (CPU, NETWORK):
        named = answers[query.name].frame
        nodes = {name: cluster.node(name) for name in named["nodename"].unique()}
        others.append(_mean(named.with_columns(dcgm_node=pl.col("nodename").replace(nodes)), query.name))
    for other in others:
        frame = frame.join(other, on=["time", "node"], how="left")
    names = {node: cluster.accelerator(node, "nvidia_com_gpu") or ANY for node in frame["node"].unique()}
    accelerator = pl.col("node").replace_strict(names, default=ANY, return_dtype=pl.String())
    return conform("nodes", frame.with_columns(accelerator=accelerator), NODES).sort("time", "node")


def _by_node(answers: dict[str, Samples], name: str, hosts: pl.DataFrame) -> pl.DataFrame:
    """Return the samples of the DCGM exporter by time and node."""
    return _mean(answers[name].frame.join(hosts, on=list(HOST), how="inner"), name)


def _mean(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    return frame.group_by("time", node="dcgm_node").agg(pl.mean("value").alias(name))
