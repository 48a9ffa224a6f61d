"""Calls of many threads, gathered: those that come while one batch is committed are the next batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Lock, Semaphore

from gangplan.errors import UnavailableError
from gangplan.reserve.commands import Answer, Command

_BATCH = 1000
"""So many calls go into one transaction at most."""


@dataclass(slots=True, eq=False)
class Call:
    """A call that waits for its answer."""

    command: Command
    leads: bool = False  # its caller commits the next batch
    done: bool = False
    posted: bool = False  # it went to the leader, in another process
    answer: Answer | Exception = None
    ready: Semaphore = field(default_factory=lambda: Semaphore(0))

    def settle(self, answer: Answer | Exception) -> None:
        """Answer it."""
        self.answer, self.done = answer, True
        self.ready.release()


class Calls:
    """Lets one caller at a time serve what all have gathered; `serve` settles each call, or posts it."""

    def __init__(self, serve: Callable[[Sequence[Call]], None]) -> None:
        self._serve = serve
        self._waiting: deque[Call] = deque()
        self._gate = Lock()
        self._led = False  # a caller is committing, and will answer or call the others

    def make(self, command: Command) -> Answer:
        """Make a call, and return its answer or raise its refusal."""
        call = Call(command)
        with self._gate:
            self._waiting.append(call)
            call.leads, self._led = not self._led, True
        if not call.leads:
            self._await(call)
        if not call.done and not call.posted:
            self._lead(call)
        if not call.done:
            call.ready.acquire()
        if isinstance(call.answer, BaseException):
            raise call.answer
        return call.answer

    def _await(self, call: Call) -> None:
        """Wait until another's batch answers the call, or until it is called to lead the next."""
        try:
            call.ready.acquire()
        except BaseException:  # interrupted: nobody must wait for this caller to lead
            with self._gate:
                if call in self._waiting:
                    self._waiting.remove(call)
            if call.leads and not call.done:
                self._hand_over()
            raise

    def _lead(self, own: Call) -> None:
        """Serve what has gathered, one's own call in it, then let the next caller lead."""
        try:
            while not own.done and not own.posted:
                self._serve_all()
        finally:
            self._hand_over()

    def _hand_over(self) -> None:
        """Let the caller that waits longest lead."""
        with self._gate:
            following = self._waiting[0] if self._waiting else None
            self._led = following is not None
            if following is not None:
                following.leads = True
                following.ready.release()

    def _serve_all(self) -> None:
        """Serve all calls that wait, and leave none without an answer."""
        with self._gate:
            calls = [self._waiting.popleft() for _ in range(min(len(self._waiting), _BATCH))]
        try:
            self._serve(calls)
        except Exception as error:  # noqa: BLE001 (not kept quiet: each caller gets it)
            _settle_rest(calls, error)
        finally:
            _settle_rest(calls, UnavailableError("ledger: interrupted: try again"))


def _settle_rest(calls: Sequence[Call], error: Exception) -> None:
    """Answer those that have no answer and will get none."""
    for call in calls:
        if not call.done and not call.posted:
            call.settle(error)
