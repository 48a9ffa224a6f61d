"""How long-running work reports its progress."""

from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[float, float, str], None]
"""A callback that gets how much is done, of how much, and a few words."""


def no_progress(done: float, total: float, text: str, /) -> None:
    """Show nothing; library calls use it by default."""
