"""Pauses of the garbage collector while heavy libraries are imported: they overlap, and end with the last one."""

from __future__ import annotations

import gc

import pytest

from gangplan.forecast.libraries import uncollected


def test_collector_goes_on_after_the_last_of_overlapping_pauses() -> None:
    """A pause inside another keeps it off until both are over."""
    with uncollected():
        with uncollected():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_collector_that_was_off_stays_off_and_an_error_turns_it_on() -> None:
    """What was before is given back, also where the block raises."""
    gc.disable()
    try:
        with uncollected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
    with pytest.raises(KeyError), uncollected():
        raise KeyError
    assert gc.isenabled()
