"""How heavy libraries are imported and called: without pauses of the garbage collector, without MLflow's notices."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Generator
from contextlib import contextmanager

_LOCK = threading.Lock()
_pausing = 0
_collected_before = True


@contextmanager
def uncollected() -> Generator[None]:
    """Pause the garbage collector: what an import makes is there to stay, and searching it would only take time.

    Pauses may overlap, also those of several threads: the collector goes on when the last one ends.
    """
    global _pausing, _collected_before
    with _LOCK:
        if _pausing == 0:
            _collected_before = gc.isenabled()
            gc.disable()
        _pausing += 1
    try:
        yield
    finally:
        with _LOCK:
            _pausing -= 1
            if _pausing == 0 and _collected_before:
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
