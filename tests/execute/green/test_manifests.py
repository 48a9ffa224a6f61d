"""The agent's manifests: least rights, as kustomize builds them and as the command prints them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.command import caller

from gangplan import execute
from gangplan.execute.green import power_manifests

FOLDER = Path(execute.__file__).parent / "green" / "manifests"


def check(objects: list[dict[str, Any]], namespace: str, image: str) -> None:
    """Hold the objects against what the agent may have."""
    kinds = {item["kind"]: item for item in objects}
    assert sorted(kinds) == ["ClusterRole", "ClusterRoleBinding", "DaemonSet", "ServiceAccount"]
    assert kinds["ClusterRole"]["rules"] == [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "watch"]}]
    assert kinds["ClusterRoleBinding"]["subjects"][0]["namespace"] == namespace
    assert kinds["ServiceAccount"]["metadata"]["namespace"] == namespace
    pod = kinds["DaemonSet"]["spec"]["template"]["spec"]
    assert not {"hostPID", "hostNetwork", "hostIPC", "volumes"} & set(pod)
    (container,) = pod["containers"]
    assert container["image"] == image
    security = container["securityContext"]
    assert not security.get("privileged", False)
    assert security["capabilities"] == {"drop": ["ALL"], "add": ["SYS_ADMIN"]}
    assert security["readOnlyRootFilesystem"]
    assert "nvidia.com/gpu" not in str(container["resources"])
    assert container["env"][0]["valueFrom"]["fieldRef"]["fieldPath"] == "spec.nodeName"


def test_the_folder_is_complete_and_asks_for_little() -> None:
    """Every file that kustomize names is there, and none is left out."""
    listed = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted(path.name for path in FOLDER.glob("*.yaml") if path.name != "kustomization.yaml")
    check(power_manifests(), "gangplan", "gangplan")
    check(power_manifests("gpu", "registry/gangplan:2"), "gpu", "registry/gangplan:2")


def test_kustomize_builds_it() -> None:
    """`kubectl kustomize` gives the same objects, with the image's tag."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl to build the kustomization with")
    built = subprocess.run([kubectl, "kustomize", FOLDER], check=True, capture_output=True, text=True).stdout
    check(list(yaml.safe_load_all(built)), "gangplan", "gangplan:latest")


def test_the_command_prints_them(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """For any namespace and image."""
    said = caller(monkeypatch, capsys)("power", "manifests", "--namespace", "gpu", "--image", "registry/gangplan:2")
    check(list(yaml.safe_load_all(said.out)), "gpu", "registry/gangplan:2")
