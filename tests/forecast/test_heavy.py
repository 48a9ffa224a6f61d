"""Heavy libraries come in late and quickly, and leave no trace of how: the collector runs, docstrings are parsed."""

from __future__ import annotations

import gc
import subprocess
import sys
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


def test_scipy_is_imported_as_it_is_but_for_notes() -> None:
    """Functions have the docstrings of SciPy's files, what comes later is parsed again, and statistics work."""
    program = """
from gangplan.forecast.libraries import importing
with importing():
    import statsforecast.theta
import scipy.stats
from scipy._lib import _array_api, _docscrape
assert _array_api.FunctionDoc is _docscrape.FunctionDoc
assert "skewness" in scipy.stats.skew.__doc__
assert "Parameters" in scipy.stats.skew.__doc__
assert abs(scipy.stats.norm.ppf(0.975) - 1.959964) < 1e-6
assert abs(scipy.stats.skew([1.0, 2.0, 9.0]) - 0.66) < 0.01
"""
    subprocess.run([sys.executable, "-c", program], check=True)
