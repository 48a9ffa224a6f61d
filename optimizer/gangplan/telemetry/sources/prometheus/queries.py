"""The questions to Prometheus. The server computes the averages, from metrics that the exporters give by default.

A scrape without `honorLabels` moves an exporter's own labels to exported_namespace, exported_pod and so on. Where there
are such labels, they count.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from gangplan.clock import HOUR
from gangplan.kube import METRIC_PATTERN, NODE_LABELS, PLACEHOLDER_CLASS, metric_name

SELDOM = timedelta(hours=6)
"""How often it is asked for what seldom changes."""


@dataclass(frozen=True, kw_only=True)
class Query:
    """A range query: its name here, its PromQL, the labels that are read from its answer, and how often it is asked.

    `lost` says what is not known where nothing matches it; empty where that is as it should be.
    """

    name: str
    promql: str
    labels: tuple[str, ...]
    every: timedelta = HOUR
    lost: str = ""


def _own(selector: str, *labels: str) -> str:
    """Return the PromQL of series under the labels that their exporter gave them."""
    for label in labels:
        selector = f'label_replace({selector}, "{label}", "$1", "exported_{label}", "(.+)")'
    return selector


REQUESTS = f'kube_pod_container_resource_requests{{resource=~"{METRIC_PATTERN}"}}'
PHASES = 'kube_pod_status_phase{phase=~"Pending|Running"}'
_INIT = REQUESTS.replace("pod_container", "pod_init_container")
_KEY = "cluster, namespace, pod, node, resource"
_OWNED = ("namespace", "pod", "container", "node")
# A pod asks for what its containers ask for together, or for what its largest init container asks for if that is more.
_REQUESTED = (
    f"max by ({_KEY}) ("
    f"sum by ({_KEY}) (max by ({_KEY}, container) ({_own(REQUESTS, *_OWNED)})) or "
    f'label_replace(max by ({_KEY}) ({_own(_INIT, *_OWNED)}), "init", "1", "", ""))'
)
_UP = "scalar(count_over_time((count(kube_pod_status_phase))[1h:5m]))"


def _pods_in(phase: str) -> str:
    """Return the PromQL of what pods in these phases ask for, by resource; those that keep nodes free ask for none."""
    phases = _own(f'kube_pod_status_phase{{phase=~"{phase}"}}', "namespace", "pod")
    free = _own(f'kube_pod_info{{priority_class="{PLACEHOLDER_CLASS}"}}', "namespace", "pod")
    pod = "(cluster, namespace, pod)"
    return f"{_REQUESTED} * on {pod} group_left () max by {pod} ({phases}) unless on {pod} {free}"


# The mean over the hour: a pod that ran for five minutes counts for five minutes; of an hour that was scraped for half,
# that half counts.
ASKED = Query(
    name="asked",
    promql=f"sum_over_time((sum by (namespace, node, resource) ({_pods_in('Pending|Running')}))[1h:5m]) / {_UP}",
    labels=("namespace", "node", "resource"),
)
_CLASSED = 'kube_namespace_labels{label_gangplan_io_workload_class!=""}'
CLASSES = Query(
    name="classes",
    promql=f"max by (namespace, label_gangplan_io_workload_class) ({_own(_CLASSED, 'namespace')})",
    labels=("namespace", "label_gangplan_io_workload_class"),
    every=SELDOM,
    lost="kube_namespace_labels with gangplan.io/workload-class: every tenant is throughput",
)
WAITING_GPUS = Query(
    name="waiting_gpus",
    promql=f"sum by (namespace, resource) ({_pods_in('Pending')})",
    labels=("namespace", "resource"),
)
WAITING_PODS = Query(
    name="waiting_pods",
    promql=f"count by (namespace) (max by (cluster, namespace, pod) ({_pods_in('Pending')}) > 0)",
    labels=("namespace",),
)
HOST = ("node", "kubernetes_node", "Hostname", "instance")
"""The labels of the DCGM exporter that may say on which node it runs, the best first."""

_HOST = ", ".join(HOST)
GPU = Query(
    name="gpu_utilization",
    promql=f"avg by ({_HOST}, modelName) (avg_over_time(DCGM_FI_DEV_GPU_UTIL[1h])) / 100",
    labels=(*HOST, "modelName"),
    lost="DCGM_FI_DEV_GPU_UTIL (DCGM exporter): the use of the GPUs is not known",
)
_USED = f"sum by ({_HOST}) (avg_over_time(DCGM_FI_DEV_FB_USED[1h]))"
_FREE = f"sum by ({_HOST}) (avg_over_time(DCGM_FI_DEV_FB_FREE[1h]))"
MEMORY = Query(
    name="gpu_memory_utilization",
    promql=f"{_USED} / ({_USED} + {_FREE})",
    labels=HOST,
    lost="DCGM_FI_DEV_FB_USED and DCGM_FI_DEV_FB_FREE (DCGM exporter): the use of GPU memory is not known",
)
CARDS = Query(
    name="cards",
    promql=f"count by ({_HOST}, modelName) (max by ({_HOST}, modelName, gpu) (DCGM_FI_DEV_FB_USED))",
    labels=(*HOST, "modelName"),
    every=SELDOM,
)
_NAMED = "* on (instance) group_left (nodename) node_uname_info"
CPU = Query(
    name="cpu_utilization",
    promql=f'1 - avg by (nodename) (rate(node_cpu_seconds_total{{mode="idle"}}[1h]) {_NAMED})',
    labels=("nodename",),
    lost="node_cpu_seconds_total with node_uname_info (node exporter): the use of CPUs is not known",
)
NETWORK = Query(
    name="network_bytes_per_second",
    promql="sum by (nodename) ((rate(node_network_receive_bytes_total[1h])"
    f" + rate(node_network_transmit_bytes_total[1h])) {_NAMED})",
    labels=("nodename",),
    lost="node_network_receive_bytes_total with node_uname_info (node exporter): network traffic is not known",
)
_THERE = f'kube_node_status_allocatable{{resource=~"{METRIC_PATTERN}"}}'
ALLOCATABLE = Query(
    name="allocatable",
    promql=f"max by (node, resource) ({_own(_THERE, 'node')})",
    labels=("node", "resource"),
    every=SELDOM,
    lost="kube_node_status_allocatable with a GPU resource: nodes without pods are not known",
)
_LABELS = tuple(f"label_{metric_name(label)}" for label in NODE_LABELS)
LABELS = Query(
    name="labels",
    promql=f"max by (node, {', '.join(_LABELS)}) ({_own('kube_node_labels', 'node')})",
    labels=("node", *_LABELS),
    every=SELDOM,
)
ADDRESSES = Query(
    name="addresses",
    promql=f"max by (node, internal_ip) ({_own('kube_node_info', 'node')})",
    labels=("node", "internal_ip"),
    every=SELDOM,
)
_DCGM = 'kube_pod_info{pod=~".*dcgm.*"} or kube_pod_info{exported_pod=~".*dcgm.*"}'
EXPORTERS = Query(
    name="exporters",
    promql=f"max by (pod, node) ({_own(_DCGM, 'pod', 'node')})",
    labels=("pod", "node"),
    every=SELDOM,
)
RENAMED = Query(
    name="renamed",
    promql='count(kube_pod_status_phase{exported_namespace!=""})',
    labels=(),
    every=SELDOM,
)
CLUSTERS = Query(
    name="clusters",
    promql='count by (cluster) (kube_pod_status_phase{cluster!=""})',
    labels=("cluster",),
    every=SELDOM,
)
QUERIES = (
    ASKED, CLASSES, WAITING_GPUS, WAITING_PODS, GPU, MEMORY, CARDS, CPU, NETWORK, ALLOCATABLE, LABELS, ADDRESSES,
    EXPORTERS, RENAMED, CLUSTERS,
)  # fmt: skip

NEEDED = (REQUESTS, PHASES)
"""The selectors without which there is no demand."""
