"""Libraries that take a second to import are imported where they are asked for, and in less time."""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def importing() -> Generator[None]:
    """Pause the garbage collector: an import makes a hundred thousand objects, all to stay, and it looks at each."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()
