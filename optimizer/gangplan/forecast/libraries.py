"""How heavy libraries are imported and called: without pauses of the garbage collector, without MLflow's notices."""

from __future__ import annotations

import gc
import logging
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Generator[None]:
    """Pause the garbage collector: what an import makes is there to stay, and searching it would only take time."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


@contextmanager
def quiet_mlflow() -> Generator[None]:
    """Let MLflow log errors only for a while: by default it reports each of its own steps on stderr."""
    logger = logging.getLogger("mlflow")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
