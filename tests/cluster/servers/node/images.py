"""What the node's pods run, from what lies on this machine: a shell, and this Python. Nothing is pulled."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

Object = dict[str, Any]

SHELL, PAUSE = "localhost/shell:1", "localhost/pause:1"
USER = 1000
_OCI = "application/vnd.oci.image"
_ETC = {
    "etc/passwd": f"root:x:0:0::/tmp:/bin/sh\nuser:x:{USER}:{USER}::/tmp:/bin/sh\n".encode(),
    "etc/group": f"root:x:0:\nuser:x:{USER}:\n".encode(),
}


def write(file: Path, busybox: Path) -> None:
    """Write both images into one tar as `ctr images import` reads it; they share the one layer, 2 MB.

    A pod's own container (`pause`) has only to sleep: its end does not wait for it.
    """
    layer = _shell(busybox)
    with tarfile.open(file, "w") as out:
        held = _blob(out, layer, "layer.v1.tar")
        tops = [_image(out, SHELL, held, ["/bin/sh"]), _image(out, PAUSE, held, ["/bin/sleep", "2147483647"])]
        _add(out, "index.json", json.dumps({"schemaVersion": 2, "manifests": tops}).encode())
        _add(out, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')


def python(root: Path, environment: Path = Path(sys.prefix)) -> Object:
    """Return what a pod of the shell image needs to run an environment's interpreter with the code of a checkout.

    Its volumes and mounts, read-only at their own paths: nothing is copied into an image.
    """
    environment = environment.resolve()
    (home,) = (line for line in (environment / "pyvenv.cfg").read_text().splitlines() if line.startswith("home"))
    base = str(Path(home.split("=")[1].strip()).parent)
    folders = sorted({"/lib", "/lib64", "/usr/lib", base, str(environment), str(root)})
    named = [(f"python-{place}", folder) for place, folder in enumerate(folders) if Path(folder).exists()]
    return {
        "volumes": [{"name": name, "hostPath": {"path": folder}} for name, folder in named],
        "volumeMounts": [{"name": name, "mountPath": folder, "readOnly": True} for name, folder in named],
    }


def _shell(busybox: Path) -> bytes:
    listed = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, data in {**_ETC, "bin/busybox": busybox.read_bytes()}.items():
            _add(tar, path, data, 0o755)
        for name in listed:
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "/bin/busybox"
            if name != "busybox":
                tar.addfile(link)
        folder = tarfile.TarInfo("tmp")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
        tar.addfile(folder)
    return buffer.getvalue()


def _image(out: tarfile.TarFile, name: str, layer: Object, command: list[str]) -> Object:
    """Add an image's configuration and manifest, and return what the index says of it."""
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"User": str(USER), "Cmd": command, "Env": ["PATH=/bin", "HOME=/tmp"], "WorkingDir": "/tmp"},  # noqa: S108
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    }
    described = _blob(out, json.dumps(config).encode(), "config.v1+json")
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_OCI}.manifest.v1+json",
        "config": described,
        "layers": [layer],
    }
    top = _blob(out, json.dumps(manifest).encode(), "manifest.v1+json")
    return {**top, "annotations": {"io.containerd.image.name": name}}


def _blob(out: tarfile.TarFile, data: bytes, kind: str) -> Object:
    digest = hashlib.sha256(data).hexdigest()
    _add(out, f"blobs/sha256/{digest}", data)
    return {"mediaType": f"{_OCI}.{kind}", "digest": f"sha256:{digest}", "size": len(data)}


def _add(tar: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), mode
    tar.addfile(info, io.BytesIO(data))
