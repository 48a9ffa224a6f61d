"""The images of the steps, built from kfp_components/Containerfile by buildah: without Docker and without a registry.

What a registry would give is made here (`_given`): debian:12-slim by mmdebstrap from Debian's archive, of which the
published one is made as well, and uv, which this environment has. All else is as the Containerfile says.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from tests.cluster.servers import build
from tests.cluster.servers.node import node

ROOT = Path(__file__).resolve().parents[3]
TOOLS = ROOT / ".envs" / "buildah"
CONTAINERFILE = ROOT / "kfp_components" / "Containerfile"
TARGETS = ("steps", "stages")

_GIVEN = ("pyproject.toml", "requirements/kfp.txt", "kfp_components/servers.txt", "kfp_components/install.sh")
_BASE = "localhost/debian:12-slim"
_MOST_KEPT = 120
"""How many layers of earlier builds are kept; without them the next build takes minutes."""

_LEFT_OUT = ("doc", "info", "locale", "man")
_LIBRARIES = ":".join(str(TOOLS / folder / "x86_64-linux-gnu") for folder in ("usr/lib", "lib"))
_PATH = ":".join(
    [str(TOOLS / "usr/bin"), str(TOOLS.parent / "node/usr/sbin"), os.environ.get("PATH", os.defpath)]
)  # runc is the node's


def missing() -> str:
    """Say in one line why the images cannot be built here; empty when they can."""
    if why := node.missing():
        return why
    if not (TOOLS / "usr/bin/buildah").exists():
        return "buildah is not unpacked: make .envs/buildah/.ready"
    done = _buildah("info", check=False)
    return f"buildah cannot work here: {done.stderr.strip()[-300:]}" if done.returncode else ""


def name(target: str) -> str:
    """Return the name under which a node knows an image."""
    return f"localhost/gangplan-python:{target}"


def archive(target: str) -> Path:
    """Return an image as an OCI archive; it is built again where what it is made of has changed."""
    folder = _folder()
    with FileLock(folder / "lock"), tempfile.TemporaryDirectory(dir=folder) as made:
        context = _context(Path(made))
        wanted = folder / f"{target}-{_key(context)}.tar"
        if not wanted.exists():
            _build(target, context, Path(made))
            for old in folder.glob(f"{target}-*.tar"):
                old.unlink()
            whole = Path(made) / "image.tar"
            _buildah("push", "-D", *_policy(Path(made)), name(target), f"oci-archive:{whole}:{name(target)}")
            whole.rename(wanted)
            if len(_buildah("images", "--all", "--quiet").stdout.split()) > _MOST_KEPT:
                _buildah("rmi", "--prune", "--force")
        return wanted


@contextmanager
def container(target: str) -> Iterator[Container]:
    """Give a container of an image, to run commands in its file system; it goes away with the block."""
    archive(target)
    with tempfile.TemporaryDirectory() as made:
        named = _buildah("from", "--pull-never", *_policy(Path(made)), name(target)).stdout.strip()
    try:
        yield Container(named)
    finally:
        _buildah("rm", named)


class Container:
    """An image's file system, in which commands run as its user and with its environment."""

    def __init__(self, name: str) -> None:
        self._name = name

    def run(
        self, *command: str, volumes: Mapping[Path, str] | None = None, user: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command; its exit code is the caller's to look at."""
        given = [f"--volume={here}:{there}" for here, there in (volumes or {}).items()]
        given += [f"--env={key}={value}" for key, value in environment.items()]
        given += [f"--user={user}"] if user else []
        return _buildah("run", *_ISOLATED, *given, self._name, "--", *command, check=False)

    def megabytes(self) -> float:
        """Return how much its files take, unpacked."""
        found = self.run("du", "-sxk", "/", user="0")
        return int(found.stdout.split()[0]) * 1024 / 1e6


# ---------------------------------------------------------------------- how they are built

_ISOLATED = ("--isolation=oci", "--runtime=runc", "--network=host")


def _build(target: str, context: Path, made: Path) -> None:
    """Build an image into buildah's own store, where all earlier layers are."""
    _buildah(
        "build",
        *_policy(made),
        *_ISOLATED,
        "--layers",
        "--timestamp=0",
        *_given(made),
        f"--file={CONTAINERFILE}",
        f"--target={target}",
        f"--tag={name(target)}",
        str(context),
    )


def _given(made: Path) -> list[str]:
    """Return what stands in for a registry: Debian's image, and uv with this machine's packages and certificates."""
    if _BASE not in _buildah("images", "--format={{.Name}}:{{.Tag}}").stdout.split():
        _make_base(made)
    wanted = re.search(r"--from=(ghcr\.io/astral-sh/uv:\S+)", CONTAINERFILE.read_text())
    assert wanted is not None
    cache = subprocess.run([_uv(), "cache", "dir"], check=True, capture_output=True, text=True).stdout.strip()
    Path(cache).mkdir(parents=True, exist_ok=True)
    own = {name: value for name, value in os.environ.items() if name.startswith("UV_")}
    own |= {"UV_CACHE_DIR": "/given/cache", "SSL_CERT_FILE": "/given/certificates"}
    told = " ".join(f"{name}={shlex.quote(value)}" for name, value in own.items())
    (made / "uv").mkdir()
    (made / "uv" / "uv").write_text(f'#!/bin/sh\n{told} exec /given/uv "$@"\n')
    (made / "uv" / "uv").chmod(0o755)
    _without_times(made / "uv")
    certificates = ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt"
    given = {cache: "cache:rw", str(_uv()): "uv:ro", certificates: "certificates:ro"}
    return [
        f"--build-context=docker.io/library/debian:12-slim=container-image://{_BASE}",
        f"--build-context={wanted[1]}={made / 'uv'}",
        *(f"--volume={here}:/given/{there}" for here, there in given.items()),
    ]


def _make_base(made: Path) -> None:
    """Make Debian's image of its own packages, without what its slim one leaves out."""
    tar = made / "base.tar"
    hooks = TOOLS / "usr/share/mmdebstrap/hooks/merged-usr"
    slim = [f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in _LEFT_OUT]
    whole = ["mmdebstrap", "-q", "--variant=minbase", "--mode=root", "--include=usr-is-merged", f"--hook-dir={hooks}"]
    _run(["perl", str(TOOLS / "usr/bin" / whole[0]), *whole[1:], *slim, "bookworm", str(tar)])
    (made / "Base").write_text(f'FROM scratch\nADD {tar.name} /\nCMD ["bash"]\n')
    _buildah("build", *_policy(made), f"--file={made / 'Base'}", f"--tag={_BASE}", str(made))


def _uv() -> Path:
    """Return this environment's uv."""
    return Path(sys.prefix) / "bin" / "uv"


def _context(made: Path) -> Path:
    """Lay out what the Containerfile copies, as a checkout has it after `make dist`."""
    context = made / "context"
    for given in _GIVEN:
        (context / given).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / given, context / given)
    _run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(context / "dist")])
    _without_times(context)
    return context


