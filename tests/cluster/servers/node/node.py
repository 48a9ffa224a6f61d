"""One real node beside a cluster on this machine: started, killed as by a loss of power, stopped without a trace."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import yaml

from gangplan.kube.api import Api, connect
from tests.cluster.servers import build, fleet
from tests.cluster.servers.node import cgroups, configuration, images, inside
from tests.cluster.servers.process import Server

Object = dict[str, Any]

_UNPACKED = Path(__file__).resolve().parents[4] / ".envs" / "node"
_NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc")


def missing() -> str:
    """Say in one line why no real node can run here; empty when one can."""
    if why := build.missing():
        return why
    if sys.platform != "linux" or os.geteuid() != 0:
        return "a real node needs root, on Linux"
    if not (_UNPACKED / "usr/bin/containerd").exists():
        return "containerd is not unpacked: scripts/debian.sh node"
    if not cgroups.tried():
        return "real nodes were tried with control groups of version 1 alone"
    done = subprocess.run([*_NAMESPACES, "true"], capture_output=True, text=True, check=False)
    return f"no namespaces of one's own here: {done.stderr.strip()}" if done.returncode else ""


def all_of(cluster: Path) -> list[Node]:
    """Return the nodes that may join a cluster, by the folder of the cluster."""
    return [Node(folder, index) for index, folder in enumerate(sorted((cluster / "nodes").glob("*")))]


class Node:
    """A node; its GPUs are only counted, its pods are real."""

    def __init__(self, credentials: Path, index: int) -> None:
        self.name, self.credentials = credentials.name, credentials
        self.cgroup = ""
        self._labels = fleet.labels(fleet.REAL, index)
        self._cluster = credentials.parents[1]
        self.folder = self._cluster / "run" / self.name
        self._server: Server | None = None

    def start(self) -> Self:
        """Start it, also anew, and wait until it is ready for pods; on trouble nothing of it stays."""
        self.cgroup = cgroups.make(self.name)
        try:
            self._configure()
            self._server = self._start()
            api = connect(kubeconfig=str(self._cluster / "kubeconfig"))
            self._server.wait_until(lambda: self.is_ready(api))
            gpus = {fleet.GPU: str(fleet.REAL.gpus_per_node)}
            api.merge(f"/api/v1/nodes/{self.name}/status", {"status": {"capacity": gpus, "allocatable": gpus}})
        except BaseException:
            self.stop()
            raise
        return self

    @property
    def runs(self) -> bool:
        """Whether it runs."""
        return self._server is not None and self._server.runs

    def is_ready(self, api: Api) -> bool:
        """Whether the cluster sees it and may give it pods."""
        found = next((one for one in api.items("/api/v1/nodes") if one["metadata"]["name"] == self.name), {})
        conditions = found.get("status", {}).get("conditions", ())
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    def bring(self, archive: Path, image: str) -> None:
        """Give it an image of an OCI archive, as a registry would."""
        ctr = [str(_UNPACKED / "usr/bin/ctr"), f"--address={self.folder / 'cri.sock'}", "--namespace=k8s.io"]
        command = [*ctr, "images", "import", f"--index-name={image}", str(archive)]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, **self._snapshotter})

    def stop(self) -> None:
        """Let it lose its power: its pods end with it, at once, and the cluster has to find out."""
        if self._server is not None and self._server.runs:
            self._server.kill()
        if self.cgroup:
            cgroups.remove(self.cgroup)

    @property
    def _snapshotter(self) -> dict[str, str]:
        """What `ctr` reads from its environment."""
        return {"CONTAINERD_SNAPSHOTTER": configuration.snapshotter(self.folder)}

    def _configure(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "cni").mkdir(parents=True)
        network = configuration.pod_network(self.folder)
        kubelet = configuration.kubelet(
            self.folder, self._cluster / "ca.crt", f"/{self.cgroup}", [fleet.TAINT, fleet.REAL_TAINT]
        )
        plugins = _UNPACKED / "usr/lib/cni"
        (self.folder / "containerd.toml").write_text(configuration.containerd(self.folder, plugins))
        (self.folder / "cni" / "gangplan.conflist").write_text(json.dumps(network))
        (self.folder / "kubelet.yaml").write_text(yaml.safe_dump(kubelet))
        images.write(self.folder / "images.tar", _UNPACKED / "bin/busybox")

    def _start(self) -> Server:
        logs = self._cluster / "logs"
        kubelet = [
            str(build.binary("kubelet")),
            f"--config={self.folder / 'kubelet.yaml'}",
            f"--kubeconfig={self.credentials / 'kubeconfig'}",
            f"--root-dir={self.folder / 'kubelet'}",
            f"--cert-dir={self.folder / 'generated'}",
            f"--hostname-override={self.name}",
            f"--node-labels={','.join(f'{key}={value}' for key, value in self._labels.items())}",
        ]
        first = [sys.executable, inside.__file__, str(self.folder), str(logs), *kubelet]
        path = f"{_UNPACKED / 'usr/bin'}:{_UNPACKED / 'usr/sbin'}:{os.environ.get('PATH', os.defpath)}"
        server = Server(
            name=f"node {self.name}",
            command=[*_NAMESPACES, *first],
            log=logs / f"{self.name}.log",
            environment={"PATH": path, **self._snapshotter},
        )
        server.start()
        return server
