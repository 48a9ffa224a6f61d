"""The configuration of containerd, of the pods' network and of the kubelet."""

from __future__ import annotations

import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from tests.cluster.servers.network import pods
from tests.cluster.servers.node import images

Object = dict[str, Any]

_PLUGINS = ("snapshotter.v1.aufs", "snapshotter.v1.btrfs", "snapshotter.v1.devmapper", "snapshotter.v1.zfs")
_PLUGINS += ("tracing.processor.v1.otlp", "internal.v1.opt")


def containerd(folder: Path, plugins: Path) -> str:
    """Return containerd's: all that it writes is in the folder.

    Nobody lowers the score by which the kernel chooses whom to kill, which takes a right that root may lack in a
    container.
    """
    off = ", ".join(f'"io.containerd.{name}"' for name in _PLUGINS)
    return f"""\
version = 2
root = "{folder}/containerd"
state = "{folder}/state"
oom_score = 0
disabled_plugins = [{off}]
[grpc]
  address = "{folder}/cri.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{images.PAUSE}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter(folder)}"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{folder}/cni"
"""


@cache
def snapshotter(folder: Path) -> str:
    """Return how a container gets its image's files: laid over one another, or copied where the file system cannot."""
    with tempfile.TemporaryDirectory(dir=folder) as made:
        places = {name: Path(made, name) for name in ("lower", "upper", "work", "merged")}
        for one in places.values():
            one.mkdir()
        options = ",".join(f"{name}dir={places[name]}" for name in ("lower", "upper", "work"))
        mount = ["mount", "-t", "overlay", "overlay", "-o", options, str(places["merged"])]
        done = subprocess.run(["unshare", "--mount", *mount], capture_output=True, check=False)
    return "native" if done.returncode else "overlayfs"


def pod_network(folder: Path) -> Object:
    """Return that of the pods: each is wired to the node alone, so that nothing of it outlives the pod.

    Without a network a node is never ready, also where all its pods use the node's own.
    """
    addresses = {"type": "host-local", "dataDir": f"{folder}/addresses", "ranges": [[{"subnet": pods(folder.name)}]]}
    return {"cniVersion": "0.4.0", "name": "gangplan", "plugins": [{"type": "ptp", "ipam": addresses}]}


def kubelet(folder: Path, authority: Path, cgroup: str, taints: list[Object]) -> Object:
    """Return the kubelet's: on the address that is its name, in a control group of its own, and careful with the disk.

    It collects no images: nothing could bring them back.
    """
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": folder.name,
        "healthzPort": 0,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(authority)},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": f"unix://{folder}/cri.sock",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup,
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "podLogsDir": f"{folder}/pod-logs",
        "volumePluginDir": f"{folder}/volume-plugins",
        "resolvConf": "",
        "makeIPTablesUtilChains": False,
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
        },
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "registerWithTaints": taints,
        "nodeStatusUpdateFrequency": "5s",
    }
