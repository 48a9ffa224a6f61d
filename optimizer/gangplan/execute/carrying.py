"""A plan carried out: look, find the steps, take those that can be taken, and look again.

Nothing is remembered between two looks but what was refused: a process that dies is followed by one that looks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from itertools import chain, groupby
from threading import Lock
from typing import TYPE_CHECKING

from gangplan.clock import Clock
from gangplan.errors import ConflictError, GangplanError, UnavailableError
from gangplan.execute.all_steps import steps_to
from gangplan.execute.engines import Engine, Seen, look
from gangplan.execute.wanted import Goal
from gangplan.types import Grant, Observation, Step

if TYPE_CHECKING:
    from gangplan.execute.journal import Journal

FRESH = timedelta(seconds=10)
"""How long steps may be taken from one look; then everything is looked at again."""

_LOOKS = 30
_CONFLICTS = 3


class Outcome(StrEnum):
    """What became of a step."""

    BEGUN = "begun"
    DONE = "done"
    REFUSED = "refused"
    OVERTAKEN = "overtaken"  # somebody else changed it first
    UNKNOWN = "unknown"  # the engine did not answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A step that was tried, when, what became of it, and what the engine said."""

    step: Step
    at: datetime
    outcome: Outcome
    engine: str = ""
    words: str = ""


@dataclass(frozen=True, kw_only=True)
class Carried:
    """What one pass did, what is left, and what the engines had `before` it and at its end.

    `left` are the steps that wait, each with its reason, and those after a refused one of their pool. In a dry run
    `done` are the steps that could be taken.
    """

    done: tuple[Step, ...]
    left: tuple[Step, ...]
    refused: tuple[Taken, ...]
    unreachable: dict[str, str]
    before: Observation
    observed: Observation
    goals: tuple[Goal, ...]
    dry_run: bool = False

    @property
    def reached(self) -> bool:
        """Whether all is as it is wanted."""
        return not (self.left or self.refused or self.unreachable or (self.dry_run and self.done))


Wanted = Callable[[datetime], tuple[Goal, ...]]
"""Returns what is wanted at a moment."""


@dataclass(kw_only=True)
class Carrying:
    """What is wanted, on which engines, beside whose grants.

    `grants` are asked for at each look: those that the engines do not know. `more` gives further steps, of what is no
    pool, from what was looked at last. `chosen` are the steps that may be taken;
    others are neither taken nor shown. `journal` keeps what was done.
    """

    engines: Sequence[Engine]
    wanted: Wanted
    clock: Clock
    grants: Callable[[], Iterable[Grant]] = tuple
    more: Callable[[datetime], Iterable[Step]] = lambda _now: ()
    chosen: Callable[[Engine | None, Step], bool] = lambda _engine, _step: True
    journal: Journal | None = None

    def once(self, *, dry_run: bool = False) -> Carried:
        """Take all steps that can be taken now, however many looks that needs; a dry run lets the engines check them.

        A refused step keeps the others of its pool after it from being taken; other pools go on.
        """
        done: list[Step] = []
        trouble = _Trouble()
        before: Observation | None = None
        looks = 0
        while True:
            now = self.clock()
            seen = look(self.engines)
            before = before or seen.observation
            goals = self.wanted(now)
            grants = tuple(self.grants())
            found = self._steps(seen, goals, grants, now)
            if self.journal is not None and not dry_run:
                self.journal.saw(seen.observation, grants, goals, now)
            doable = [step for step in found if not step.waits_for and not trouble.stops(step)]
            taken = self._take(doable, seen, now, trouble, dry_run=dry_run)
            done += taken
            looks += 1
            if dry_run or looks == _LOOKS or not (taken or trouble.overtaken_now()):
                left = [step for step in found if step not in taken and not trouble.is_refused(step)]
                return Carried(
                    done=tuple(done),
                    left=tuple(trouble.waiting(step, seen.engine_of(step)) for step in left),
                    refused=tuple(trouble.refused.values()),
                    unreachable={**seen.unreachable, **trouble.unreachable},
                    before=before,
                    observed=seen.observation,
                    goals=goals,
                    dry_run=dry_run,
                )

    def _steps(self, seen: Seen, goals: tuple[Goal, ...], grants: tuple[Grant, ...], now: datetime) -> tuple[Step, ...]:
        """Return the steps that may be taken and shown."""
        found = [*seen.held_back(steps_to(goals, seen.observation, grants, now)), *self.more(now)]
        return tuple(step for step in found if self.chosen(seen.engine_of(step), step))

    def _take(self, doable: list[Step], seen: Seen, now: datetime, trouble: _Trouble, *, dry_run: bool) -> list[Step]:
        """Take steps in order while what was seen is fresh; return those that were taken."""
        if self.journal is not None and doable and not dry_run:
            self.journal.begin(doable, seen.observation, now)
        tried: list[Taken] = []
        for engine, turns in _turns(doable, seen):
            one_after_another = partial(self._in_turn, engine, now=now, trouble=trouble, dry_run=dry_run)
            if engine.at_once == 1 or len(turns) == 1:
                tried += chain.from_iterable(map(one_after_another, turns))
            else:
                with ThreadPoolExecutor(engine.at_once) as threads:
                    tried += chain.from_iterable(threads.map(one_after_another, turns))
        if self.journal is not None and tried and not dry_run:
            self.journal.end(tried)
        return [taken.step for taken in tried if taken.outcome is Outcome.DONE]

    def _in_turn(
        self, engine: Engine, steps: Sequence[Step], *, now: datetime, trouble: _Trouble, dry_run: bool
    ) -> list[Taken]:
        """Take steps of one pool, one after another."""
        tried: list[Taken] = []
        for step in steps:
            if trouble.stops(step) or engine.target.name in trouble.unreachable:
                continue
            if self.clock() - now > FRESH:
                trouble.stale = True
                break
            taken = self._try(engine, step, dry_run=dry_run)
            trouble.note(taken)
            tried.append(taken)
        return tried

    def _try(self, engine: Engine, step: Step, *, dry_run: bool) -> Taken:
        """Take one step, and say what became of it."""

        def became(outcome: Outcome, words: object = "") -> Taken:
            name = engine.target.name
            return Taken(step=step, at=self.clock(), outcome=outcome, engine=name, words=str(words))

        try:
            engine.target.apply(step, dry_run=dry_run)
        except ConflictError as error:
            return became(Outcome.OVERTAKEN, error)
        except UnavailableError as error:
            return became(Outcome.UNKNOWN, error)
        except GangplanError as error:  # in the engine's words: rejected, forbidden, out of capacity, wrongly given
            return became(Outcome.REFUSED, error)
        return became(Outcome.DONE)


