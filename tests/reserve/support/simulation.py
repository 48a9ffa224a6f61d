"""A ledger under everything that can go wrong, in one thread, from one seed.

`python -m tests.reserve.support.simulation --steps 1000000` prints its seed; `--seed` gives the run again, statement by
statement. Several clients and would-be leaders, each a store of its own on one SQLite file with a clock of its own, ask
for gangs, renew, release, cancel and resize them; calendars, policies and nodes change. Commands and answers are lost
and doubled, clocks jump and disagree, processes stand still and come back, and die between any two SQL statements.
After each step `mirror` holds what was committed against the invariants, and what was answered against that.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.reserve.support.draws import MINUTE, NODES, POOLS, Draws
from tests.reserve.support.mirror import Mirror, outline_of
from tests.reserve.support.world import Peer, World

from gangplan.clock import to_us
from gangplan.errors import GangplanError
from gangplan.reserve.admission.book import Book
from gangplan.reserve.commands import Command, MarkNode, Release, SetPolicy
from gangplan.reserve.opening import open_store
from gangplan.reserve.policy.rules import Policy
from gangplan.reserve.stores.sql.leadership import LedElsewhere
from gangplan.reserve.stores.sql.store import PENDING, SqlStore
from gangplan.types import NodeState, Reservation

KEPT = 9.9  # seconds for which an answer is kept at least
LOOKS = 2_000  # steps between two looks at everything


class Violation(AssertionError):
    """An invariant does not hold."""


class Simulation(World):
    """What happens in a world, and what must hold of it."""

    def __init__(self, folder: Path, seed: int) -> None:
        super().__init__(folder, seed)
        self.mirror = Mirror(self.path, {pool.name: pool.gpus_per_node for pool in POOLS}, lambda: self.seconds)
        self.draws = Draws(self.draw, self.mirror, lambda: self.now)
        self.told: list[tuple[Peer, Reservation]] = []  # news that are to be checked
        self.old: deque[Command] = deque(maxlen=200)  # commands that may come again
        self.events = self._events()
        self.direct(self.peers[0], self.draws.publish([4]))

    # ------------------------------------------------------------ running

    def run(self, steps: int, progress: Callable[[int], None] = lambda _: None) -> dict[str, Any]:
        """Take so many steps and then come to rest; return what was found."""
        kinds, weights = list(self.events), [weight for weight, _ in self.events.values()]
        cumulative = [sum(weights[: n + 1]) for n in range(len(weights))]
        step = 0
        try:
            for step in range(steps):
                (kind,) = self.draw.choices(kinds, cum_weights=cumulative)
                self.step(kind)
                if step % LOOKS == LOOKS - 1:
                    self.look_at_all()
                    progress(step + 1)
            self.rest()
        except AssertionError as error:
            last = "\n".join(" ".join(str(part) for part in line) for line in self.trace)
            raise Violation(f"step {step}: {error}\n{last}") from error
        finally:
            self.unhook()
        return {"steps": steps, **dict(sorted((self.did + self.mirror.seen).items())), "digest": self.mirror.digest}

    def step(self, kind: str) -> None:
        """Let one thing happen."""
        self.did[kind] += 1
        self.events[kind][1]()
        self.mirror.catch_up()
        self.check_news()

    # ------------------------------------------------------------ what may happen

    def _events(self) -> dict[str, tuple[float, Callable[[], None]]]:
        return {
            "commands": (42, self.command),
            "leader steps": (14, lambda: self.look(self.leader())),
            "client steps": (2, lambda: self.look(self.client())),
            "answers read": (8, lambda: self.read(self.client())),
            "answers forgotten": (1, lambda: self.client().calls.clear()),
            "seconds pass": (28, lambda: self.pass_time(self.draw.random() * 1.5, timedelta(0))),
            "minutes pass": (3, lambda: self.pass_time(0.1, self.draw.random() * 4 * MINUTE)),
            "clocks jump by hours": (0.1, lambda: self.pass_time(0.1, self.draw.random() * 300 * MINUTE)),
            "a clock goes wrong": (0.3, self.go_wrong),
            "fuses": (1.2, self.light),
            "freezes": (0.5, self.freeze),
            "closed": (0.1, self.close),
            "subscribed": (0.3, self.subscribe),
        }

    def command(self) -> None:
        """Give a command: through the inbox, by oneself, twice, late, or lost on the way."""
        how, peer = self.draw.random(), self.client()
        command = self.draw.choice(self.old) if how > 0.95 and self.old else self.draws.any_command()
        if how < 0.04:
            self.did["commands lost"] += 1
            return
        self.old.append(command)
        if how < 0.10:
            self.direct(peer, command)
        else:
            self.post(peer, command)
        if how > 0.88:
            self.did["commands doubled"] += 1
            self.post(self.client() if how > 0.92 else peer, command)

    def post(self, peer: Peer, command: Command) -> None:
        """Put a command into the inbox."""
        self._issue(command)

        def work(store: SqlStore) -> None:
            since = len(self.mirror.versions.get(str(command.subject), ()))
            peer.calls[store.post(command)] = command, since, self.seconds

        self.act(peer, f"posts {command.name} {command.subject} {getattr(command, 'token', '')}", work)

    def direct(self, peer: Peer, command: Command) -> None:
        """Run a command as a process with no leader about does; a leader, or another's, may be in the way."""
        self._issue(command)

        def work(store: SqlStore) -> None:
            since = len(self.mirror.versions.get(str(command.subject), ()))
            try:
                said = store.change(command)
            except LedElsewhere:
                self.did["deposed or not first"] += 1
                return
            except GangplanError as refusal:
                said = refusal
            self.check_answer(command, said, since)

        self.act(peer, f"runs {command.name} {command.subject} {getattr(command, 'token', '')}", work)

    def _issue(self, command: Command) -> None:
        """Note that a command was given: it may be run from now on, once for each time."""
        self.mirror.issued[command.name, command.subject] += 1
        if isinstance(command, Release):
            self.mirror.released.add((command.id, command.token))

    def look(self, peer: Peer) -> None:
        """Let a process look, and serve if it is for it to."""
        self.act(peer, "steps", lambda store: store.step(lead=peer.leader) and None)

    def read(self, peer: Peer) -> None:
        """Read the answers that have come."""

        def work(store: SqlStore) -> None:
            for call, (command, since, posted) in list(peer.calls.items()):
                said = store.answer(call)
                if said is PENDING:
                    lost = self.seconds - posted < KEPT and not self.mirror.is_under_way(call)
                    assert not lost, (
                        f"{peer.name}: {command.name} of {command.subject} is neither to be run nor answered"
                    )
                    return
                del peer.calls[call]
                self.did["answers"] += 1
                self.check_answer(command, said, since)

        self.act(peer, "reads", work)

    def close(self) -> None:
        """Let a process end as it should, and another begin."""
        peer = self.draw.choice(self.peers)
        self.act(peer, "closes", lambda store: store.close())
        self.open(peer)

    def subscribe(self) -> None:
        """Let a client listen to what becomes of a reservation."""
        peer, id = self.client(), self.draws.any_id()
        if id is None or id in peer.heard or self.seconds < peer.frozen:
            return

        peer.heard[id] = -1
        self.act(
            peer,
            f"subscribes to {id}",
            lambda store: store.subscribe(id, lambda seen: self.told.append((peer, seen))) and None,
        )

    # ------------------------------------------------------------ what must hold

    def check_answer(self, command: Command, said: Any, since: int) -> None:
        """What a client was told of a reservation was committed, and is not older than its asking."""
        self.mirror.catch_up()
        if isinstance(said, GangplanError):
            assert type(said) is not GangplanError, f"{command.name} broke its leader: {said}"
            self.did[f"refused: {type(said).__name__}"] += 1
        elif said is not None:
            versions = self.mirror.versions.get(said.id)
            if versions is None:  # retention took it away meanwhile
                assert said.state.final
                return
            assert outline_of(said) in versions[max(0, since - 1) :], (
                f"{command.name}: answered, and not committed: {said}"
            )
            self.did["answers held"] += 1

    def check_news(self) -> None:
        """News come in order, and are true."""
        for peer, seen in self.told:
            after, versions = peer.heard.get(seen.id, -1), self.mirror.versions[seen.id]
            there = [n for n, version in enumerate(versions) if n >= after and version == outline_of(seen)]
            assert there, f"{peer.name} heard of {seen.id} what was not so: {seen}"
            peer.heard[seen.id] = there[0]
            self.did["news"] += 1
        self.told.clear()

    def look_at_all(self) -> None:
        """Replay the log, hold two processes' books against each other, and let retention do its work."""
        peer = self.draw.choice(self.peers)
        self.looked_at = peer
        replayed = peer.up.replay()
        assert replayed.different == (), f"the log replays to something else: {replayed}"
        self.check_books()
        self.looked_at = peer
        peer.up.compact(to_us(self.now - timedelta(hours=12)))
        self.looked_at = None
        self.mirror.issued["compact", None] += 1
        self.mirror.catch_up()
        gone = self.mirror.whole()
        for other in self.peers:
            other.heard = {id: last for id, last in other.heard.items() if id not in gone}
        self.did["replays"] += 1

    def check_books(self) -> None:
        """A book that followed the changes is the book that is read anew: its line, and its free capacity over time."""
        fresh = open_store(self.url, clock=lambda: self.now, threads=False, monotonic=lambda: self.seconds)
        books: dict[str, dict[str, Any]] = {}
        for peer in self.peers:
            self.looked_at = peer
            books[peer.name] = peer.up.query(self._picture)
        self.looked_at = None
        anew = fresh.query(self._picture)
        for name, picture in books.items():
            parts = [part for part, seen in picture.items() if seen != anew[part]]
            assert not parts, f"{name}: {parts[0]}: {picture[parts[0]]} and anew {anew[parts[0]]}"
        fresh.close()

    def _picture(self, book: Book, _: Any) -> dict[str, Any]:
        """Return what a book says, in a form that can be compared."""
        start = to_us(self.now)
        rows = sorted((e.id, e.state, e.token or 0, e.slots, e.hard_end, e.expires) for e in book.live.values())
        return {
            "free capacity": list(book.occupancy.free_capacity(start, start + 10**11)),
            "reservations": rows,
            "line": [entry.id for entry in book.in_order()],
            "promises": sorted(book.promised),
            "leaving": sorted(book.leaving),
        }

    # ------------------------------------------------------------ coming to rest

    def rest(self) -> None:
        """Let nobody die any more: each call is answered, those who listen know how things stand, and all ends."""
        for peer in self.peers:
            peer.fuse, peer.frozen, peer.skew = None, 0.0, timedelta(0)
        self.answer_all()
        self.check_news()
        for peer in self.peers:
            for id, last in peer.heard.items():
                assert self.mirror.versions[id][last] == self.mirror.last(id), f"{peer.name} did not hear of {id}"
        self.end_all()
        self.look_at_all()

    def answer_all(self) -> None:
        """Let the processes look until nobody waits for an answer."""
        for _ in range(200):
            for peer in reversed(self.peers):
                self.look(peer)
                self.read(peer)
                self.mirror.catch_up()
            self.pass_time(0.6, timedelta(0))
            if not any(peer.calls for peer in self.peers):
                break
        assert not any(peer.calls for peer in self.peers), "calls are never answered"
        for peer in self.peers:
            self.look(peer)

    def end_all(self) -> None:
        """With all nodes there and no quotas each request is served, or ends, in time."""
        leader = self.peers[-1]
        for node in NODES:
            self.post(leader, MarkNode(node, NodeState.READY))
        self.post(leader, SetPolicy(Policy(), "sim", "the end"))
        self.post(leader, self.draws.publish([4]))
        for _ in range(600):
            self.pass_time(0.6, 20 * MINUTE)
            for peer in reversed(self.peers):
                self.look(peer)
                self.mirror.catch_up()
                self.check_news()
            if not self.mirror.live:
                return
        raise AssertionError(f"{len(self.mirror.live)} reservations never end")


def main() -> None:
    """Run one simulation."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--steps", type=int, default=1_000_000)
    options.add_argument("--seed", type=int, default=None)
    given = options.parse_args()
    seed = random.SystemRandom().randrange(1 << 30) if given.seed is None else given.seed
    print(f"seed {seed}, {given.steps} steps", flush=True)
    start, used = time.monotonic(), time.process_time()

    def progress(step: int) -> None:
        if step % 20_000 == 0:
            print(f"{step} steps, {time.monotonic() - start:.0f} s", flush=True)

    memory = Path("/dev/shm")  # noqa: S108 (what is simulated outlives processes, not the machine)
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        found = Simulation(Path(folder), seed).run(given.steps, progress)
    print(f"{given.steps / (time.process_time() - used):.0f} steps for each second of processor time")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
