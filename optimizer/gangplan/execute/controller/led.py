"""Targets of a leader: each step is taken only while it leads, and not once it was asked to stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gangplan.execute.target import Target
from gangplan.types import Observation, Step, StepKind


@dataclass(frozen=True)
class LedTarget:
    """A target that calls `require` before each step, which raises UnavailableError to keep it back."""

    inner: Target
    require: Callable[[], None]

    @property
    def name(self) -> str:
        """See `Target.name`."""
        return self.inner.name

    @property
    def kinds(self) -> frozenset[StepKind]:
        """See `Target.kinds`."""
        return self.inner.kinds

    def observe(self) -> Observation:
        """See `Target.observe`."""
        return self.inner.observe()

    def apply(self, step: Step, *, dry_run: bool = False) -> None:
        """See `Target.apply`."""
        self.require()
        self.inner.apply(step, dry_run=dry_run)

    def check(self) -> tuple[str, ...]:
        """See `Target.check`."""
        return self.inner.check()

    def close(self) -> None:
        """See `Target.close`."""
        self.inner.close()
