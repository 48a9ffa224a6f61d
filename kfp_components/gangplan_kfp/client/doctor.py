"""What `gangplan kfp doctor` looks at: whether steps would work in this image, and whether pipelines can be sent."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from gangplan import __version__
from gangplan.config import Settings
from gangplan.errors import GangplanError
from gangplan.kube import Api, connect as connect_cluster, job_rights, may
from gangplan.reserve import BAD, GOOD, NOTE, Finding
from gangplan.urls import sqlite_file
from gangplan.workflows import examine_some, wrong
from gangplan_kfp.client.server import connect

_OLDEST, _NEWEST = (2, 14), (2, 17)
"""The versions of KFP that were tried."""

_HELD = "gangplan_kfp.held"
_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def examine(settings: Settings, host: str = "", *, namespace: str = "") -> list[Finding]:
    """Look at KFP's packages, the image, ledger, MLflow, the KFP server, and in a cluster at our rights there."""
    in_cluster = "KUBERNETES_SERVICE_HOST" in os.environ
    found = [*_packages(), *_steps(), _user(in_cluster), *_ledger(settings), *_mlflow(settings)]
    found.append(_server(host, namespace))
    if not in_cluster:
        said = "not looked at: this is no pod"
        return [*found, Finding(level=NOTE, what="rights", said=said, remedy="run it in the steps' image, as a step")]
    try:
        own = _NAMESPACE.read_text().strip() if _NAMESPACE.is_file() else "default"
        return [*found, *rights(connect_cluster(), own)]
    except GangplanError as error:
        return [*found, wrong("rights", error)]


def rights(api: Api, namespace: str) -> list[Finding]:
    """Return the rights that `run_on_gang` lacks in a namespace; Jobs are always needed, other kinds where used."""
    lacking: dict[str, list[str]] = {}
    for group, resource, verb in job_rights(namespace):
        if not may(api, namespace, group, resource, verb):
            lacking.setdefault(f"{resource}.{group}".rstrip("."), []).append(verb)
    remedy = f"for run_on_gang: gangplan kube manifests --jobs --namespace {namespace} | kubectl apply -f -"
    found = [
        Finding(
            level=NOTE if kind.startswith(("jobsets", "trainjobs")) else BAD,
            what=f"rights on {kind}",
            said=f"missing in {namespace}: {', '.join(verbs)}",
            remedy=remedy,
        )
        for kind, verbs in lacking.items()
    ]
    return found or [Finding(level=GOOD, what="rights", said=f"run_on_gang has all it needs in {namespace}")]


def _packages() -> Iterator[Finding]:
    """KFP's SDK and its extension, which places steps onto nodes."""
    for name in ("kfp", "kfp-kubernetes"):
        try:
            yield _tried(name, version(name))
        except PackageNotFoundError:
            remedy = "pip install 'gangplan[kfp]'"
            yield Finding(level=BAD, what=name, said="is not installed", remedy=remedy)


def _tried(what: str, number: str) -> Finding:
    """Say whether a version is one that was tried."""
    found = re.match(r"v?(\d+)\.(\d+)", number)
    tried = f"{_OLDEST[0]}.{_OLDEST[1]} to {_NEWEST[0]}.{_NEWEST[1]}"
    if found is not None and _OLDEST <= (int(found[1]), int(found[2])) <= _NEWEST:
        return Finding(level=GOOD, what=what, said=number)
    return Finding(level=NOTE, what=what, said=f"{number}: not tried", remedy=f"{tried} were tried: use one of these")


def _steps() -> Iterator[Finding]:
    """The program that KFP starts in a step, and the one that holds the lease there, as that program finds it."""
    yield Finding(level=GOOD, what="gangplan_kfp", said=f"{__version__}, imported by this Python")
    python = shutil.which("python3")
    if python is None:
        said = "is not on PATH, and KFP starts each step with it"
        yield Finding(level=BAD, what="python3", said=said, remedy="set PATH in the image to the environment's bin")
        return
    look = f"import importlib.util as u; raise SystemExit(u.find_spec({_HELD!r}) is None)"
    ran = subprocess.run([python, "-c", look], capture_output=True, text=True, check=False)  # noqa: S603 - a constant
    if ran.returncode == 0:
        yield Finding(level=GOOD, what="held", said=f"{python} finds {_HELD}")
        return
    why = (ran.stderr.strip().splitlines() or [f"it has no {_HELD}"])[-1]
    remedy = "install this gangplan into that Python, or put its environment's bin first on PATH"
    yield Finding(level=BAD, what="held", said=f"{python} cannot hold leases: {why}", remedy=remedy)


def _user(in_cluster: bool) -> Finding:
    """Who runs the steps."""
    user = os.getuid()
    if user != 0:
        return Finding(level=GOOD, what="user", said=f"{user}, not root")
    remedy = "end the image's Containerfile with USER 1000, as the shipped one does"
    return Finding(
        level=BAD if in_cluster else NOTE, what="user", said="root: steps need no such rights", remedy=remedy
    )


def _ledger(settings: Settings) -> Iterator[Finding]:
    """The ledger, which all pods must share."""
    file = sqlite_file(settings.ledger_url)
    if file is not None:
        said = f"{file} is a file: each pod would have one of its own"
        remedy = "set GANGPLAN_LEDGER to postgresql://... or kueue://..., or mount one volume into all steps"
        yield Finding(level=NOTE, what="ledger of pods", said=said, remedy=remedy)
    yield from examine_some(settings, "ledger")


def _mlflow(settings: Settings) -> list[Finding]:
    """MLflow, which the stages need, and the steps that reserve do not."""
    if find_spec("mlflow") is None:
        remedy = "for the stages: pip install 'gangplan[kfp,forecast,plan]'"
        return [Finding(level=NOTE, what="MLflow", said="is not installed: steps can reserve only", remedy=remedy)]
    return examine_some(settings, "MLflow")


def _server(host: str, namespace: str) -> Finding:
    """The KFP server; a step needs none, so it is wrong only where one was named."""
    try:
        server = connect(host, namespace=namespace)
    except GangplanError as error:
        found = wrong("KFP server", error)
        return found if host else Finding(level=NOTE, what=found.what, said=found.said, remedy=found.remedy)
    found = _tried("KFP server", server.version)
    return Finding(level=found.level, what=found.what, said=f"{server.address}: {found.said}", remedy=found.remedy)
