"""A node's own control groups: made before its kubelet starts, removed when its last process is gone."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_ALL = Path("/sys/fs/cgroup")
_PATIENCE_S = 10.0


def make(node: str) -> str:
    """Make a group in every hierarchy and return its name; a kubelet wants its root there already."""
    sweep()
    name = f"gangplan-{os.getpid()}-{node}"
    for hierarchy in _hierarchies():
        (hierarchy / name).mkdir(exist_ok=True)
        for file in ("cpuset.cpus", "cpuset.mems"):  # a new group of this kind has no processor and no memory
            if (hierarchy / file).exists():
                (hierarchy / name / file).write_text((hierarchy / file).read_text())
    return name


def remove(name: str) -> None:
    """Remove a group with all below it, once the kernel has ended its processes."""
    deadline = time.monotonic() + _PATIENCE_S
    while left := [top for one in _hierarchies() if (top := one / name).exists()]:
        for top in left:
            for folder, _, _ in os.walk(top, topdown=False):
                with suppress(OSError):  # not yet empty: looked at again
                    os.rmdir(folder)
        if time.monotonic() > deadline:
            raise TimeoutError(f"a process of the node is still there: {', '.join(map(str, left))}")
        time.sleep(0.02)


def sweep() -> None:
    """Remove what nodes left whose owner was killed."""
    names = {found.name for one in _hierarchies() for found in one.glob("gangplan-*-*")}
    for name in names:
        if not Path("/proc", name.split("-")[1]).exists():
            remove(name)


def tried() -> bool:
    """Whether this machine has control groups of the kind that real nodes were tried with: version 1."""
    return (_ALL / "memory" / "cgroup.procs").exists()


def _hierarchies() -> Iterator[Path]:
    yield from (one for one in _ALL.iterdir() if not one.is_symlink() and (one / "cgroup.procs").exists())
