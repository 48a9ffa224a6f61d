"""What every benchmark shares: the figure, the machine it was measured on, the table and the JSON file."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".run" / "bench"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured value, its unit, the bar it has to meet ('<= 5') and a peer's value from the same run."""

    name: str
    value: float
    unit: str
    bar: str = ""
    peer: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the bar is met; none where there is no bar."""
        if not self.bar:
            return None
        relation, limit = self.bar.split()
        return self.value <= float(limit) if relation == "<=" else self.value >= float(limit)


def machine() -> dict[str, str | int | float]:
    """Describe the machine: processor, cores that this process may use, memory in GiB, Python."""
    cpu = next((line.split(":")[1].strip() for line in _read("/proc/cpuinfo") if line.startswith("model name")), "")
    kib = next((int(line.split()[1]) for line in _read("/proc/meminfo") if line.startswith("MemTotal")), 0)
    return {
        "cpu": cpu or platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(kib / 2**20, 1),
        "python": platform.python_version(),
    }


def commit() -> str:
    """Name the commit that was measured; '+' behind it says that the tree had changes."""
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty=+"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return said.stdout.strip() or "unknown"


def report(name: str, figures: Sequence[Figure]) -> None:
    """Print a benchmark's table and write .run/bench/<name>.json."""
    here = machine()
    table = Table(title=f"{name}: {here['cpu']}, {here['cores']} cores, {here['memory_gib']} GiB", title_justify="left")
    for column in ("figure", "value", "unit", "bar", "met", "peer"):
        table.add_column(column, justify="right" if column == "value" else "left")
    words = {True: "yes", False: "NO", None: ""}
    for figure in figures:
        table.add_row(figure.name, f"{figure.value:,.4g}", figure.unit, figure.bar, words[figure.met], figure.peer)
    Console(width=140).print(table)
    write(name, figures)


def write(name: str, figures: Sequence[Figure]) -> None:
    """Write .run/bench/<name>.json: after each part of a long benchmark, so that what was measured is never lost."""
    here = machine()
    FOLDER.mkdir(parents=True, exist_ok=True)
    body = {"machine": here, "commit": commit(), "figures": [asdict(figure) for figure in figures]}
    (FOLDER / f"{name}.json").write_text(json.dumps(body, indent=2) + "\n")


def _read(path: str) -> list[str]:
    """Read a file of /proc; none elsewhere."""
    file = Path(path)
    return file.read_text().splitlines() if file.exists() else []
