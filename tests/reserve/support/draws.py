"""Any command that a client or an operator may give, for simulations: drawn from one seeded source."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timedelta

from tests.reserve.support.mirror import Mirror

from gangplan.reserve.codec import id_of, request_from_text
from gangplan.reserve.commands import (
    Cancel,
    Command,
    MarkNode,
    Publish,
    Release,
    Renew,
    Resize,
    SetPolicy,
    Submit,
    Tick,
)
from gangplan.reserve.policy.rules import Policy, Preemption, Quota, TenantPolicy
from gangplan.testing import a_calendar, a_pool, a_request
from gangplan.types import Level, NodeState, PodSet, ReservationId, Token, Topology

MINUTE = timedelta(minutes=1)
POOLS = (
    a_pool("h100-owned", max_nodes=4, nodes_per_rack=2),
    a_pool("a100-owned", gpus_per_node=8, max_nodes=2, price_per_node_hour=5.0),
)
NODES = [f"{pool.name}-{n}" for pool in POOLS for n in range(pool.max_nodes)]
LINE = 30  # with more than so many live reservations more is given back than asked for


class Draws:
    """Draws commands about what there is, as the mirror shows it."""

    def __init__(self, source: random.Random, mirror: Mirror, now: Callable[[], datetime]) -> None:
        self._random = source
        self._mirror = mirror
        self._now = now
        self._number = 0

    def any_id(self, *, holds: bool = False) -> ReservationId | None:
        """Return a reservation that is live; one that `holds` slots, if any does."""
        live = self._mirror.live
        ids = [id for id, row in live.items() if row["state"] == "granted"] if holds else []
        ids = ids or list(live)
        return ReservationId(ids[int(self._random.random() * len(ids))]) if ids else None

    def any_command(self) -> Command:
        """Return any command; more are given back while many wait."""
        which = self._random.random()
        if not self._mirror.live or which < (0.5 if len(self._mirror.live) < LINE else 0.15):
            return self.submit()
        if which < 0.53:
            return Tick()
        return self.operator() if which < 0.6 else self.of_holder()

    def of_holder(self) -> Command:
        """Return what a client says of its reservation, mostly with the right token."""
        draw, id = self._random, self.any_id(holds=self._random.random() < 0.8)
        assert id is not None
        token = (self._mirror.live[id]["token"] or 1) + (draw.choice((-1, 1, 7)) if draw.random() < 0.1 else 0)
        which = draw.random()
        if which < 0.3:
            ttl = draw.choice([None, draw.randrange(1, 200) * MINUTE])
            return Renew(id, Token(token), ttl)
        if which < 0.45:
            pods = tuple(draw.randint(1, 4) for _ in range(draw.randint(1, 2)))
            return Resize(id, Token(token), pods)
        if which < 0.55:
            return Submit(request_from_text(self._mirror.live[id]["body"]), f"sim/{id}/{draw.randint(1, 9)}")
        return Release(id, Token(token)) if which < 0.8 else Cancel(id, draw.choice([None, None, f"sim/{id}/1"]))

    def submit(self) -> Command:
        """Return a new request."""
        draw, self._number = self._random, self._number + 1
        counts = [draw.randint(1, 3) for _ in range(draw.randint(1, 2))]
        grows = draw.randint(0, 3)
        sets = [PodSet(count=c, gpus_per_pod=draw.randint(1, 4), min_count=1, max_count=c + grows) for c in counts]
        minutes, window = draw.randint(1, 60), draw.choice([None, None, None, (0, 30), (40, 40), (20, 300)])
        request = a_request(
            f"k{self._number}",
            pod_sets=tuple(sets),
            tenant=draw.choice(["vision", "search", "other"]),
            preemptible=draw.random() < 0.5,
            duration=minutes * MINUTE,
            walltime=(minutes + draw.randint(0, 40)) * MINUTE,
            priority=draw.choice([50, 100, 100, 200]),
            accelerators=draw.choice([("h100",), ("a100",), ("a100", "h100")]),
            earliest_start=self._now() + window[0] * MINUTE if window else None,
            latest_start=self._now() + window[1] * MINUTE if window else None,
            topology=Topology(level=Level.RACK) if draw.random() < 0.2 else None,
            claim_within=draw.choice([None, None, 2 * MINUTE, 30 * MINUTE]),
        )
        return Submit(request, draw.choice(["", f"sim/{id_of(request.request_key)}/1"]))

    def operator(self) -> Command:
        """Return what an operator does."""
        draw = self._random
        if draw.random() < 0.3:
            return self.publish([draw.randint(1, 4) for _ in range(draw.randint(1, 3))])
        if draw.random() < 0.25:
            return SetPolicy(self.policy(), "sim", "any")
        out = list(self._mirror.documents["nodes"])
        node = draw.choice(out) if len(out) > 1 else draw.choice(NODES)
        state = NodeState.READY if node in out and draw.random() < 0.8 else draw.choice(list(NodeState))
        begin = (
            self._now() + draw.randint(1, 60) * MINUTE if state is NodeState.DRAINING and draw.random() < 0.5 else None
        )
        lasts = draw.choice([None, 5, 60]) if state is not NodeState.READY else None
        return MarkNode(node, state, "", begin, lasts and (begin or self._now()) + lasts * MINUTE)

    def publish(self, hours: list[int]) -> Command:
        """Return a calendar from now on; after its hours all nodes are there."""
        return Publish(a_calendar(POOLS, start=self._now() - 60 * MINUTE, hours=[*hours, 4]))

    def policy(self) -> Policy:
        """Return any policy."""
        draw = self._random

        def quota() -> Quota:
            return Quota(nominal=draw.randint(6, 12), borrow=draw.choice([None, 0, 4]), lend=draw.choice([None, 0, 3]))

        return Policy(
            tenants={
                "vision": TenantPolicy(cohort="lab", quotas={"*": quota()} if draw.random() < 0.5 else {}),
                "search": TenantPolicy(
                    cohort="lab",
                    weight=draw.choice([1.0, 3.0]),
                    quotas={"h100": quota()} if draw.random() < 0.5 else {},
                ),
            },
            depth=draw.choice([1, 3, 128]),
            preemption=Preemption(notice=2 * MINUTE, grace=draw.choice([0, 10]) * MINUTE),
            drain=5 * MINUTE,
        )
