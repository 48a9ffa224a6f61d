"""The images of Kubeflow's steps: built from their Containerfile, run on a real node as a careful cluster runs them."""

from __future__ import annotations

import json
import math
import re
import shutil
import tarfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

import pytest

from gangplan import __version__
from tests.cluster.conftest import ROOT, Object, Space, until
from tests.cluster.objects import a_real_pod
from tests.cluster.servers import steps_image
from tests.cluster.servers.node.images import USER
from tests.cluster.servers.node.node import Node
from tests.kfp.pod_specs import OUTPUT_FILE, Compiled, pods

LONG_S = 120.0
MOST_MB, MOST_OF_ALL_MB = 600, 1250
HOME = "/home/gangplan"
IMAGE = steps_image.name("steps")
STRICT: Object = {
    "runAsNonRoot": True,
    "readOnlyRootFilesystem": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
}
HOLDS = """
gangplan init
gangplan kfp doctor --json || true
wish="--tenant vision --pods 1 --gpus 4 --accelerator h100-lab --duration 10m"
gangplan reserve $wish --key kfp/run-1/gang --json >/tmp/held
gang=$(python3 -c 'import json
from gangplan_kfp.support import Gang
print(Gang(key="kfp/run-1/gang", reservation=json.load(open("/tmp/held"))["id"], handover_s=50).text())')
python3 -m gangplan_kfp.held --gang "$gang" -- sh -c 'echo held $GANGPLAN_GPUS; exit 7'
"""


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


def a_step(component: str, given: Object) -> list[str]:
    """Return the command with which KFP's launcher starts a compiled component."""
    compiled = Compiled.read(ROOT / "kfp_components" / "compiled" / f"{component}.yaml")
    (pod,) = pods(compiled, given, run="run-1").values()
    (main,) = pod["spec"]["containers"]
    return [*main["command"], *main["args"]]


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
    """Its own command from the YAML that ships, also as a user whom nobody knows; it leaves what the launcher reads."""
    command = a_step("release_gang", {"run_id": "run-1", "name": "gang"})
    shown = ["sh", "-c", f'"$@" && cat {OUTPUT_FILE}', "step", *command]
    path = run(space, node, "step", command=shown, securityContext={**STRICT, "runAsUser": 4242})
    end = ended(space, path)
    assert end["exitCode"] == 0, space.log("step")
    assert "kfp/run-1/gang: nothing was reserved" in space.log("step")
    assert '"Output": "none"' in space.log("step").splitlines()[-1]


def test_a_step_holds_its_gang(space: Space, node: Node) -> None:
    """With all that it needs in the image: ledger, lease, its own command below, whose exit code is the step's."""
    path = run(space, node, "held", args=["sh", "-ec", HOLDS])
    assert ended(space, path)["exitCode"] == 7, space.log("held")
    assert "held 4" in space.log("held").splitlines()
    assert "python3 finds gangplan_kfp.held" in space.log("held")


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
        manifest = json.load(_blob(tar, json.load(_file(tar, "index.json"))["manifests"][0]))
        config = json.load(_blob(tar, manifest["config"]))["config"]
    assert config["Labels"]["org.opencontainers.image.version"] == __version__
    assert (config["User"], config["Entrypoint"]) == (str(USER), ["/usr/bin/tini", "-g", "--"])


def _blob(tar: tarfile.TarFile, described: Object) -> IO[bytes]:
    return _file(tar, f"blobs/{described['digest'].replace(':', '/')}")


def _file(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    found = tar.extractfile(name)
    assert found is not None, name
    return found


def test_the_image_is_small(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The size of all its files, unpacked."""
    with steps_image.container("steps") as inside:
        unpacked = inside.megabytes()
    with capsys.disabled():
        print(f"\nimage of the steps: {unpacked:.0f} MB unpacked")
    assert unpacked <= MOST_MB


def test_its_packages_are_those_of_the_lock_file(image: Path) -> None:
    """Each in the locked version; no tool of the tests and no server is among them."""
    lists = "from importlib import metadata as m; print(*(f'{d.name}=={d.version}' for d in m.distributions()))"
    with steps_image.container("steps") as inside:
        found = {_normal(one) for one in inside.run("python3", "-c", lists).stdout.split()}
    locked = set(re.findall(r"^[a-z0-9.-]+==[^ ]+", (ROOT / "requirements" / "kfp.txt").read_text(), re.MULTILINE))
    assert f"gangplan=={__version__}" in found
    assert found - locked == {f"gangplan=={__version__}"}
    assert not {one.partition("==")[0] for one in found} & {"pytest", "flask", "uv", "pip"}


def _normal(pinned: str) -> str:
    name, _, version = pinned.partition("==")
    return f"{re.sub('[-_.]+', '-', name).lower()}=={version}"


def test_the_large_image_runs_the_stages(
    image: Path, mlflow_template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Telemetry, a model and a plan by the compiled steps, with the solver, LightGBM and MLflow's database."""
    home, artifacts = tmp_path / "home", tmp_path / "artifacts"
    (home / "mlflow").mkdir(parents=True)
    artifacts.mkdir()
    shutil.copy(mlflow_template, home / "mlflow" / "mlflow.db")
    (home / "demand.csv").write_text(demand(datetime.now(UTC)))
    for one in (artifacts, home, *home.rglob("*")):
        one.chmod(0o777)
    settings = {"horizon_hours": 24, "backtest_origins": 2, "scenarios": 3}
    with steps_image.container("stages") as inside:
        for command in (
            ["gangplan", "init"],
            ["gangplan", "ingest", f"{HOME}/demand.csv"],
            a_step("train_demand_model", {"run_id": "run-1", "settings": settings}),
            a_step("plan_capacity", {"run_id": "run-1", "settings": settings}),
        ):
            done = inside.run(*command, volumes={home: HOME, artifacts: "/minio"}, GANGPLAN_HOME=HOME)
            assert done.returncode == 0, done.stdout + done.stderr
        planned = json.loads(inside.run("cat", OUTPUT_FILE).stdout)["parameterValues"]
        unpacked = inside.megabytes()
    with capsys.disabled():
        print(f"\nimage of the stages: {unpacked:.0f} MB unpacked")
    assert planned["plan_id"]
    assert unpacked <= MOST_OF_ALL_MB


def demand(now: datetime) -> str:
    """Return three weeks of one tenant's hourly demand up to now, with a daily cycle."""
    last = now.replace(minute=0, second=0, microsecond=0)
    hours = [last - timedelta(hours=back) for back in range(21 * 24, 0, -1)]
    rows = [
        f"{hour:%Y-%m-%dT%H:%M:%SZ},vision,throughput,h100-lab,{4 + 2 * math.sin(hour.hour / 24 * 2 * math.pi):.2f}"
        for hour in hours
    ]
    return "\n".join(["hour,tenant,workload_class,accelerator,gpus", *rows, ""])
