"""Build the servers of the cluster tier, once, from published Go modules into a cache outside the repository.

Each module file has a folder of its own in the cache, keyed by what stands in it: a changed version builds beside the
old one, a further module leaves the others as they are, and nothing is built twice.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from tests.cluster.servers import published

MODULES = Path(__file__).resolve().parent / "modules"
TOOLS = {
    "control-plane": (
        "go.etcd.io/etcd/server/v3",
        "k8s.io/kubernetes/cmd/kube-apiserver",
        "k8s.io/kubernetes/cmd/kube-controller-manager",
        "k8s.io/kubernetes/cmd/kube-scheduler",
        "k8s.io/kubernetes/cmd/kubectl",
        "k8s.io/kubernetes/cmd/kubelet",
        "sigs.k8s.io/jobset",
        "sigs.k8s.io/kueue/cmd/kueue",
    ),
    "kwok": ("sigs.k8s.io/kwok/cmd/kwok",),
    "karpenter": ("sigs.k8s.io/karpenter/kwok",),
}
"""By module file: what shares its versions is compiled once, which is most of the work."""

MANIFESTS = {
    "control-plane": ("kueue", "jobset", "provisioningrequests", "trainjobs"),
    "kwok": ("stages",),
    "karpenter": ("karpenter",),
}
"""What is read from the projects' published files; a further name is rendered beside what is built."""

USUAL = ("control-plane", "kwok")
"""What every cluster needs."""

_CALLED = {"go.etcd.io/etcd/server/v3": ("server", "etcd"), "sigs.k8s.io/karpenter/kwok": ("kwok", "karpenter")}
"""Tools that go names by the last part of their path, which says nothing, and what we call them."""


class CannotBuild(Exception):
    """This machine cannot build the servers; the message is one line."""


def servers(modules: Sequence[str] = USUAL) -> None:
    """Build what is not there yet."""
    for module in modules:
        if not _ready(module):
            with lock(module):
                if not _ready(module):
                    _build(module)


def ready(modules: Sequence[str] = USUAL) -> bool:
    """Tell whether the servers are built."""
    return all(map(_ready, modules))


def missing(modules: Sequence[str] = USUAL) -> str:
    """Say in one line why the servers can be neither found nor built here; empty when they can."""
    if ready(modules) or shutil.which("go"):
        return ""
    return (
        "the cluster did not start: no `go` on the PATH to build it with: install Go 1.25 or newer, or set KUBECONFIG"
    )


def binary(name: str) -> Path:
    """Give the path of a program that was built."""
    return next(_folder(module) / "bin" / name for module, tools in TOOLS.items() if name in map(_binary, tools))


def manifest(module: str, name: str) -> str:
    """Give what a module's projects publish, as it was rendered when it was built."""
    return (_folder(module) / "manifests" / f"{name}.yaml").read_text()


def cache() -> Path:
    """Give the folder that outlives the repository."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "gangplan" / "cluster"


def key(module: str) -> str:
    """Name a module's versions: a hash of its files and of what is built from them."""
    files = sorted((MODULES / module).glob("go.*"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files) + repr(TOOLS[module]).encode()).hexdigest()[:16]


def _folder(module: str) -> Path:
    return cache() / f"{module}-{key(module)}"


def _ready(module: str) -> bool:
    return (_folder(module) / "ready").exists() and not _unrendered(module)


def _unrendered(module: str) -> list[str]:
    return [name for name in MANIFESTS[module] if not (_folder(module) / "manifests" / f"{name}.yaml").exists()]


def lock(module: str) -> FileLock:
    """Give the lock that whoever builds a module holds."""
    _folder(module).mkdir(parents=True, exist_ok=True)
    return FileLock(_folder(module) / "lock")


def _build(module: str) -> None:
    """Build a module's tools, and render the manifests that come with them."""
    if why := missing((module,)):
        raise CannotBuild(why)
    folder, tools = _folder(module), TOOLS[module]
    for name in ("bin", "manifests"):
        (folder / name).mkdir(exist_ok=True)
    if not (folder / "ready").exists():
        print(f"building {', '.join(map(_binary, tools))} (once; kept in {folder})", flush=True)
        _go(module, "build", "-trimpath", "-ldflags", _stamp(module), "-o", f"{folder / 'bin'}/", *tools)
        for built, called in (_CALLED[tool] for tool in tools if tool in _CALLED):
            (folder / "bin" / built).rename(folder / "bin" / called)
    for name in _unrendered(module):
        (folder / "manifests" / f"{name}.yaml").write_text(_rendered(module, name))
    (folder / "ready").write_text(key(module))


def _rendered(module: str, name: str) -> str:
    """Return what is published under a name beside a module's tools."""
    if name == "stages":
        return published.stages(_source(module, "sigs.k8s.io/kwok"))
    if name == "karpenter":
        return published.karpenter(_source(module, "sigs.k8s.io/karpenter"))
    if name == "provisioningrequests":
        source = _source(module, "k8s.io/autoscaler/cluster-autoscaler/apis")
        return (source / "config/crd/autoscaling.x-k8s.io_provisioningrequests.yaml").read_text()
    if name == "trainjobs":
        source = _source(module, "github.com/kubeflow/trainer/v2")
        return (source / "manifests/base/crds/trainer.kubeflow.org_trainjobs.yaml").read_text()
    kubectl, source = str(_folder(module) / "bin" / "kubectl"), _source(module, f"sigs.k8s.io/{name}")
    return _run([kubectl, "kustomize", f"{source}/config/default"], source)


def _source(module: str, project: str) -> Path:
    """Return where go keeps a project's published files."""
    return Path(_go(module, "list", "-m", "-f", "{{.Dir}}", project).strip())


def _binary(tool: str) -> str:
    """Name a tool's binary."""
    return _CALLED[tool][1] if tool in _CALLED else tool.rsplit("/", 1)[-1]


def _stamp(module: str) -> str:
    """Give the linker the version: without it the API server's compatibility checks misbehave."""
    text = (MODULES / module / "go.mod").read_text()
    version = next(
        (line.split()[1] for line in text.splitlines() if line.strip().startswith("k8s.io/kubernetes v")), ""
    )
    names = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version") if version else ()
    return " ".join(("-s -w", *(f"-X {name}.gitVersion={version}" for name in names)))


def _go(module: str, *arguments: str) -> str:
    """Run go in a module's folder, without C so that the binaries run anywhere."""
    return _run(["go", *arguments], MODULES / module)


def _run(command: list[str], folder: Path) -> str:
    """Run a command and give its output; what it said goes into the error."""
    environment = {**os.environ, "CGO_ENABLED": "0"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotBuild(f"{' '.join(command[:3])} failed in {folder}: {done.stderr.strip()[-2000:]}")
    return done.stdout
