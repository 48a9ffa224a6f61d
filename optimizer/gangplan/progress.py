"""How long work tells how far it is."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called with what is done, of how much, and a few words."""

    def __call__(self, done: float, total: float, text: str, /) -> None:
        """Show it."""


def no_progress(done: float, total: float, text: str, /) -> None:
    """Show nothing: the default of library calls."""
