"""The small world's first hour."""

from __future__ import annotations

from datetime import datetime

import pytest
from tests.feedback.builders import START


@pytest.fixture
def start() -> datetime:
    """The first hour of the small world."""
    return START