def _without_times(folder: Path) -> None:
    """Let what is copied be the same file as at the last build, so that the layers above it are kept."""
    for one in (folder, *folder.rglob("*")):
        os.utime(one, (0, 0))


def _key(context: Path) -> str:
    """Name what an image is made of."""
    files = [CONTAINERFILE, Path(__file__), *sorted(one for one in context.rglob("*") if one.is_file())]
    return hashlib.sha256(b"".join(one.read_bytes() for one in files)).hexdigest()[:16]


def _folder() -> Path:
    folder = build.cache() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _policy(made: Path) -> Sequence[str]:
    """Take the images that are made here without a signature."""
    file = made / "policy.json"
    file.write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))
    return [f"--signature-policy={file}"]


def _buildah(command: str, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run buildah with a store of its own; in a mount namespace, so that a killed one leaves no mount."""
    folder = _folder()
    registries = folder / "registries.conf"
    registries.write_text("unqualified-search-registries = []\n")
    own = [f"--root={folder / 'store'}", f"--runroot={folder / 'run'}", "--storage-driver=overlay"]
    whole = ["unshare", "--mount", str(TOOLS / "usr/bin/buildah"), *own, f"--registries-conf={registries}"]
    return _run([*whole, command, *words], check=check)


def _run(command: Sequence[str], *, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command from the project's root; what it said goes into the error."""
    environment = {**os.environ, "PATH": _PATH, "LD_LIBRARY_PATH": _LIBRARIES}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if check and done.returncode:
        said = (done.stdout + done.stderr).strip()[-3000:]
        raise build.CannotBuild(f"{' '.join(command[:8])} failed: {said}")
    return done
