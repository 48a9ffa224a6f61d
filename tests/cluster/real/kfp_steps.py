"""Steps of Kubeflow Pipelines as real pods on real nodes: started from compiled pipelines, watched, killed."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gangplan.errors import NotFoundError
from gangplan.reserve import KueueLedger
from gangplan.types import ReservationState
from tests.cluster.conftest import ROOT, Object, Space, until
from tests.cluster.servers.fleet import REAL_TOLERATION, TOLERATION
from tests.cluster.servers.node import images
from tests.kfp.pod_specs import OUTPUT_FILE, OUTPUTS

KFP = ROOT / ".envs" / "kfp"
LONG_S = 120.0


def missing() -> str:
    """Say in one line why steps of Kubeflow Pipelines cannot run here; empty when they can."""
    return "" if (KFP / "bin" / "python3").exists() else "the kfp environment is not built: make .envs/kfp/.ready"


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Starts steps in a test's namespace, as the account of the printed rights, with the ledger on a queue there."""

    space: Space
    folder: Path
    account: str = "gangplan"
    environment: dict[str, str] = field(default_factory=dict[str, str])

    def start(self, pod: Object, *, name: str = "", node: str = "", **environment: str) -> Step:
        """Start a step's pod, as `pod_specs` makes it, with this checkout's code; without a node, where it may go."""
        name = name or pod["metadata"]["name"]
        outputs = self.folder / name
        outputs.mkdir()
        outputs.chmod(0o777)
        given = {"GANGPLAN_LEDGER": f"kueue://-/{self.space.name}/queue", **self.environment, **environment}
        body = _real(pod, outputs, node, {name: value for name, value in given.items() if value})
        body["metadata"]["name"], body["spec"]["serviceAccountName"] = name, self.account
        self.space.api.create(f"/api/v1/namespaces/{self.space.name}/pods", body)
        return Step(space=self.space, name=name, outputs_folder=outputs)


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step's pod."""

    space: Space
    name: str
    outputs_folder: Path

    @property
    def path(self) -> str:
        """Where the pod is."""
        return f"/api/v1/namespaces/{self.space.name}/pods/{self.name}"

    def pod(self) -> Object:
        """Return the pod as it now is; an empty object when it is gone."""
        try:
            return self.space.api.get(self.path)
        except NotFoundError:
            return {}

    def runs(self) -> Object:
        """Wait until it runs, and return its pod."""
        return until(lambda: _in(self.pod(), "Running"), LONG_S, f"{self.name} does not run: {self.pod()}")

    def says(self, text: str, seconds: float = LONG_S) -> str:
        """Wait until its log has a text, and return the log."""
        return until(lambda: found if text in (found := self.log()) else "", seconds, f"{text!r} is not in its log")

    def log(self) -> str:
        """Return what it has written so far."""
        started = any("waiting" not in one["state"] for one in self.pod()["status"].get("containerStatuses", ()))
        return self.space.log(self.name) if started else ""

    def ended(self, seconds: float = LONG_S) -> Object:
        """Wait until it has ended, and return how: exit code and reason."""
        pod = until(lambda: _in(self.pod(), "Succeeded", "Failed"), seconds, f"{self.name} goes on")
        statuses: list[Object] = pod["status"].get("containerStatuses") or []
        return statuses[0]["state"]["terminated"] if statuses else {"exitCode": -1, "reason": pod["status"]["reason"]}

    def succeeded(self) -> Object:
        """Wait until it has ended well, and return its output parameters."""
        end = self.ended()
        assert end["exitCode"] == 0, self.log()
        file = self.outputs_folder / Path(OUTPUT_FILE).name
        return dict(json.loads(file.read_text())["parameterValues"]) if file.exists() else {}

    def terminate(self) -> None:
        """Delete the pod, as a terminated run's: its processes get SIGTERM, and SIGKILL after its grace."""
        self.space.api.delete(self.path)

    def kill(self) -> None:
        """End its processes by SIGKILL, at once."""
        for process in self.processes():
            os.kill(process, signal.SIGKILL)

    def processes(self) -> list[int]:
        """Return the processes of the step's container on this machine."""
        return list(_processes(self.pod()["metadata"]["uid"]))


def free_of(ledger: KueueLedger, request_key: str) -> bool:
    """Tell whether nothing of a request's key holds slots; nobody but the asked ledger has to look after it."""
    ledger.tick()
    granted = ledger.list(ReservationState.GRANTED)
    return not any(one.request.request_key.partition("#")[0] == request_key for one in granted)


def _in(pod: Object, *phases: str) -> Object:
    return pod if pod.get("status", {}).get("phase") in phases else {}


def _processes(uid: str) -> Iterator[int]:
    for one in Path("/proc").glob("[0-9]*"):
        try:
            if f"pod{uid}" in (one / "cgroup").read_text() and b"2147483647" not in (one / "cmdline").read_bytes():
                yield int(one.name)
        except OSError:  # it has ended
            continue


def _real(pod: Object, outputs: Path, node: str, environment: dict[str, str]) -> Object:
    """Return a step's pod with the shell's image, this checkout and its environment, on its node's network."""
    body: Object = json.loads(json.dumps(pod))
    spec, main = body["spec"], body["spec"]["containers"][0]
    needs = images.python(ROOT, KFP)
    code = ":".join(str(ROOT / part) for part in ("optimizer", "kfp_components"))
    given = {
        "PATH": f"{KFP.resolve() / 'bin'}:/bin",
        "PYTHONPATH": code,
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": "/tmp",  # noqa: S108 - in the pod
        "GANGPLAN_HOME": "/tmp/gangplan",  # noqa: S108
        **environment,
    }
    main["image"], main["imagePullPolicy"] = images.SHELL, "IfNotPresent"
    main["env"] = [*main.get("env", ()), *({"name": name, "value": value} for name, value in given.items())]
    main["volumeMounts"] = [*main["volumeMounts"], *needs["volumeMounts"], {"name": "outputs", "mountPath": OUTPUTS}]
    spec["volumes"] = [*spec["volumes"], *needs["volumes"], {"name": "outputs", "hostPath": {"path": str(outputs)}}]
    spec["hostNetwork"] = True  # the API server is reached by it
    spec["tolerations"] = [*spec.get("tolerations", ()), TOLERATION, REAL_TOLERATION]
    if node:
        spec["nodeName"] = node
    return body
