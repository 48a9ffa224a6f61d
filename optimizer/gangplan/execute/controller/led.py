"""Targets of a leader: steps are taken only while it leads, and an engine that is away is asked ever more rarely."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from gangplan.errors import UnavailableError
from gangplan.execute.target import Target
from gangplan.types import Observation, Step

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0


class LedTarget:
    """A target that takes each step within `step`, which raises UnavailableError to keep it back.

    While the engine does not answer, it is not asked again for a while, so that the others need not wait for it.
    """

    def __init__(
        self,
        inner: Target,
        step: Callable[[], AbstractContextManager[object]],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.inner, self.name, self.kinds = inner, inner.name, inner.kinds
        self._step, self._monotonic = step, monotonic
        self._failures, self._again, self._why = 0, 0.0, ""

    def observe(self) -> Observation:
        """See `Target.observe`."""
        if self._monotonic() < self._again:
            raise UnavailableError(self._why)
        try:
            seen = self.inner.observe()
        except UnavailableError as error:
            pause = min(_FIRST_PAUSE_S * 2 ** min(self._failures, 10), _LONGEST_PAUSE_S)
            self._failures += 1
            self._again, self._why = self._monotonic() + pause * random.uniform(0.5, 1.5), str(error)
            raise
        self._failures = 0
        return seen

    def apply(self, step: Step, *, dry_run: bool = False) -> None:
        """See `Target.apply`."""
        with self._step():
            self.inner.apply(step, dry_run=dry_run)

    def check(self) -> tuple[str, ...]:
        """See `Target.check`."""
        return self.inner.check()

    def close(self) -> None:
        """See `Target.close`."""
        self.inner.close()
