"""MLflow tells of each of its own steps on stderr; while we call it, only its errors are worth a line there."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def quiet_mlflow() -> Generator[None]:
    """Let MLflow log errors only, for a while."""
    logger = logging.getLogger("mlflow")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
