"""Slots that come and go in simulated time."""

from __future__ import annotations

from gangplan.reserve.admission.flow import Flow


def test_a_gang_that_never_fits_takes_nothing_from_those_behind_it() -> None:
    """Its window lies ahead and it is too large; the next one still starts when what runs ends."""
    flow = Flow([(0, 4)], [(10, 4)])
    assert flow.serve(8, length=5, after=20, lasts=5) is None
    assert flow.serve(4, length=5, after=0, lasts=5) == 10
