"""Targets of a leader: steps only while it leads, and an engine that is away is asked ever more rarely."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from gangplan.errors import UnavailableError
from gangplan.execute.controller.led import LedTarget
from gangplan.types import Observation, Step, StepKind

STEP = Step(kind=StepKind.ORDER, pool="a", before=1, after=2, why="a test")


@dataclass
class Engine:
    """An engine that may be away, and keeps the steps that it was given."""

    name: str = "engine"
    kinds: frozenset[StepKind] = frozenset(StepKind)
    away: bool = False
    asked: int = 0
    taken: list[Step] = field(default_factory=list[Step])

    def observe(self) -> Observation:
        """Say what there is: nothing."""
        self.asked += 1
        if self.away:
            raise UnavailableError("the engine is away")
        return Observation()

    def apply(self, step: Step, *, dry_run: bool = False) -> None:
        """Keep a step."""
        self.taken.append(step)

    def check(self) -> tuple[str, ...]:
        """Find nothing."""
        return ()

    def close(self) -> None:
        """Nothing is open."""


def test_a_step_is_taken_only_while_it_leads() -> None:
    """And what keeps it back is an engine that cannot be asked, so that the pass ends."""
    leads = True

    @contextmanager
    def step() -> Generator[None]:
        if not leads:
            raise UnavailableError("leads no more")
        yield

    engine = Engine()
    led = LedTarget(engine, step)
    led.apply(STEP)
    leads = False
    with pytest.raises(UnavailableError, match="leads no more"):
        led.apply(STEP)
    assert engine.taken == [STEP]


def test_an_engine_that_is_away_is_asked_ever_more_rarely() -> None:
    """With the same words in between; after it has answered, always again."""
    engine, now = Engine(away=True), [0.0]
    led = LedTarget(engine, _step, monotonic=lambda: now[0])
    for _ in range(3600):
        with pytest.raises(UnavailableError, match="the engine is away"):
            led.observe()
        now[0] += 1
    assert 3600 / 90 < engine.asked < 3600 / 30 + 20
    engine.away = False
    now[0] += 90
    asked = engine.asked
    for _ in range(3):
        led.observe()
    assert engine.asked == asked + 3


@contextmanager
def _step() -> Generator[None]:
    yield
