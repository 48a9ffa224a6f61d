"""The lease of a gang while a task works on its slots: renewed, and the work is stopped when it is lost."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeAlias

from airflow.sdk import BaseNotifier, get_current_context

from gangplan.client import Held
from gangplan.errors import InputError
from gangplan.types import Notice
from gangplan_airflow.hook import GangplanHook, NotHeld, require_slots
from gangplan_airflow.operators import ReserveGangOperator

OnNotice: TypeAlias = Callable[[Notice], None] | BaseNotifier
"""Who is told when slots are about to be taken: a function of the notice, or a notifier whose templates know it."""

STOP = signal.SIGUSR1
"""Interrupts the main thread, also while it sleeps or waits for a child."""

LOOK_S, AGAIN_S, GRACE_S = 0.5, 1.0, 30.0
"""Seconds between two looks at the lease; until work that goes on is interrupted again; until its process is killed."""

_log = logging.getLogger(__name__)


@contextmanager
def hold(
    slots: Mapping[str, Any] | None = None,
    *,
    on_notice: OnNotice | None = None,
    stop: bool = True,
    on_lost: Callable[[], None] | None = None,
    gangplan_conn_id: str = "",
) -> Generator[Held | NotHeld]:
    """Keep a gang's slots while the block of a task runs: renew the lease, and stop the block when it is lost.

    When the block fails and the task is to be tried again, the slots are kept for the next try.

    Parameters
    ----------
    slots
        What the reserve task returned; by default the slots of the gang that the running task is in.
    on_notice
        Is told, in a thread of its own, until when the slots must be left and why; a notifier's templates may have
        `{{ notice.until }}` and `{{ notice.why }}`.
    stop
        Interrupt the block with StaleTokenError when the lease is lost; one that has not ended 30 s later is killed
        with its process. Only a block in the main thread can be interrupted.
    on_lost
        Is called first when the lease is lost, to end what runs elsewhere.

    Work that runs without slots, after a wait in vain (`on_timeout="run_anyway"`), holds nothing and loses nothing.

    Raises
    ------
    AirflowFailException
        Before the block when the slots are no longer this gang's.
    StaleTokenError
        In the block, or after it, when they were lost meanwhile.
    """
    context, conn_id = _context(), GangplanHook.default_conn_name
    if slots is None:
        slots, conn_id = slots_here(context or get_current_context())
    with held_slots(
        context, slots, gangplan_conn_id or conn_id, on_notice=on_notice, stop=stop, on_lost=on_lost
    ) as held:
        yield held


@contextmanager
def held_slots(
    context: Any,
    slots: Mapping[str, Any],
    conn_id: str,
    *,
    on_notice: OnNotice | None = None,
    stop: bool = True,
    on_lost: Callable[[], None] | None = None,
    over: Callable[[], bool] = lambda: False,
) -> Generator[Held | NotHeld]:
    """Do what `hold` says, for a task that is known already; what is `over` by itself is not stopped."""
    hook = GangplanHook(conn_id)
    with hook.hold(slots) as held:
        if isinstance(held, NotHeld):
            yield held
            return
        with _watched(held, _teller(on_notice, context), stop, on_lost, over):
            yield held


def _context() -> Any:
    """Return the running task's context; None outside of any."""
    try:
        return get_current_context()
    except RuntimeError:
        return None


def slots_here(context: Any, reserve_id: str = "") -> tuple[Mapping[str, Any], str]:
    """Return the slots of the gang that the running task is in, and the connection of their ledger."""
    reserve = context["dag"].get_task(reserve_id) if reserve_id else _reserve_of(context["task"])
    conn_id = reserve.render_template(reserve.gangplan_conn_id, context)
    return require_slots(reserve.output.resolve(context)), conn_id


def _reserve_of(task: Any) -> ReserveGangOperator:
    """Return the one reserve task whose slots a task works on."""
    found = [one for one in task.get_upstreams_only_setups() if isinstance(one, ReserveGangOperator)]
    if len(found) != 1:
        names = ", ".join(sorted(one.task_id for one in found)) or "none"
        raise InputError("slots", names, f"is not one gang that {task.task_id} is in: give hold(slots) which one")
    return found[0]


@contextmanager
def _watched(
    held: Held,
    tell: Callable[[Notice], None],
    stop: bool,
    on_lost: Callable[[], None] | None,
    over: Callable[[], bool],
) -> Generator[None]:
    """Look after a lease from a second thread while the block runs in this one."""
    main = stop and threading.current_thread() is threading.main_thread()
    watch = _Watch(held, tell, on_lost, over, interrupts=main)
    before = signal.signal(STOP, watch.interrupted) if main else None
    watch.start()
    try:
        yield
    finally:
        watch.left.set()
        watch.join()
        if main:
            signal.signal(STOP, before)


class _Watch(threading.Thread):
    """Tells of a notice, and ends the work when the lease is lost."""

    def __init__(
        self,
        held: Held,
        tell: Callable[[Notice], None],
        on_lost: Callable[[], None] | None,
        over: Callable[[], bool],
        *,
        interrupts: bool,
    ) -> None:
        super().__init__(name=f"watch {held.reservation_id}", daemon=True)
        self.left = threading.Event()
        self._held, self._tell, self._on_lost, self._over, self._interrupts = held, tell, on_lost, over, interrupts

    def run(self) -> None:
        """Look until the work has ended."""
        told: Notice | None = None
        while not self.left.wait(LOOK_S):
            if self._held.lost.is_set():
                return None if self._over() else self._end_work()
            notice = self._held.notice
            if notice != told:
                told = notice
                self._say(notice)
        return None

    def interrupted(self, number: int, frame: FrameType | None) -> None:
        """Raise in the main thread that the lease was lost."""
        if not self.left.is_set():
            self._held.check()

    def _say(self, notice: Notice | None) -> None:
        if notice is None:
            _log.info("the notice was taken back: the slots stay")
            return
        _log.warning("the slots must be left by %s: %s", notice.until, notice.why)
        threading.Thread(target=self._tell, args=(notice,), name="notice", daemon=True).start()

    def _end_work(self) -> None:
        """Stop the work, by force where it goes on: another gang may use the slots now."""
        _log.error("the lease was lost: the work is stopped")
        if self._on_lost is not None:
            try:
                self._on_lost()
            except Exception:  # noqa: BLE001 - the work is to be stopped all the same
                _log.exception("what runs elsewhere could not be ended")
        waited = 0.0
        while self._interrupts and waited < GRACE_S:
            signal.pthread_kill(threading.main_thread().ident or 0, STOP)
            if self.left.wait(AGAIN_S):
                return
            waited += AGAIN_S
        if self._interrupts:
            _log.critical("the work did not stop within %.0f s: its process is killed", GRACE_S)
            os.kill(os.getpid(), signal.SIGKILL)


def _teller(on_notice: OnNotice | None, context: Any) -> Callable[[Notice], None]:
    """Return a function that tells a notice; what it raises is logged, the work goes on."""

    def tell(notice: Notice) -> None:
        try:
            if isinstance(on_notice, BaseNotifier):
                on_notice({**(context or {}), "notice": notice})
            elif on_notice is not None:
                on_notice(notice)
        except Exception:  # noqa: BLE001 - it is the author's, and the work goes on
            _log.exception("the notice could not be told")

    return tell
