"""The cluster of the benchmark: real nodes with counted GPUs, one queue of Kueue, and steps of runs as real pods."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.objects import a_real_pod
from tests.cluster.servers import fleet
from tests.cluster.servers.cluster import Cluster, Options
from tests.cluster.servers.node import images, node

from benchmarks.parts.figures import ROOT
from benchmarks.parts.kfp.local import compile_sources
from gangplan.clock import system_clock
from gangplan.kube import Api, connect, manifests
from gangplan.reserve import KueueLedger
from gangplan.reserve.kueue.ledger import Place

Object = dict[str, Any]

SPACE, QUEUE = "bench", "queue"
NODES, GPUS = 2, 64
WORKFLOWS = f"/apis/argoproj.io/v1alpha1/namespaces/{SPACE}/workflows"
PODS = f"/api/v1/namespaces/{SPACE}/pods"
LEDGER = f"kueue://-/{SPACE}/{QUEUE}"
"""The ledger as a pod names it."""

_ARGO = "argoproj.io/v1alpha1"
_COLLECTED_S = 120.0
RUN, WORKFLOW = "pipeline/runid", "workflows.argoproj.io/workflow"


def missing() -> str:
    """Say in one line why there can be no real node here; empty where there can."""
    return node.missing()


@dataclass(frozen=True, kw_only=True)
class Ground:
    """The cluster, as its administrator."""

    cluster: Cluster

    @property
    def api(self) -> Api:
        """Its API."""
        return self.cluster.api

    @property
    def url(self) -> str:
        """The ledger's URL, for who has its kubeconfig."""
        return LEDGER

    def ledger(self) -> KueueLedger:
        """Open the ledger on its queue."""
        api = connect(kubeconfig=str(self.cluster.kubeconfig))
        return KueueLedger(api, Place(namespace=SPACE, queue=QUEUE), clock=system_clock)

    def step(self, run: str, name: str, command: Sequence[str], *, at: int, python: Path | None = None) -> Object:
        """Return the pod of a run's step on a node; it has this Python or another environment's, and this checkout."""
        needs = images.python(ROOT)
        programs = Path(sys.executable).parent
        if python is not None:
            folder = python.parents[1].resolve()
            programs = folder / "bin"
            needs["volumes"].append({"name": "environment", "hostPath": {"path": str(folder)}})
            needs["volumeMounts"].append({"name": "environment", "mountPath": str(folder), "readOnly": True})
        where = [str(ROOT), str(ROOT / "optimizer"), str(ROOT / "kfp_components")]
        variables = {
            "PATH": f"{programs}:/bin",
            "PYTHONPATH": ":".join(where),
            "PYTHONDONTWRITEBYTECODE": "1",
            "GANGPLAN_LEDGER": LEDGER,
            "GANGPLAN_HOME": "/tmp/gangplan",  # noqa: S108 - in the pod
        }
        environment = [{"name": key, "value": value} for key, value in variables.items()]
        pod = a_real_pod(
            name,
            list(command),
            node=self.cluster.nodes[at % NODES].name,
            serviceAccountName="gangplan",
            volumes=needs["volumes"],
            terminationGracePeriodSeconds=30,
            container={"volumeMounts": needs["volumeMounts"], "env": environment},
        )
        pod["metadata"]["labels"] = {RUN: run, WORKFLOW: run}
        return pod


@contextmanager
def ground(gpus: int) -> Iterator[Ground]:
    """Start the cluster with a queue of so many GPUs."""
    compile_sources()
    with Cluster(Options(real_nodes=NODES)) as cluster:
        cluster.apply([_workflows(), fleet.topology(), fleet.flavor(fleet.REAL.name, fleet.REAL.accelerator)])
        cluster.start_nodes()
        counted = {fleet.GPU: str(GPUS)}
        for one in cluster.nodes:
            path = f"/api/v1/nodes/{one.name}/status"
            cluster.api.merge(path, {"status": {"capacity": counted, "allocatable": counted}})
        queue = fleet.cluster_queue(QUEUE, {fleet.REAL.name: gpus})
        cluster.apply([fleet.namespace(SPACE), queue, fleet.local_queue(SPACE, QUEUE, QUEUE), *manifests(SPACE)])
        place = Ground(cluster=cluster)
        _wait_collected(place)
        yield place


def _wait_collected(place: Ground) -> None:
    """Wait until the cluster deletes what a deleted Workflow owns: of a kind that is new it learns within a minute."""
    owner = place.api.create(WORKFLOWS, a_workflow("first"))
    path, owned = f"/api/v1/namespaces/{SPACE}/configmaps", {"name": "owned", "ownerReferences": [owned_by(owner)]}
    place.api.create(path, {"metadata": owned})
    place.api.delete(f"{WORKFLOWS}/first", propagationPolicy="Background")
    deadline = time.monotonic() + _COLLECTED_S
    while any(one["metadata"]["name"] == "owned" for one in place.api.items(path)):
        assert time.monotonic() < deadline, "what a deleted Workflow owns stays"
        time.sleep(0.2)


def a_workflow(run: str) -> Object:
    """Return the Workflow of a run."""
    return {
        "apiVersion": _ARGO,
        "kind": "Workflow",
        "metadata": {"name": run, "labels": {RUN: run}},
        "status": {"phase": "Running"},
    }


def owned_by(workflow: Object) -> Object:
    """Return what an object says that goes with a Workflow."""
    meta = workflow["metadata"]
    return {"apiVersion": _ARGO, "kind": "Workflow", "name": meta["name"], "uid": meta["uid"]}


def _workflows() -> Object:
    """Return the kind of Argo's Workflows, which say how their runs stand."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1alpha1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    named = {"kind": "Workflow", "plural": "workflows", "singular": "workflow", "listKind": "WorkflowList"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "workflows.argoproj.io"},
        "spec": {"group": "argoproj.io", "scope": "Namespaced", "names": named, "versions": [version]},
    }
