"""The lease of a gang while a task works on its slots: renewed, and the work is stopped when it is lost."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow.sdk import BaseNotifier, get_current_context

from gangplan.client import Held
from gangplan.errors import InputError, Refusal, StaleTokenError, UnavailableError
from gangplan.types import Notice, ReservationId, Token
from gangplan_airflow.hook import GangplanHook
from gangplan_airflow.operators import ReserveGangOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

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
) -> Generator[Held]:
    """Keep a gang's slots while the block of a task runs: renew the lease, and stop the block when it is lost.

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

    Raises
    ------
    StaleTokenError
        Before the block when the slots are no longer this gang's; in it, or after it, when they were lost.
    """
    context = _context()
    reserve = None
    if slots is None:
        slots, reserve = slots_here(context or get_current_context())
    conn_id = gangplan_conn_id or getattr(reserve, "gangplan_conn_id", GangplanHook.default_conn_name)
    with held_slots(context, slots, conn_id, on_notice=on_notice, stop=stop, on_lost=on_lost) as held:
        yield held


@contextmanager
def held_slots(
    context: Context | None,
    slots: Mapping[str, Any],
    conn_id: str,
    *,
    on_notice: OnNotice | None = None,
    stop: bool = True,
    on_lost: Callable[[], None] | None = None,
) -> Generator[Held]:
    """Do what `hold` says, for a task that is known already."""
    hook, tell = GangplanHook(conn_id), _teller(on_notice, context)
    try:
        with hook.hold(slots) as held, _watched(held, tell, stop, on_lost):
            yield held
    except StaleTokenError as error:
        raise StaleTokenError(f"{error}. Clear its reserve task to get slots again") from error
    except BaseException:
        _keep_over_retry(hook, slots, context)
        raise


def _context() -> Context | None:
    """Return the running task's context; None outside of any."""
    try:
        return get_current_context()
    except RuntimeError:
        return None


def slots_here(context: Context, reserve_id: str = "") -> tuple[Mapping[str, Any], ReserveGangOperator]:
    """Return the slots of the gang that the running task is in, and the task that reserved them."""
    reserve = context["dag"].get_task(reserve_id) if reserve_id else _reserve_of(context["task"])
    slots = reserve.output.resolve(context)  # type: ignore[attr-defined]
    if not slots:
        raise InputError("slots", None, f"were not returned by {reserve.task_id}: let it run before this task")
    return slots, reserve  # type: ignore[return-value]


def _reserve_of(task: Any) -> ReserveGangOperator:
    """Return the one reserve task whose slots a task works on."""
    found = [one for one in task.get_upstreams_only_setups() if isinstance(one, ReserveGangOperator)]
    if len(found) != 1:
        names = ", ".join(sorted(one.task_id for one in found)) or "none"
        raise InputError("slots", names, f"is not one gang that {task.task_id} is in: give hold(slots) which one")
    return found[0]


def _keep_over_retry(hook: GangplanHook, slots: Mapping[str, Any], context: Context | None) -> None:
    """Keep the slots of work that broke until its next try begins, where there is one."""
    wait = _retry_wait(context) if context is not None else None
    if wait is None:
        return
    try:
        with hook.get_conn() as ledger:
            id, token = ReservationId(slots["id"]), Token(slots["token"])
            kept = ledger.renew(id, token, wait + ledger.get(id).request.duration)
        _log.info("the slots are kept for the next try, until %s", kept.expires_at)
    except (Refusal, UnavailableError) as error:  # the work's own error is the one to be seen
        _log.warning("the slots may be gone at the next try: %s", error)


def _retry_wait(context: Context) -> timedelta | None:
    """Return how long Airflow may wait before a task's next try; None where this was the last."""
    ti, task = context["ti"], context["task"]
    if ti.try_number > ti.max_tries:
        return None
    wait: timedelta = task.retry_delay
    if task.retry_exponential_backoff:
        wait *= 2 ** min(ti.try_number, 30)
    return min(wait, task.max_retry_delay or timedelta(days=1))


@contextmanager
def _watched(
    held: Held, tell: Callable[[Notice], None], stop: bool, on_lost: Callable[[], None] | None
) -> Generator[None]:
    """Look after a lease from a second thread while the block runs in this one."""
    main = stop and threading.current_thread() is threading.main_thread()
    watch = _Watch(held, tell, on_lost, interrupts=main)
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
        self, held: Held, tell: Callable[[Notice], None], on_lost: Callable[[], None] | None, *, interrupts: bool
    ) -> None:
        super().__init__(name=f"watch {held.reservation_id}", daemon=True)
        self.left = threading.Event()
        self._held, self._tell, self._on_lost, self._interrupts = held, tell, on_lost, interrupts

    def run(self) -> None:
        """Look until the work has ended."""
        told: Notice | None = None
        while not self.left.wait(LOOK_S):
            if self._held.lost.is_set():
                return self._end_work()
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


def _teller(on_notice: OnNotice | None, context: Context | None) -> Callable[[Notice], None]:
    """Return a function that tells a notice; what it raises is logged, the work goes on."""

    def tell(notice: Notice) -> None:
        try:
            if isinstance(on_notice, BaseNotifier):
                on_notice({**(context or {}), "notice": notice})  # type: ignore[arg-type]
            elif on_notice is not None:
                on_notice(notice)
        except Exception:  # noqa: BLE001 - it is the author's, and the work goes on
            _log.exception("the notice could not be told")

    return tell
