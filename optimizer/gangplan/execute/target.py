"""What every engine must do, so that plans can be carried out on it."""

from __future__ import annotations

from typing import Protocol

from gangplan.types import Observation, Step, StepKind


class Target(Protocol):
    """One engine, with the pools that live on it.

    `kinds` are the steps that it takes. An engine that only knows quotas, or only nodes, observes only those.
    """

    name: str
    kinds: frozenset[StepKind]

    def observe(self) -> Observation:
        """Return what the engine has now."""
        ...

    def apply(self, step: Step, *, dry_run: bool = False) -> None:
        """Take one step, or with `dry_run` let the engine check it; a step that was taken already changes nothing.

        Raises
        ------
        ConflictError
            What the engine has is not what the step was made from: observe again.
        RejectedError, ForbiddenError, CapacityError
            The engine refuses it, in its words; nothing was changed.
        UnavailableError
            The engine cannot be reached; the step may or may not have been taken: observe again.
        """
        ...

    def check(self) -> tuple[str, ...]:
        """Return what would keep plans from being carried out here, each with its remedy; nothing is changed."""
        ...

    def close(self) -> None:
        """Give back connections."""
        ...
