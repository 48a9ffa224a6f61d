"""Libraries that take a second to import are imported where they are asked for, and in less time."""

from __future__ import annotations

import gc
import importlib
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

_LOCK = threading.Lock()
_pausing = 0
_collected_before = True


@contextmanager
def importing() -> Generator[None]:
    """Import without the garbage collector, and without the notes that SciPy writes into its docstrings."""
    with uncollected(), _plain_docstrings():
        yield


@contextmanager
def uncollected() -> Generator[None]:
    """Pause the garbage collector: what is made meanwhile is all to stay, and it would look at each object of it.

    Pauses may overlap, also of several threads: it goes on with the end of the last.
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
def _plain_docstrings() -> Generator[None]:
    """Leave SciPy's docstrings as they stand in its files while it is imported.

    It parses 800 of them, a quarter of a second of scipy.stats, to append which array libraries each function takes.
    A SciPy that does not, or that does so elsewhere, is imported as it is.
    """
    try:
        module = importlib.import_module("scipy._lib._array_api")
    except ImportError:
        module = None
    parser: Callable[..., Any] | None = getattr(module, "FunctionDoc", None)
    if module is None or parser is None or "scipy.stats" in sys.modules:
        yield
        return
    vars(module)["FunctionDoc"] = _Plain
    try:
        yield
    finally:
        vars(module)["FunctionDoc"] = parser


class _Plain(dict[str, list[str]]):
    """What SciPy takes for a parsed docstring: a note more is not kept, and as text it is the docstring."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(Notes=[])
        self._text = function.__doc__ or ""

    def __str__(self) -> str:
        return f"\n{self._text}"  # SciPy cuts the first line off, which is the signature
