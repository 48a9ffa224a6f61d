"""Steps of Kubeflow Pipelines as real pods on real nodes: started from compiled pipelines, watched, killed."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from gangplan.client import pod_place
from gangplan.errors import NotFoundError
from gangplan.reserve import KueueLedger
from gangplan.testing import a_request
from gangplan.types import PodSet, ReservationState
from tests.cluster.conftest import ROOT, Object, Space, until
from tests.cluster.servers.fleet import REAL_TOLERATION, TOLERATION
from tests.cluster.servers.node import images
from tests.kfp.pod_specs import OUTPUT_FILE, OUTPUTS, Compiled, pod

KFP = ROOT / ".envs" / "kfp"
LONG_S = 120.0
START_S = 30.0
"""So long a step may take to start on a busy machine before it holds its slots itself."""


def missing() -> str:
    """Say in one line why steps of Kubeflow Pipelines cannot run here; empty when they can."""
    return "" if (KFP / "bin" / "python3").exists() else "the kfp environment is not built: make .envs/kfp/.ready"


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Starts steps of a run of a compiled pipeline, as the account of the printed rights, with a queue's ledger."""

    space: Space
    folder: Path
    compiled: Compiled
    run: str = "run-1"
    account: str = "gangplan"

    def start(
        self,
        task: str,
        arguments: Object | None = None,
        *,
        gang: Object | None = None,
        name: str = "",
        node: str = "",
        memory: str = "",
        **environment: str,
    ) -> Step:
        """Start a task's pod with this checkout's code; without a node, where it may go.

        `gang` is what the task `reserve-gang` has given; `memory` limits the container's.
        """
        name = name or task
        outputs = self.folder / name
        outputs.mkdir()
        outputs.chmod(0o777)
        made = pod(self.compiled, task, arguments, run=self.run, outputs={"reserve-gang": gang} if gang else None)
        given = {"KFP_POD_NAME": name, "GANGPLAN_LEDGER": f"kueue://-/{self.space.name}/queue", **environment}
        body = _real(made, outputs, node, given)
        body["metadata"]["name"], body["spec"]["serviceAccountName"] = name, self.account
        if memory:
            body["spec"]["containers"][0]["resources"]["limits"]["memory"] = memory
        self.space.api.create(f"/api/v1/namespaces/{self.space.name}/pods", body)
        return Step(space=self.space, name=name, outputs_folder=outputs)


@dataclass(frozen=True, kw_only=True)
class Gang:
    """A gang of a run that holds slots, as the steps inside know it."""

    id: str
    nodes: list[str]
    outputs: Object

    @staticmethod
    def reserved(steps: Steps, *, pods: int = 2, gpus_per_pod: int = 4, handover_s: float = 50.0) -> Gang:
        """Reserve slots, and return what reserve_gang gives, without a pod of it."""
        ledger, key = steps.space.ledger(), f"kfp/{steps.run}/gang"
        asked = a_request(key, pod_sets=(PodSet(count=pods, gpus_per_pod=gpus_per_pod),), preemptible=True)
        held = ledger.submit(asked, f"kfp/{steps.run}/gang/1")
        assert held.token is not None, held.reason
        ledger.renew(held.id, held.token, timedelta(seconds=max(handover_s, START_S)))
        place = pod_place(ledger, held)
        told = {"key": key, "reservation": held.id, "handover_s": handover_s, "real_nodes": True}
        [(accelerator, count)] = place.resources.items()
        outputs: Object = {
            "gang": json.dumps(told),
            "node_affinity": place.node_affinity,
            "node_selector": place.node_selector,
            "tolerations": list(place.tolerations),
            "accelerator": accelerator,
            "accelerators_per_pod": count,
        }
        return Gang(id=held.id, nodes=[one.node for one in held.placements], outputs=outputs)


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
        """Delete the pod: its processes get SIGTERM, and SIGKILL after its grace."""
        self.space.api.delete(self.path)

    def signal(self) -> None:
        """Send SIGTERM to the container's first process, as a terminated run does; the pod stays, for its log."""
        os.kill(min(self.processes()), signal.SIGTERM)

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


def _real(made: Object, outputs: Path, node: str, environment: dict[str, str]) -> Object:
    """Return a step's pod with the shell's image, this checkout and its environment, on its node's network."""
    body: Object = json.loads(json.dumps(made))
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
