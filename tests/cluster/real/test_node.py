"""The real nodes: what runs on them, and that nothing of them stays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from gangplan.reserve.kueue.objects import names
from tests.cluster.conftest import ROOT, Object, Space, until
from tests.cluster.objects import a_real_pod
from tests.cluster.servers.node import cgroups, images, inside
from tests.cluster.servers.node.node import Node, all_of

LONG_S = 120.0
OWNER = """
import sys
from pathlib import Path
from tests.cluster.servers.node.node import Node
Node(Path(sys.argv[1]), 2).start()
print("ready", flush=True)
sys.stdin.read()
"""


def ended(space: Space, name: str) -> Object:
    """Return a pod's status when it has ended."""
    path = f"/api/v1/namespaces/{space.name}/pods/{name}"
    return until(lambda: _over(space.api.get(path)), LONG_S)


def _over(pod: Object) -> Object:
    return pod if pod["status"].get("phase") in ("Succeeded", "Failed") else {}


def test_a_pod_runs_and_its_log_is_read(space: Space, real_nodes: list[Node]) -> None:
    """Where it was told to, as a user without rights, on a network of its own, and with its exit code."""
    pod = a_real_pod("one", ["sh", "-c", "id -u; hostname -i; exit 7"], node=real_nodes[1].name, hostNetwork=False)
    space.api.create(f"/api/v1/namespaces/{space.name}/pods", pod)
    status = ended(space, "one")["status"]
    assert (status["phase"], status["hostIP"]) == ("Failed", real_nodes[1].name)
    assert status["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 7
    assert space.log("one").split() == [str(images.USER), status["podIP"]]


def test_gangplan_in_a_pod_reserves_with_the_printed_rights(space: Space, queue: str, real_nodes: list[Node]) -> None:
    """Logged in by what Kubernetes gives every pod, as the account that the manifests make."""
    space.give_printed_rights()
    asked = "reserve --tenant vision --pods 2 --gpus 4 --accelerator h100 --duration 10m --key inside"
    needs = images.python(ROOT)
    pod = a_real_pod(
        "inside",
        [sys.executable, "-m", "gangplan", *asked.split()],
        node=real_nodes[0].name,
        serviceAccountName="gangplan",
        volumes=needs["volumes"],
        container={
            "volumeMounts": needs["volumeMounts"],
            "env": [
                {"name": "PYTHONPATH", "value": str(ROOT / "optimizer")},
                {"name": "GANGPLAN_LEDGER", "value": f"kueue://-/{space.name}/queue"},
                {"name": "GANGPLAN_HOME", "value": "/tmp/gangplan"},  # noqa: S108 - in the pod
            ],
        },
    )
    space.api.create(f"/api/v1/namespaces/{space.name}/pods", pod)
    assert ended(space, "inside")["status"]["phase"] == "Succeeded", space.log("inside")
    (held,) = space.api.items(names.workloads(space.name))
    assert space.condition(held["metadata"]["name"], "Admitted").startswith("True")


def test_of_a_node_whose_owner_is_killed_nothing_stays(space: Space, real_nodes: list[Node]) -> None:
    """No process, no mount, no setting of the kernel; its control groups are empty, and the next node removes them."""
    third = all_of(real_nodes[0].credentials.parents[1])[2]
    space.made.append(f"/api/v1/nodes/{third.name}")
    kernel = settings()
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(third.credentials)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == b"ready\n"
    space.api.create(f"/api/v1/namespaces/{space.name}/pods", a_real_pod("lost", ["sleep", "600"], node=third.name))
    path = f"/api/v1/namespaces/{space.name}/pods/lost"
    until(lambda: space.api.get(path)["status"].get("phase") == "Running", LONG_S)
    assert len(processes(third.folder)) > 3
    owner.kill()
    owner.wait()
    until(lambda: not processes(third.folder), LONG_S)
    cgroups.sweep()
    assert list(Path("/sys/fs/cgroup").glob(f"*/gangplan-{owner.pid}-*")) == []
    assert str(third.folder) not in Path("/proc/self/mounts").read_text()
    assert settings() == kernel


def settings() -> dict[str, str]:
    """Return the settings of the kernel that a node writes to."""
    return {name: Path("/proc/sys", name).read_text() for name in inside.KERNEL}


def processes(folder: Path) -> list[str]:
    """Return the processes that name a node's folder, containers included."""
    found = []
    for one in Path("/proc").iterdir():
        try:
            words = (one / "cmdline").read_bytes() + (one / "cgroup").read_bytes()
        except OSError:  # not a process, or it has ended
            continue
        if str(folder).encode() in words or folder.name.encode() in words:
            found.append(one.name)
    return found
