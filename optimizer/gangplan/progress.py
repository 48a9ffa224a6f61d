"""How long-running work reports its progress."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """A callback that gets how much is done, of how much, and a few words."""

    def __call__(self, done: float, total: float, text: str, /) -> None:
        """Show the progress."""


def no_progress(done: float, total: float, text: str, /) -> None:
    """Show nothing; library calls use it by default."""
