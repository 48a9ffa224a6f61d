"""Pauses of the garbage collector while heavy libraries are imported: they overlap, and end with the last one."""

from __future__ import annotations

import gc
import threading

import pytest

from gangplan.forecast.libraries import uncollected


def test_collector_goes_on_after_the_last_of_overlapping_pauses() -> None:
    """A pause inside another, and one of another thread that ends later, keep it off until both are over."""
    inside, done = threading.Event(), threading.Event()

    def pause() -> None:
        with uncollected():
            inside.set()
            done.wait(10)

    other = threading.Thread(target=pause)
    with uncollected():
        with uncollected():
            assert not gc.isenabled()
        assert not gc.isenabled()
        other.start()
        assert inside.wait(10)
    assert not gc.isenabled()
    done.set()
    other.join()
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
