"""Group commit: commands that several threads give while one batch is committed are committed together by the next."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Lock, Semaphore

from gangplan.errors import UnavailableError
from gangplan.reserve.commands import Command, Result

_BATCH = 1000
"""The most commands in one transaction."""


@dataclass(slots=True, eq=False)
class Call:
    """A command whose caller waits for its result."""

    command: Command
    leads: bool = False  # its caller commits the next batch
    done: bool = False
    posted: bool = False  # it went to the leader, in another process
    result: Result | Exception = None
    ready: Semaphore = field(default_factory=lambda: Semaphore(0))

    def finish(self, result: Result | Exception) -> None:
        """Give the caller the result."""
        self.result, self.done = result, True
        self.ready.release()


class GroupCommit:
    """Lets one caller at a time commit what all have given; `serve` finishes each call, or posts it to the leader."""

    def __init__(self, serve: Callable[[Sequence[Call]], None]) -> None:
        self._serve = serve
        self._waiting: deque[Call] = deque()
        self._gate = Lock()
        self._busy = False  # a caller is committing, and will finish the other calls or let another caller commit

    def run(self, command: Command) -> Result:
        """Run a command; return its result or raise its refusal."""
        call = Call(command)
        with self._gate:
            self._waiting.append(call)
            call.leads, self._busy = not self._busy, True
        if not call.leads:
            self._await(call)
        if not call.done and not call.posted:
            self._lead(call)
        if not call.done:
            call.ready.acquire()
        if isinstance(call.result, BaseException):
            raise call.result
        return call.result

    def _await(self, call: Call) -> None:
        """Wait until another's batch has finished the call, or until its caller is to commit the next batch."""
        try:
            call.ready.acquire()
        except BaseException:  # interrupted: the others must not wait for this caller to commit
            with self._gate:
                if call in self._waiting:
                    self._waiting.remove(call)
            if call.leads and not call.done:
                self._pass_on()
            raise

    def _lead(self, own: Call) -> None:
        """Commit what has gathered, the own call in it, then let the next caller commit."""
        try:
            while not own.done and not own.posted:
                self._serve_batch()
        finally:
            self._pass_on()

    def _pass_on(self) -> None:
        """Let the caller that has waited longest commit the next batch."""
        with self._gate:
            following = self._waiting[0] if self._waiting else None
            self._busy = following is not None
            if following is not None:
                following.leads = True
                following.ready.release()

    def _serve_batch(self) -> None:
        """Serve the calls that wait, and leave none without a result."""
        with self._gate:
            calls = [self._waiting.popleft() for _ in range(min(len(self._waiting), _BATCH))]
        try:
            self._serve(calls)
        except Exception as error:  # noqa: BLE001 (each caller gets it)
            _finish_rest(calls, error)
        finally:
            _finish_rest(calls, UnavailableError("ledger: interrupted: try again"))


def _finish_rest(calls: Sequence[Call], error: Exception) -> None:
    """Give an error to the calls that have no result and will get none."""
    for call in calls:
        if not call.done and not call.posted:
            call.finish(error)
