"""What tests of several ledgers assert of calls that are refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gangplan.reserve import Ledger


def refused_by(ledger: Ledger) -> Callable[..., None]:
    """Assert that a call is refused with an error and that no reservation was written by it."""

    def check(error: type[Exception], match: str, call: Callable[[], object]) -> None:
        before = ledger.list()
        with pytest.raises(error, match=match):
            call()
        assert ledger.list() == before

    return check
