"""Build the servers of the cluster tier, once, from published Go modules into a cache outside the repository.

The cache is keyed by the module files, so that a changed version builds beside the old one and nothing is built twice.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from filelock import FileLock

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
}
"""By module file: what shares its versions is compiled once, which is most of the work."""

MANIFESTS = ("sigs.k8s.io/kueue", "sigs.k8s.io/jobset")


class CannotBuild(Exception):
    """This machine cannot build the servers; the message is one line."""


def servers() -> Path:
    """Give the folder with bin/ and manifests/, building it when it is not there yet."""
    folder = cache() / key()
    if not ready():
        with lock():
            if not ready():
                _build(folder)
    return folder


def ready() -> bool:
    """Tell whether the servers are built."""
    return (cache() / key() / "ready").exists()


def lock() -> FileLock:
    """Give the lock that whoever builds them holds."""
    folder = cache() / key()
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / "lock")


def missing() -> str:
    """Say in one line why the servers can be neither found nor built here; empty when they can."""
    if ready() or shutil.which("go"):
        return ""
    return (
        "the cluster did not start: no `go` on the PATH to build it with: install Go 1.25 or newer, or set KUBECONFIG"
    )


def cache() -> Path:
    """Give the folder that outlives the repository."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "gangplan" / "cluster"


def key() -> str:
    """Name the versions: a hash of every module file and of what is built from them."""
    files = sorted(MODULES.glob("*/go.*"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files) + repr(TOOLS).encode()).hexdigest()[:16]


def _build(folder: Path) -> None:
    """Build every tool, then render the manifests of those that have any."""
    if why := missing():
        raise CannotBuild(why)
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "manifests").mkdir(exist_ok=True)
    for module, tools in TOOLS.items():
        print(f"building {', '.join(map(_binary, tools))} (once; kept in {folder})", flush=True)
        _go(module, "build", "-trimpath", "-ldflags", _stamp(), "-o", f"{folder / 'bin'}/", *tools)
    (folder / "bin" / "server").rename(folder / "bin" / "etcd")
    for name in MANIFESTS:
        source = _go("control-plane", "list", "-m", "-f", "{{.Dir}}", name).strip()
        rendered = _run([str(folder / "bin" / "kubectl"), "kustomize", f"{source}/config/default"], folder)
        (folder / "manifests" / f"{name.rsplit('/', 1)[-1]}.yaml").write_text(rendered)
    stages = Path(_go("kwok", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/kwok").strip()) / "kustomize/stage/pod/fast"
    texts = [(stages / f"pod-{name}.yaml").read_text() for name in ("ready", "complete", "delete")]
    (folder / "manifests" / "stages.yaml").write_text("---\n".join(texts))
    (folder / "ready").write_text(key())


def _binary(tool: str) -> str:
    """Name a tool's binary; that of etcd's package is built as `server`."""
    return "etcd" if "etcd" in tool else tool.rsplit("/", 1)[-1]


def _stamp() -> str:
    """Give the linker the version: without it the API server's compatibility checks misbehave."""
    text = (MODULES / "control-plane" / "go.mod").read_text()
    version = next(line.split()[1] for line in text.splitlines() if line.strip().startswith("k8s.io/kubernetes v"))
    names = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
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
