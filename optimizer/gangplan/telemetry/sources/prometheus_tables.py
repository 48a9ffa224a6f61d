"""Prometheus' answers -> the tables of telemetry: a namespace is a tenant, a node's GPU model an accelerator.

Pods on nodes without a DCGM exporter, and pods of tenants that never had a node, count as asking for any accelerator.
"""

from __future__ import annotations

from datetime import datetime

import polars as pl

from gangplan.clock import HOUR
from gangplan.errors import InputError
from gangplan.kube import short_name
from gangplan.progress import Progress, no_progress
from gangplan.tables import ANY, DEMAND, NODES, QUEUE, conform
from gangplan.telemetry.demand import fill_grid
from gangplan.telemetry.sources import prometheus
from gangplan.telemetry.sources.prometheus import CPU, GPU, MEMORY, NETWORK, WAITING_GPUS, WAITING_PODS, Samples
from gangplan.telemetry.values import REJECTED_KEPT, Telemetry
from gangplan.types import SERIES, WorkloadClass


def read_prometheus(source: str, now: datetime, progress: Progress = no_progress) -> Telemetry:
    """Return the telemetry of the cluster that a Prometheus watches, up to the present hour."""
    server = prometheus.parse_server(source)
    answers = prometheus.fetch(server, now, progress)
    rejected = [row for answer in answers.values() for row in answer.rejected]
    asked = _asked(answers)
    if asked.is_empty():
        remedy = f"has no pod that asks for GPUs in {server.days} days: is kube-state-metrics scraped?"
        raise InputError("source", server.shown, remedy)
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
        nodes=_nodes(answers),
        queue=_queue(answers, asked),
        rejected=tuple(rejected[:REJECTED_KEPT]),
        rejected_count=len(rejected),
    )


def accelerator_name(model: str) -> str:
    """Return the accelerator of a GPU model: "NVIDIA A100-SXM4-80GB" is a100, an empty name is any."""
    return short_name(model)[:63] or ANY


def seen_demand(asked: pl.DataFrame, start: datetime, end: datetime) -> pl.DataFrame:
    """Return the demand of every hour: in an hour with samples of any series, one without a sample asked for 0 GPUs."""
    seen = asked.select("hour").unique()
    filled = fill_grid(asked, start, end).join(seen.with_columns(seen=pl.lit(value=True)), on="hour", how="left")
    gpus = pl.when(pl.col("seen")).then(pl.col("gpus").fill_null(0.0))
    return conform("demand", filled.with_columns(gpus.alias("gpus")), DEMAND).sort(*SERIES, "hour")


def _asked(answers: dict[str, Samples]) -> pl.DataFrame:
    """Return the GPUs that were asked for, by hour and series (DEMAND), only where there is a sample."""
    asked = answers["asked"].frame.join(_models(answers), left_on="node", right_on="node", how="left")
    usual = _usual_accelerator(asked)
    classes = _classes(answers)
    return conform(
        "demand",
        asked.join(usual, on="namespace", how="left")
        .join(classes, on="namespace", how="left")
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


def _models(answers: dict[str, Samples]) -> pl.DataFrame:
    """Return each node's accelerator, from the DCGM exporter's labels; of several, the first by name."""
    nodes = answers[GPU.name].frame.select(node="Hostname", model="modelName").unique().sort("node", "model")
    short = pl.col("model").map_elements(accelerator_name, return_dtype=pl.String)
    return nodes.select("node", short.alias("accelerator")).unique("node", keep="first", maintain_order=True)


def _usual_accelerator(asked: pl.DataFrame) -> pl.DataFrame:
    """Return the accelerator that each namespace used most; its pods without a node count as asking for it."""
    used = asked.drop_nulls("accelerator").group_by("namespace", "accelerator").agg(pl.sum("value"))
    first = used.sort(["namespace", "value", "accelerator"], descending=[False, True, False])
    return first.unique("namespace", keep="first").select("namespace", usual="accelerator")


def _classes(answers: dict[str, Samples]) -> pl.DataFrame:
    """Return each namespace's workload class, from its newest label gangplan.io/workload-class."""
    label = "label_gangplan_io_workload_class"
    known = answers["classes"].frame.filter(pl.col(label).is_in([kind.value for kind in WorkloadClass]))
    newest = known.sort("time").unique("namespace", keep="last")
    return newest.select("namespace", workload_class=label)


def _queue(answers: dict[str, Samples], asked: pl.DataFrame) -> pl.DataFrame:
    """Return the pods and GPUs that waited (QUEUE), for the accelerator that the tenant asked for most."""
    most = asked.group_by("tenant", "accelerator").agg(pl.sum("gpus").alias("sum")).sort("sum", "accelerator")
    place = most.unique("tenant", keep="last").select("tenant", "accelerator")
    pods = answers[WAITING_PODS.name].frame.select("time", "namespace", jobs="value")
    waiting = answers[WAITING_GPUS.name].frame.select("time", tenant="namespace", gpus="value")
    joined = waiting.join(pods, left_on=["time", "tenant"], right_on=["time", "namespace"], how="left")
    named = joined.join(place, on="tenant", how="left").with_columns(
        pl.col("accelerator").fill_null(ANY), pl.col("jobs").fill_null(0)
    )
    return conform("queue", named, QUEUE).sort("time", "tenant")


def _nodes(answers: dict[str, Samples]) -> pl.DataFrame:
    """Return the nodes' utilisation (NODES); CPU and network are null without a node exporter."""
    frame = answers[GPU.name].frame.group_by("time", node="Hostname").agg(pl.mean("value").alias(GPU.name))
    for query, label in ((MEMORY, "Hostname"), (CPU, "nodename"), (NETWORK, "nodename")):
        other = answers[query.name].frame.select("time", pl.col(label).alias("node"), pl.col("value").alias(query.name))
        frame = frame.join(other, on=["time", "node"], how="left")
    named = frame.join(_models(answers), on="node", how="left").with_columns(pl.col("accelerator").fill_null(ANY))
    return conform("nodes", named, NODES).sort("time", "node")
