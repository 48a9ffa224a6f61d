"""One rule for MIG in every source: as many instances of a profile as a GPU holds count as one."""

from __future__ import annotations

from pathlib import Path

import pytest

from gangplan.kube import share_of
from gangplan.progress import no_progress
from gangplan.telemetry.mappings import Reading
from gangplan.telemetry.sources import load
from gangplan.testing import NOW


@pytest.mark.parametrize("profile", ["1g.10gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb", "1g.20gb"])
def test_accounting_counts_as_a_cluster_does(profile: str, tmp_path: Path) -> None:
    """Twelve instances are the same GPUs in Slurm's accounting and on a node of Kubernetes; a note says the rule."""
    file = tmp_path / "sacct.txt"
    times = "2026-03-02T02:00:00|2026-03-02T02:00:00|2026-03-02T04:00:00"
    tres = f"gres/gpu:nvidia_a100_80gb_{profile}=12,gres/gpu=12"
    file.write_text(f"JobID|Submit|Start|End|State|AllocTRES|Account\n1|{times}|COMPLETED|{tres}|vision\n")
    read = load(str(file), seed=7, clock=lambda: NOW, progress=no_progress, reading=Reading(zone="UTC"))
    share = share_of(f"nvidia.com/mig-{profile}", {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB"}, {})
    assert share is not None
    assert read.jobs["gpus"].item() == pytest.approx(12 * share)
    assert any("MIG instances: as many as a GPU holds count as one" in note for note in read.notes)
