"""The system's clock, and the moment that it may be told to stand at."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from gangplan.clock import system_clock
from gangplan.config import present
from gangplan.errors import InputError
from gangplan.testing import NOW, fixed_clock

LATER = NOW + timedelta(days=3)


def test_a_fixed_clock_stands_here_and_in_commands() -> None:
    """Within the block it is the given moment, in other processes as well; after it, what it was before."""
    program = "from gangplan.config import present; print(present().isoformat())"
    before = present()
    with fixed_clock(LATER):
        said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        assert present() == datetime.fromisoformat(said.strip()) == LATER
    assert present() == before == NOW


def test_a_moment_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What GANGPLAN_NOW cannot mean is named by it."""
    monkeypatch.setenv("GANGPLAN_NOW", "2026-03-02T09:00:00")
    with pytest.raises(InputError, match="now"):
        present()


@pytest.mark.present("it is the present that is asked for")
def test_without_one_it_is_the_present() -> None:
    """The clock moves, and says what the machine's does."""
    assert datetime.now(UTC) <= present() <= system_clock() <= datetime.now(UTC)
