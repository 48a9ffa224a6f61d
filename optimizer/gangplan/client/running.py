"""Run a command while its gang's lease is held: it is told of a notice, and stopped when the lease is lost.

process = prepare(["torchrun", "train.py"])  # before there are threads
code = run_held(ledger, reservation, process, ttl=timedelta(seconds=50))
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Self, TypeAlias

from gangplan.client.lease import Held
from gangplan.client.pods import environment_of, rendezvous_of
from gangplan.client.words import time_text
from gangplan.clock import Clock
from gangplan.config import load_settings, write_atomic
from gangplan.errors import Refusal, StaleTokenError, UnavailableError
from gangplan.types import Notice, Reservation

if TYPE_CHECKING:
    from gangplan.reserve import Ledger

MUST_LEAVE = 75
"""The exit code of work that had to leave its slots and is to be run again (EX_TEMPFAIL of sysexits.h)."""

NOTICE = "GANGPLAN_NOTICE"
"""Names a file that is there while a notice stands: JSON with `until`, `why` and `by`, the gang that gets the slots."""

GRACE = timedelta(seconds=10)
"""How long a command that must leave has between SIGTERM and SIGKILL; a fifth of a lease that is shorter than that."""

_LOOK_S = 0.25
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""The signals that go on to the command."""

_PR_SET_PDEATHSIG = 1

Say: TypeAlias = Callable[[str], None]


class Process:
    """A command's process: it waits for `start`, leads a process group of its own, and is killed when we die."""

    def __init__(self, pid: int, go: int) -> None:
        self._pid, self._go = pid, go
        self._told = False

    def start(self, environment: Mapping[str, str]) -> None:
        """Let the command begin."""
        with suppress(BrokenPipeError), os.fdopen(self._go, "w") as pipe:  # one that is dead already has ended
            json.dump(dict(environment), pipe)

    def ended(self) -> bool:
        """Tell whether the command has ended; it stays to be reaped by `reap`.

        A shell dies of a signal before the program that it has started, which may be saving its work: a command that
        was sent one has ended when its whole process group has.
        """
        if os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return False
        return not (self._told and _has_members(self._pid))

    def signal(self, number: int) -> None:
        """Send a signal to the command and to all of its process group."""
        self._told = True
        with suppress(ProcessLookupError):
            os.killpg(self._pid, number)

    def reap(self) -> int:
        """Return the exit code of a command that has ended, 128 and more for a signal."""
        code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        return code if code >= 0 else 128 - code


def _has_members(group: int) -> bool:
    """Tell whether a process group has a process that lives; elsewhere than on Linux nobody knows."""
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            state, _, its_group = file.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state not in "ZX":
                return True
    return False


def prepare(command: Sequence[str]) -> Process:
    """Make the process of a command, which begins with `Process.start`.

    Call it before there are threads: a fork of a process with threads may stand still for ever.
    """
    parent, (waits, go) = os.getpid(), os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(go)
            _become(command, waits, parent)
        finally:
            os._exit(127)
    os.close(waits)
    with suppress(PermissionError):  # it has begun, and has done this itself
        os.setpgid(pid, pid)
    return Process(pid, go)


