"""The first process of a node's own PID and mount namespace: starts containerd and a kubelet, and reaps.

python inside.py FOLDER LOGS KUBELET --flag-of-the-kubelet...

When it ends, the kernel ends every container with it and undoes every mount. It needs the standard library alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

# What a kubelet and the network's plugins set on the machine, and fail without. Here each finds its value in a file of
# this mount namespace, and the machine keeps its own.
KERNEL = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
    "net/ipv4/ip_forward": "1",
}
# Folders whose names are fixed in the programs.
FIXED = ("/var/log/containers", "/var/lib/cni", "/var/lib/kubelet", "/run/containerd", "/run/netns")


def main(folder: Path, logs: Path, kubelet: list[str]) -> int:
    """Run the node until one of its two programs ends."""
    keep_off_the_machine(folder)
    containerd = start(logs / f"{folder.name}-containerd.log", ["containerd", f"--config={folder / 'containerd.toml'}"])
    ctr = ["ctr", f"--address={folder / 'cri.sock'}", "--namespace=k8s.io"]
    while subprocess.run([*ctr, "version"], capture_output=True, check=False).returncode:
        if containerd.poll() is not None:
            return 1
        time.sleep(0.05)
    subprocess.run([*ctr, "images", "import", str(folder / "images.tar")], check=True)
    started = start(logs / f"{folder.name}-kubelet.log", kubelet)
    ended = 0
    while ended not in (started.pid, containerd.pid):  # every orphan of the namespace is ours
        ended, _ = os.wait()
    return 1


def keep_off_the_machine(folder: Path) -> None:
    """Lay files and folders of our own over those of the machine."""
    for setting, value in KERNEL.items():
        file = folder / "kernel" / setting.replace("/", ".")
        file.parent.mkdir(exist_ok=True)
        file.write_text(value)
        subprocess.run(["mount", "--bind", str(file), f"/proc/sys/{setting}"], check=True)
    for fixed in FIXED:
        own = folder / "fixed" / fixed.strip("/").replace("/", "-")
        own.mkdir(parents=True)
        Path(fixed).mkdir(parents=True, exist_ok=True)  # an empty folder stays: a mount needs a place
        subprocess.run(["mount", "--bind", str(own), fixed], check=True)


def start(log: Path, command: list[str]) -> subprocess.Popen[bytes]:
    """Start a program with its output in a file."""
    with log.open("ab") as out:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]))
