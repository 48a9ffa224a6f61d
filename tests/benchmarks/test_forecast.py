"""The forecast benchmark's figures over all traces are those of its worst one."""

from __future__ import annotations

from benchmarks.forecast import overall
from benchmarks.parts.figures import Figure


def test_overall_coverage_is_the_worst_traces() -> None:
    """The share farthest from its band's middle stands for all, with its own bar; other figures play no part."""
    figures = [
        Figure(name="openb_24", value=4.0, unit="% WQL", bar="<= 4.2"),
        Figure(name="coverage_80.openb", value=80.0, unit="%", bar=">= 76"),
        Figure(name="coverage_80.dlrm", value=91.0, unit="%", bar="<= 86"),
        Figure(name="below_95.openb", value=92.0, unit="%", bar=">= 93"),
        Figure(name="below_95.dlrm", value=96.0, unit="%", bar="<= 97"),
    ]
    wide, upper = overall(figures)
    assert (wide.name, wide.value, wide.met, wide.peer) == ("coverage_80", 91.0, False, "dlrm")
    assert (upper.name, upper.value, upper.met, upper.peer) == ("below_95", 92.0, False, "openb")
    assert overall(figures[:1]) == []
