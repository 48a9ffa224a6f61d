"""Several engines seen as one: what each of them has is joined, and each step finds the engine that takes it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from gangplan.errors import UnavailableError
from gangplan.execute.target import Target
from gangplan.types import QUOTA_STEPS, Observation, PoolNode, PoolNodes, Step, StepKind

_ORDERING = frozenset({StepKind.ORDER, StepKind.REMOVE})
_TAKING_AWAY = frozenset({StepKind.LOWER_QUOTA, StepKind.CORDON, StepKind.REMOVE})
_SEES_GRANTS = frozenset({StepKind.PROTECT, StepKind.CORDON, *QUOTA_STEPS})


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A target, and the pools whose nodes it orders and removes; without them, all those that it tells of.

    `at_once` steps of one kind, of different pools, may be taken at the same time.
    """

    target: Target
    orders: frozenset[str] | None = None
    at_once: int = 1

    def takes(self, step: Step) -> bool:
        """Whether it may take such a step of that pool."""
        if step.kind not in self.target.kinds:
            return False
        return step.kind not in _ORDERING or self.orders is None or step.pool in self.orders


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What all engines had at one moment, by engine; `unreachable` says why an engine told nothing."""

    engines: tuple[Engine, ...]
    by_engine: Mapping[str, Observation]
    unreachable: Mapping[str, str]

    @cached_property
    def observation(self) -> Observation:
        """What they have together."""
        told = [(engine, self.by_engine[engine.target.name]) for engine in self.engines if self._told(engine)]
        return Observation(
            nodes=tuple(_joined(told)),
            quotas=tuple(quota for _, each in told for quota in each.quotas),
            grants=tuple(grant for _, each in told for grant in each.grants),
        )

    def engine_of(self, step: Step) -> Engine | None:
        """Return the engine that takes a step; none where no engine does."""
        return next((engine for engine in self.engines if self._told(engine) and self._has(engine, step)), None)

    def held_back(self, steps: Iterable[Step]) -> Iterator[Step]:
        """Give the steps; those that no engine can take now wait, and those that no engine is meant to take go."""
        for step in steps:
            if step.kind is StepKind.PROTECT:
                yield from self._by_engine(step)
            elif step.kind not in (StepKind.CORDON, StepKind.REMOVE) or self._removes(step.pool):
                yield step if step.waits_for else replace(step, waits_for=self._obstacle(step))

    def _by_engine(self, step: Step) -> Iterator[Step]:
        """Give the step that protects pods for each engine that told of them."""
        for observed in self.by_engine.values():
            for nodes in observed.nodes:
                named = tuple(name for name in nodes.unprotected if nodes.pool == step.pool)
                if named:
                    each = replace(step, nodes=named, before=len(named))
                    yield replace(each, waits_for=self._obstacle(each))

    def _obstacle(self, step: Step) -> str:
        """Return what keeps a step from being taken, if anything does."""
        blind = [name for name in self.unreachable if self._named(name).target.kinds & _SEES_GRANTS]
        if step.kind in _TAKING_AWAY and blind:
            return f"{blind[0]}, which knows of grants: {self.unreachable[blind[0]]}"
        if self.engine_of(step) is not None:
            return ""
        if self.unreachable:
            return "; ".join(f"{name}: {why}" for name, why in self.unreachable.items())
        return "somebody: no engine orders nodes of this pool (targets.yaml says that they are fixed)"

    def _removes(self, pool: str) -> bool:
        """Whether an engine that removes the pool's nodes told of them, or may not have been reached."""
        removal = Step(kind=StepKind.REMOVE, pool=pool, before=0, after=0, why="")
        return bool(self.unreachable) or self.engine_of(removal) is not None

    def _named(self, name: str) -> Engine:
        return next(engine for engine in self.engines if engine.target.name == name)

    def _told(self, engine: Engine) -> bool:
        return engine.target.name in self.by_engine

    @cached_property
    def _places(self) -> frozenset[tuple[str, str, str]]:
        """The quotas by engine, pool and place."""
        told = self.by_engine.items()
        return frozenset((name, quota.pool, quota.place) for name, each in told for quota in each.quotas)

    @cached_property
    def _nodes(self) -> Mapping[tuple[str, str], PoolNodes]:
        """The nodes by engine and pool."""
        return {(name, nodes.pool): nodes for name, each in self.by_engine.items() for nodes in each.nodes}

    def _has(self, engine: Engine, step: Step) -> bool:
        """Whether an engine takes such steps and told of the pool's quota or nodes."""
        if not engine.takes(step):
            return False
        if step.kind is StepKind.MINIMUM:
            return True
        name = engine.target.name
        if step.kind in QUOTA_STEPS:
            return (name, step.pool, step.place) in self._places
        nodes = self._nodes.get((name, step.pool))
        if nodes is None:
            return False
        return step.kind is not StepKind.PROTECT or step.nodes == nodes.unprotected


def look(engines: Sequence[Engine]) -> Seen:
    """Observe all engines; one that cannot be reached does not keep the others from being seen."""
    told: dict[str, Observation] = {}
    unreachable: dict[str, str] = {}
    for engine in engines:
        try:
            told[engine.target.name] = engine.target.observe()
        except UnavailableError as error:
            unreachable[engine.target.name] = str(error)
    return Seen(engines=tuple(engines), by_engine=told, unreachable=unreachable)


def _joined(told: Iterable[tuple[Engine, Observation]]) -> Iterator[PoolNodes]:
    """Give each pool's nodes once: the number is that of the engine that orders them, the rest is what all say."""
    found: dict[str, PoolNodes] = {}
    for engine, observed in told:
        for nodes in observed.nodes:
            other = found.get(nodes.pool)
            orders = StepKind.ORDER in engine.target.kinds and (engine.orders is None or nodes.pool in engine.orders)
            found[nodes.pool] = nodes if other is None else _both(other, nodes, orders=orders)
    yield from found.values()


def _both(one: PoolNodes, other: PoolNodes, *, orders: bool) -> PoolNodes:
    """Join what two engines say of a pool's nodes: a node can be used where both say so."""
    nodes = {node.name: node for node in one.nodes}
    joined = [_same(nodes.pop(node.name, None), node) for node in other.nodes]
    return PoolNodes(
        pool=one.pool,
        ordered=other.ordered if orders else one.ordered,
        nodes=(*joined, *(replace(node, usable=False) for node in nodes.values())),
        unprotected=(*one.unprotected, *other.unprotected),
        trouble="; ".join(filter(None, (one.trouble, other.trouble))),
        irrevocable=other.irrevocable if orders else one.irrevocable,
        named=one.named and other.named,
    )


def _same(one: PoolNode | None, other: PoolNode) -> PoolNode:
    """Join what two engines say of a node."""
    if one is None:
        return replace(other, usable=False)
    return PoolNode(
        name=other.name,
        usable=one.usable and other.usable,
        cordoned_at=one.cordoned_at or other.cordoned_at,
        closed=one.closed or other.closed,
        leaving=one.leaving or other.leaving,
    )