def _become(command: Sequence[str], waits: int, parent: int) -> None:
    """Wait for the environment, then turn into the command; end where the parent is gone."""
    os.setpgid(0, 0)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and the command would inherit that
        signal.signal(number, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with os.fdopen(waits) as pipe:
        told = pipe.read()
    if not told or os.getppid() != parent:
        os._exit(MUST_LEAVE)
    try:
        os.execvpe(command[0], list(command), json.loads(told))  # noqa: S606 - to run it is what we are asked for
    except OSError as error:
        print(f"error: {command[0]}: cannot be run: {error.strerror}", file=sys.stderr, flush=True)
        os._exit(126 if isinstance(error, PermissionError) else 127)


def run_held(
    ledger: Ledger,
    reservation: Reservation,
    process: Process,
    *,
    ttl: timedelta | None = None,
    pod_node: str = "",
    say: Say | None = None,
    clock: Clock | None = None,
) -> int:
    """Run a prepared command on a granted reservation, whose lease is renewed meanwhile; return its exit code.

    The command knows its slots by GANGPLAN_* and MASTER_ADDR, MASTER_PORT, NNODES, NODE_RANK where its environment does
    not say otherwise. SIGTERM, SIGINT and SIGHUP go on to it. When the slots are lost, and a little before a lease ends
    that could not be renewed, the command gets SIGTERM, then SIGKILL, and the code is MUST_LEAVE. At the end the lease
    is renewed once more, for whoever works on the slots next; once it was told to end, for ever shorter times.

    Parameters
    ----------
    ttl
        How long each renewal lasts; by default the request's duration.
    pod_node
        The node that this runs on, by which it knows its rank.
    say
        Takes lines about the lease; by default they go to standard error.

    Raises
    ------
    StaleTokenError
        Where the reservation holds no slots any more; the command was not started.
    """
    if reservation.token is None:
        raise StaleTokenError(f"reservation {reservation.id}: is {reservation.state}, so nothing may start on it")
    held = Held(ledger, reservation.id, reservation.token, ttl=ttl, clock=clock or load_settings().clock)
    try:
        run = _Run(process, held, say or _say)
        code = run.to_its_end(pod_node)
    finally:
        held.close()
    if not run.left:
        with suppress(Refusal, UnavailableError):  # the work is done: its slots are the next step's business
            ledger.renew(reservation.id, reservation.token, held.ttl)
    return code


class _Run:
    """A command that runs on the slots of a lease."""

    def __init__(self, process: Process, held: Held, say: Say) -> None:
        self._process, self._held, self._say = process, held, say
        self._grace = min(GRACE, held.term / 5)
        self._kill_at = 0.0
        self._notice: Notice | None = None
        self.left = False  # it had to leave the slots

    def to_its_end(self, pod_node: str) -> int:
        """Start the command, follow it to its end, and return its exit code."""
        seen = self._held.reservation
        with tempfile.TemporaryDirectory(prefix="gangplan-") as folder, _Signals() as signals:
            self._file = Path(folder) / "notice.json"
            told = {**environment_of(seen), NOTICE: str(self._file)}
            self._process.start({**rendezvous_of(seen, pod_node), **os.environ, **told})
            while not self._process.ended():
                for number in signals.wait(_LOOK_S):
                    if number == signal.SIGTERM:
                        self._held.told_to_end()
                    if number in FORWARDED:
                        self._process.signal(number)
                self._look()
            if self.left:
                self._process.signal(signal.SIGKILL)
            code = self._process.reap()
        return MUST_LEAVE if self.left else code

    def _look(self) -> None:
        """Tell of a notice; stop the command when it may no longer use the slots."""
        if self._held.notice != self._notice:
            self._notice = self._held.notice
            self._tell()
        if self.left:
            if time.monotonic() >= self._kill_at:
                self._process.signal(signal.SIGKILL)
        elif why := self._why_leave():
            self.left = True
            self._kill_at = time.monotonic() + self._grace.total_seconds()
            self._say(f"the command is stopped: {why}")
            self._process.signal(signal.SIGTERM)

    def _why_leave(self) -> str:
        """Return why the command may use the slots no longer; an empty text while it may."""
        try:
            self._held.check()
        except StaleTokenError as error:
            return str(error)
        if self._held.left > self._grace:
            return ""
        if self._notice is not None:
            return f"its slots are taken at {time_text(self._notice.until)}: {self._notice.why}"
        seen = self._held.reservation
        over = seen.granted_at is not None and seen.expires_at == seen.granted_at + seen.request.limit
        why = "that is its walltime" if over else "the ledger did not renew it"
        return f"its lease ends at {time_text(seen.expires_at)}: {why}"

    def _tell(self) -> None:
        """Write the notice into its file and the log, or take it back."""
        notice = self._notice
        if notice is None:
            self._file.unlink(missing_ok=True)
            self._say("the notice was taken back: the slots stay")
            return
        body = {"until": notice.until.isoformat(), "why": notice.why, "by": notice.beneficiary}
        write_atomic(self._file, json.dumps(body))
        self._say(f"the slots must be left by {time_text(notice.until)}: {notice.why}")


class _Signals:
    """The signals of this process, whichever thread they come to."""

    def __enter__(self) -> Self:
        self._reads, self._writes = os.pipe()
        os.set_blocking(self._writes, False)
        self._wakeup = signal.set_wakeup_fd(self._writes, warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, _heard) for number in (*FORWARDED, signal.SIGCHLD)}
        return self

    def __exit__(self, *raised: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._reads)
        os.close(self._writes)

    def wait(self, seconds: float) -> bytes:
        """Return the numbers of those that came, after a while at most."""
        ready, _, _ = select.select([self._reads], [], [], seconds)
        return os.read(self._reads, 512) if ready else b""


def _heard(number: int, frame: FrameType | None) -> None:
    """Let a signal be written to the pipe, and do nothing else."""


def _say(line: str) -> None:
    print(f"gangplan: {line}", file=sys.stderr, flush=True)
