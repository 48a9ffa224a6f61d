"""Processes that share a SQLite file in one thread: with clocks of their own, and a death at any SQL statement."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Pool, event
from sqlalchemy.exc import OperationalError

from gangplan.errors import UnavailableError
from gangplan.reserve.commands import Command
from gangplan.reserve.opening import open_store
from gangplan.reserve.stores.sql.store import SqlStore
from gangplan.testing import NOW

CLIENTS, LEADERS = 4, 2


class SimulatedDeath(BaseException):
    """The process that was at work died before this statement."""


@dataclass(eq=False)
class Peer:
    """One process: a store, clocks of its own, and the calls that it has no answers to."""

    name: str
    leader: bool
    since: float  # what its monotonic time starts from
    store: SqlStore | None = None
    skew: timedelta = timedelta(0)
    fuse: int | None = None  # statements until it dies
    fails: bool = False  # or until one fails, once
    frozen: float = 0.0  # stands still until then
    calls: dict[str, tuple[Command, int, float]] = field(default_factory=dict)
    heard: dict[str, int] = field(default_factory=dict)  # by reservation: the version that a subscriber heard last
    connections: list[Any] = field(default_factory=list)

    @property
    def up(self) -> SqlStore:
        """The store of a process that is alive."""
        assert self.store is not None
        return self.store


class World:
    """A file, a time, and the processes."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.draw = random.Random(seed)
        self.path = str(folder / "ledger.db")
        self.url = f"sqlite:///{self.path}"
        self.now: datetime = NOW
        self.seconds = 1000.0
        self.did: Counter[str] = Counter()
        self.trace: deque[tuple[Any, ...]] = deque(maxlen=40)
        self.acting: Peer | None = None  # its statements count towards its death
        self.looked_at: Peer | None = None  # it is asked how things stand, and does not die of it
        self.peers = [Peer(f"p{n}", n >= CLIENTS, self.draw.random() * 1e4) for n in range(CLIENTS + LEADERS)]
        self._hooks = (
            (Engine, "before_cursor_execute", self._statement),
            (Engine, "commit", self._statement),
            (Pool, "connect", self._connected),
        )
        for target, name, hook in self._hooks:
            event.listen(target, name, hook)
        for peer in self.peers:
            self.open(peer)

    def unhook(self) -> None:
        """Leave SQLAlchemy as it was."""
        for target, name, hook in self._hooks:
            event.remove(target, name, hook)

    def open(self, peer: Peer) -> None:
        """Start a process, maybe in another's place."""
        peer.since, peer.fuse, peer.frozen = self.draw.random() * 1e4, None, 0.0
        peer.calls, peer.heard, peer.connections = {}, {}, []
        self.acting, was = peer, self.acting
        peer.store = open_store(
            self.url,
            clock=lambda: self.now + peer.skew,
            threads=False,
            monotonic=lambda: self.seconds + peer.since,
        )
        self.acting = was

    def act(self, peer: Peer, did: str, work: Callable[[SqlStore], None]) -> None:
        """Let a process do something, and maybe die of it."""
        if self.seconds < peer.frozen:
            return
        self.trace.append((f"{self.now:%d %H:%M:%S}", peer.name, did))
        self.acting = peer
        try:
            work(peer.up)
        except SimulatedDeath:
            self.bury(peer)
        except UnavailableError:
            assert peer.fails, "a statement failed by itself"
            peer.fails = False
        finally:
            self.acting = None

    def _statement(self, connection: Connection, *statement: Any) -> None:
        """Count a statement or a commit of the process at work; the dead execute none."""
        peer = self.acting
        if peer is None or peer.fuse is None:
            return
        peer.fuse -= 1
        if peer.fuse >= 0:
            return
        if not peer.fails:
            raise SimulatedDeath
        if statement:
            peer.fuse = None
            self.did["failed statements"] += 1
            raise OperationalError("any", {}, Exception("disk I/O error"))

    def _connected(self, connection: Any, _: Any) -> None:
        """Note whose connection it is."""
        peer = self.acting or self.looked_at
        if peer is not None:
            peer.connections.append(connection)

    def bury(self, peer: Peer) -> None:
        """Close a dead process's connections, as the kernel does, and start another: what it knew is lost."""
        for connection in peer.connections:
            connection.close()  # rolls back
        self.did["deaths"] += 1
        self.did["deaths of leaders"] += peer.up.leadership.leads
        self.trace.append((peer.name, "dies"))
        self.open(peer)

    def client(self) -> Peer:
        """Return any client."""
        return self.peers[int(self.draw.random() * CLIENTS)]

    def leader(self) -> Peer:
        """Return any process that may lead, mostly the first."""
        return self.peers[CLIENTS + (self.draw.random() < 0.3)]

    def pass_time(self, seconds: float, jump: timedelta) -> None:
        """Let time pass: for all processes, but for the jump of the clocks."""
        self.seconds += seconds
        self.now += timedelta(microseconds=round(seconds * 1e6)) + jump

    def go_wrong(self) -> None:
        """Let one process's clock differ from the others' from now on, by seconds or by half an hour, or no more."""
        spans = (0.0, 0.0, self.draw.uniform(-3, 3), self.draw.uniform(-120, 60), self.draw.uniform(-1800, 0))
        self.draw.choice(self.peers).skew = timedelta(seconds=round(self.draw.choice(spans), 6))

    def light(self) -> None:
        """Let a process die some statements from now, or one of its statements fail; leaders more often."""
        peer = self.draw.choice(self.peers + self.peers[CLIENTS:] * 2)
        peer.fuse, peer.fails = self.draw.randrange(30), self.draw.random() < 0.2

    def freeze(self) -> None:
        """Let a process stand still, for longer than a leader may, or not."""
        self.draw.choice(self.peers).frozen = self.seconds + self.draw.uniform(0.5, 12)
