"""The images of Kubeflow's steps: built from their Containerfile, run on a real node as a careful cluster runs them."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
import yaml

from gangplan import __version__
from tests.cluster.conftest import ROOT, Object, Space, until
from tests.cluster.objects import a_real_pod
from tests.cluster.servers import steps_image
from tests.cluster.servers.node.images import USER
from tests.cluster.servers.node.node import Node

LONG_S = 120.0
MOST_MB = 600
IMAGE = steps_image.name("steps")
STRICT = {
    "runAsNonRoot": True,
    "readOnlyRootFilesystem": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
}


@pytest.fixture(scope="module")
def image() -> Path:
    """The image of what holds a gang, as an OCI archive."""
    if why := steps_image.missing():
        pytest.skip(why)
    return steps_image.archive("steps")


@pytest.fixture(scope="module")
def node(image: Path, real_nodes: list[Node]) -> Node:
    """A node that has the image."""
    real_nodes[0].bring(image, IMAGE)
    return real_nodes[0]


def run(space: Space, node: Node, name: str, **container: Object | list[str] | str) -> str:
    """Start a pod of the image that may write under /tmp alone, and return its path."""
    writable = {"volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}]}  # noqa: S108 - in the pod
    given = {"image": IMAGE, "securityContext": STRICT, **writable, **container}
    pod = a_real_pod(name, [], node=node.name, container=given, volumes=[{"name": "tmp", "emptyDir": {}}])
    pod["spec"]["terminationGracePeriodSeconds"] = 60
    space.api.create(f"/api/v1/namespaces/{space.name}/pods", pod)
    return f"/api/v1/namespaces/{space.name}/pods/{name}"


def ended(space: Space, path: str) -> Object:
    """Wait until a pod's container has ended, and return how."""

    def state() -> Object:
        found = space.api.get(path)["status"].get("containerStatuses", [{}])[0].get("state", {})
        assert found.get("waiting", {}).get("reason") not in ("ErrImageNeverPull", "ErrImagePull"), found
        return found.get("terminated", {})

    return until(state, LONG_S)


def test_a_pod_without_rights_and_with_a_read_only_root_runs_the_command(space: Space, node: Node) -> None:
    """As the numbered user, with a home that it may write to, and with no byte code left to be written."""
    says = "id -u; gangplan --version; gangplan init >/dev/null && ls $GANGPLAN_HOME; touch /opt/gangplan/x"
    path = run(space, node, "strict", args=["sh", "-c", says])
    end = ended(space, path)
    user, version, *made = space.log("strict").splitlines()
    assert (user, version.split()[-1]) == (str(USER), __version__)
    assert "ledger.db" in made
    assert "Read-only file system" in made[-1]
    assert end["exitCode"] == 1


def test_a_compiled_step_runs_as_kubeflow_starts_it(space: Space, node: Node) -> None:
    """Its own command and arguments from the YAML that ships; it leaves the file that KFP's launcher reads."""
    spec = next(yaml.safe_load_all((ROOT / "kfp_components" / "compiled" / "release_gang.yaml").read_text()))
    (executor,) = spec["deploymentSpec"]["executors"].values()
    given = {"run_id": "run-1", "name": "gang", "ledger": "", "home": ""}
    outputs = {"parameters": {"Output": {"outputFile": "/tmp/out/Output"}}, "outputFile": "/tmp/out/all.json"}  # noqa: S108
    whole = json.dumps({"inputs": {"parameterValues": given}, "outputs": outputs})
    command = executor["container"]["command"]
    words = [whole if word == "{{$}}" else word for word in executor["container"]["args"]]
    shown = ["sh", "-c", '"$@" && cat /tmp/out/Output', "step", *command, *words]
    path = run(space, node, "step", command=shown)
    end = ended(space, path)
    assert end["exitCode"] == 0, space.log("step")
    assert "kfp/run-1/gang: nothing was reserved" in space.log("step")
    assert space.log("step").endswith("none")


@pytest.mark.parametrize("work", ["python3 -c 'import time; time.sleep(600)'", "sleep 600 & wait"])
def test_a_deleted_pod_s_work_hears_sigterm(space: Space, node: Node, work: str) -> None:
    """It ends by the signal long before the minute of grace is over, also below a shell."""
    path = run(space, node, "work", args=["sh", "-c", f"echo begun; {work}; echo went on"])
    until(lambda: space.api.get(path)["status"].get("phase") == "Running" and "begun" in space.log("work"), LONG_S)
    space.api.merge(path, {"metadata": {"finalizers": ["gangplan.test/look"]}})
    space.api.delete(path)
    try:
        assert ended(space, path)["exitCode"] == 128 + 15
    finally:
        space.api.merge(path, {"metadata": {"finalizers": None}})


def test_the_image_says_what_it_is(image: Path) -> None:
    """Its labels, its user and its first process; nothing in it knows where it was built."""
    with tarfile.open(image) as tar:
        index = json.load(tar.extractfile("index.json"))  # type: ignore[arg-type]
        manifest = json.load(_blob(tar, index["manifests"][0]["digest"]))
        config = json.load(_blob(tar, manifest["config"]["digest"]))["config"]
    assert config["Labels"]["org.opencontainers.image.version"] == __version__
    assert (config["User"], config["Entrypoint"]) == (str(USER), ["/usr/bin/tini", "-g", "--"])


def _blob(tar: tarfile.TarFile, digest: str):  # noqa: ANN202
    return tar.extractfile(f"blobs/{digest.replace(':', '/')}")


def test_the_image_is_small(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The size of all its files, unpacked."""
    with steps_image.container("steps") as inside:
        unpacked = inside.megabytes()
    with capsys.disabled():
        print(f"\nimage of the steps: {unpacked:.0f} MB unpacked, {image.stat().st_size / 1e6:.0f} MB to pull")
    assert unpacked <= MOST_MB
