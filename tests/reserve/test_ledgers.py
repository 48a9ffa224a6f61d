"""The kind of a ledger that its URL names is loaded, and no other: a pipeline's step starts sooner."""

from __future__ import annotations

import subprocess
import sys


def test_a_ledger_on_kueue_loads_no_database() -> None:
    """SQLAlchemy takes as long to import as all that a step needs on such a ledger."""
    code = """
import sys
from gangplan.errors import GangplanError
from gangplan.reserve import open_ledger
try:
    open_ledger("kueue://nowhere/vision/queue")
except GangplanError as error:
    print(error)
assert "gangplan.reserve.kueue.ledger" in sys.modules
assert "sqlalchemy" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
