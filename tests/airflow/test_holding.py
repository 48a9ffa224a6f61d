"""Work on slots is told before it has to leave them, and is stopped when they are lost."""

from __future__ import annotations

import signal
import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import BaseNotifier

from gangplan.client import submit
from gangplan.config import present
from gangplan.errors import StaleTokenError
from gangplan.reserve import Ledger
from gangplan.testing import a_request
from gangplan.types import NodeState, Notice
from gangplan_airflow import hold
from gangplan_airflow.gangs import holding
from gangplan_airflow.hook import no_slots, slots

pytestmark = pytest.mark.present("a thread renews leases by the machine's clock")
LONG_S = 60.0


def granted(ledger: Ledger, **changes: Any) -> dict[str, Any]:
    """The slots of a gang whose lease is renewed every few tenths of a second."""
    request = a_request("key", duration=timedelta(seconds=2), walltime=timedelta(hours=1), **changes)
    return slots(submit(ledger, request, present()), None)


def test_work_that_sleeps_is_stopped_when_its_slots_are_lost(ledger: Ledger) -> None:
    """The main thread is interrupted; what it runs elsewhere is ended first; its signal is as it was before."""
    held, ended = granted(ledger), threading.Event()
    before = signal.getsignal(holding.STOP)

    def work() -> None:
        with hold(held, on_lost=ended.set):
            ledger.cancel(held["id"])
            time.sleep(LONG_S)
            pytest.fail("the work went on")

    with pytest.raises(StaleTokenError, match="the lease was lost"):
        work()
    assert ended.is_set()
    assert signal.getsignal(holding.STOP) is before


def test_work_that_goes_on_is_interrupted_again(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that takes every error for one of its own does not keep the work alive."""
    monkeypatch.setattr(holding, "AGAIN_S", 0.1)
    held, swallowed = granted(ledger), list[Exception]()

    def work() -> None:
        with hold(held):
            ledger.cancel(held["id"])
            try:
                time.sleep(LONG_S)
            except StaleTokenError as error:
                swallowed.append(error)
            time.sleep(LONG_S)

    with pytest.raises(StaleTokenError):
        work()
    assert len(swallowed) == 1


def test_a_notice_is_told_to_a_function_and_to_a_notifier(ledger: Ledger) -> None:
    """Both hear until when and why; what a function raises does not stop the work."""
    told: list[str] = []

    class Teller(BaseNotifier):
        """Keeps what it is to say."""

        template_fields = ("text",)

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

        def notify(self, context: Any) -> None:
            """Say it."""
            told.append(self.text)
            heard.set()

    def breaks(notice: Notice) -> None:
        told.append(notice.why)
        heard.set()
        raise RuntimeError("the author's own function broke")

    held = granted(ledger)
    for teller in (breaks, Teller("{{ notice.why }}")):
        heard = threading.Event()
        with hold(held, on_notice=teller) as lease:
            ledger.mark_node(held["nodes"][0], NodeState.DRAINING, why="firmware")
            assert heard.wait(LONG_S)
            assert lease.notice is not None
            assert told[-1] == lease.notice.why
            ledger.mark_node(held["nodes"][0], NodeState.READY)
    assert len(told) == 2


def test_without_slots_there_is_nothing_to_lose(ledger: Ledger) -> None:
    """Work that runs although its wait was in vain has a lease that says nothing."""
    waiting = submit(ledger, a_request("key"), present())
    with hold(no_slots(waiting, None)) as lease:
        lease.check()
        assert (lease.notice, lease.lost.is_set()) == (None, False)
