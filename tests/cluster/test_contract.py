"""The ledgers' own contract, claim by claim, on the real Kueue; what it cannot keep is skipped by one table.

The clock stands in the future, so that Kueue's own, which counts whole seconds, never says anything later.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from gangplan.clock import system_clock
from gangplan.kube.api import connect
from gangplan.reserve.kueue.ledger import KueueLedger, Place
from gangplan.testing import FakeClock
from tests.cluster.conftest import Space
from tests.contracts import test_ledger as contract
from tests.refusals import refused_by

NOT_ON_KUEUE = {
    "test_every_pod_of_a_granted_gang_has_a_node": "nodes are known where the flavor has a Topology (test_hazards.py)",
    "test_a_reason_names_holders_and_what_would_help": "reasons are Kueue's words; holders come with `explain`",
    "test_those_too_far_back_for_a_promise_have_an_expected_start": "no policy: nothing is promised",
    "test_a_look_at_a_long_line_is_used_again_for_a_while": "no policy: the look is kept for two seconds",
    "test_a_look_at_a_long_line_is_made_once_for_all_who_ask_at_a_time": "no policy: the look is kept for two seconds",
    "test_release_grants_to_the_next_in_the_same_call": "Kueue grants a moment later, by its own clock",
    "test_a_window_to_come_is_promised_and_kept": "quota is kept free from some minutes before (test_windows.py)",
    "test_a_small_gang_fills_the_hole_before_a_big_one": "Kueue knows no promised start to fill up to",
    "test_priority_goes_first_and_age_makes_up_for_it": "no ageing: by priority, then by arrival (test_ledger.py)",
    "test_the_preferred_accelerator_comes_first_and_the_other_if_sooner": "no publish: by flavors (test_sharing.py)",
    "test_same_rack_keeps_a_gang_together_or_waits": "no publish: by a Topology (test_hazards.py)",
    "test_only_what_the_calendar_holds_is_promised": "no publish: capacity is the ClusterQueues' quota",
    "test_without_a_calendar_all_wait": "no publish: capacity is the ClusterQueues' quota",
    "test_a_smaller_calendar_takes_promises_back_but_no_grants": "no publish: capacity is the ClusterQueues' quota",
    "test_what_no_calendar_serves_is_refused_by_name": "what exceeds a quota today may fit tomorrow: it waits",
    "test_wait_returns_at_the_grant_or_gives_up": "a sleep that is given ends before Kueue's next grant",
    "test_watch_yields_each_change_until_the_end": "a sleep that is given ends before Kueue's next grant",
    "test_two_pod_sets_share_nodes_and_are_told_apart": "no publish: by flavors (test_sharing.py)",
}
"""Claim by claim, why not; docs/kubernetes.md says the same to users."""

LATER = datetime(2100, 3, 1, 9, tzinfo=UTC)
CLAIMS = {name: claim for name, claim in vars(contract).items() if name.startswith("test_")}
globals().update({name: claim for name, claim in CLAIMS.items() if name not in NOT_ON_KUEUE})


@pytest.fixture(autouse=True)
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the contract's now be the test's."""
    monkeypatch.setattr(contract, "NOW", LATER)


@pytest.fixture
def fake() -> FakeClock:
    """A clock that the test moves."""
    return FakeClock(LATER)


@pytest.fixture
def ledger(space: Space, fake: FakeClock) -> KueueLedger:
    """A ledger on as many GPUs as the contract's pool has."""
    space.queue({space.flavor(): 8})
    opened = KueueLedger(
        connect(kubeconfig=str(space.kubeconfig)), Place(namespace=space.name, queue="queue"), clock=fake
    )
    space.ledgers.append(opened)
    return opened


@pytest.fixture
def refused(ledger: KueueLedger) -> Callable[..., None]:
    """Assert that a call is refused with an error and that no reservation was written by it."""
    return refused_by(ledger)


def test_the_table_names_claims_that_there_are() -> None:
    """And most of the contract is kept."""
    assert NOT_ON_KUEUE.keys() <= CLAIMS.keys()
    assert system_clock() < LATER