def _turns(doable: Iterable[Step], seen: Seen) -> Iterator[tuple[Engine, list[list[Step]]]]:
    """Give the steps in their order: of one kind on one engine, those of each pool for themselves."""
    for _, same in groupby(doable, key=lambda step: step.kind):
        by_engine: dict[str, tuple[Engine, dict[str, list[Step]]]] = {}
        for step in same:
            engine = seen.engine_of(step)
            if engine is not None:
                _, pools = by_engine.setdefault(engine.target.name, (engine, {}))
                pools.setdefault(step.pool, []).append(step)
        for engine, pools in by_engine.values():
            yield engine, list(pools.values())


@dataclass(kw_only=True)
class _Trouble:
    """What went wrong in a pass: the refused step of each pool, and engines that did not answer.

    Steps of different pools note it at the same time.
    """

    refused: dict[str, Taken] = field(default_factory=dict[str, Taken])
    unreachable: dict[str, str] = field(default_factory=dict[str, str])
    stale: bool = False
    _overtaken: set[str] = field(default_factory=set[str])
    _conflicts: Counter[tuple[str, str, str]] = field(default_factory=Counter[tuple[str, str, str]])
    _noting: Lock = field(default_factory=Lock)

    def stops(self, step: Step) -> bool:
        """Whether a step must not be tried: one before it in its pool was refused, or has to be looked at again."""
        return step.pool in self.refused or step.pool in self._overtaken

    def is_refused(self, step: Step) -> bool:
        """Whether this is the step of its pool that was refused."""
        refused = self.refused.get(step.pool)
        return refused is not None and (refused.step.kind, refused.step.place) == (step.kind, step.place)

    def waiting(self, step: Step, engine: Engine | None) -> Step:
        """Return a step that was left, with what it waits for."""
        if step.waits_for:
            return step
        if step.pool in self.refused:
            return replace(step, waits_for=f"{self.refused[step.pool].step.kind.value}, which was refused")
        if engine is not None and engine.target.name in self.unreachable:
            return replace(step, waits_for=self.unreachable[engine.target.name])
        return step

    def note(self, taken: Taken) -> None:
        """Keep what became of a step; what is overtaken again and again is refused."""
        with self._noting:
            self._note(taken)

    def _note(self, taken: Taken) -> None:
        step = taken.step
        if taken.outcome is Outcome.OVERTAKEN:
            key = (step.kind.value, step.pool, step.place)
            self._conflicts[key] += 1
            if self._conflicts[key] < _CONFLICTS:
                self._overtaken.add(step.pool)
            else:
                self.refused[step.pool] = taken
        elif taken.outcome is Outcome.REFUSED:
            self.refused[step.pool] = taken
        elif taken.outcome is Outcome.UNKNOWN:
            self.unreachable[taken.engine] = taken.words

    def overtaken_now(self) -> bool:
        """Whether there is something to look at again; the pools that were overtaken may be tried again."""
        again = bool(self._overtaken) or self.stale
        self._overtaken.clear()
        self.stale = False
        return again


def until_reached(
    carrying: Carrying,
    *,
    deadline: datetime,
    pause: Callable[[timedelta], object],
    told: Callable[[Carried], object] = lambda _: None,
    every: timedelta = timedelta(seconds=5),
) -> Carried:
    """Carry out again and again until all is as it is wanted, or `deadline` has come; return the last pass.

    A refused step ends it: whoever asked must know. `told` hears of each pass; `pause` waits for so long.
    """
    while True:
        carried = carrying.once()
        told(carried)
        if carried.reached or carried.refused or carrying.clock() + every > deadline:
            return carried
        pause(every)
