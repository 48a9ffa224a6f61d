"""What every ledger does, whatever it keeps its rows in."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from gangplan.errors import InputError, KeyConflictError, NotFoundError, StaleTokenError, WaitTimeoutError
from gangplan.reserve import Ledger
from gangplan.reserve.admission.expected import estimate
from gangplan.reserve.policy.rules import Policy
from gangplan.testing import NOW, FakeClock, a_calendar, a_pool, a_request
from gangplan.types import Level, Limit, PodSet, Reservation, ReservationId, ReservationState, Token, Topology

HOUR = timedelta(hours=1)
Refused = Callable[..., None]


def held(ledger: Ledger, key: str, **changes: object) -> tuple[Reservation, Token]:
    """Submit a request that is granted at once."""
    reservation = ledger.submit(a_request(key, **changes))
    assert reservation.token is not None
    return reservation, reservation.token


def soon(ledger: Ledger, id: ReservationId, state: ReservationState = ReservationState.GRANTED) -> Reservation:
    """Return a reservation that comes to a state without another call: at once, or after a moment on a cluster."""
    deadline = time.monotonic() + 15
    while (now := ledger.get(id)).state is not state and time.monotonic() < deadline:
        time.sleep(0.02)
    assert now.state is state, now
    return now


def test_a_gang_that_fits_is_granted_whole_at_once(ledger: Ledger) -> None:
    """All pods have slots, a token and a lease of the asked duration."""
    granted, _ = held(ledger, "a")
    assert granted.state is ReservationState.GRANTED
    assert sum(p.gpus for p in granted.placements) == 8
    assert len({p.pool for p in granted.placements}) == 1
    assert granted.granted_at == NOW
    assert granted.expires_at == NOW + HOUR
    assert ledger.get(granted.id) == ledger.find("a") == granted


def test_every_pod_of_a_granted_gang_has_a_node(ledger: Ledger) -> None:
    """Which, and with how many GPUs."""
    granted, _ = held(ledger, "a")
    assert sorted((p.node, p.gpus) for p in granted.placements) == [("h100-owned-0", 4), ("h100-owned-1", 4)]


def test_a_gang_that_does_not_fit_gets_nothing_and_waits(ledger: Ledger) -> None:
    """A half-free pool grants no half gang: it waits, with an ETA, a limit and the holder named."""
    holder, _ = held(ledger, "a", pod_sets=(PodSet(count=1, gpus_per_pod=4),))
    waiting = ledger.submit(a_request("b"))
    assert (waiting.state, waiting.placements, waiting.token) == (ReservationState.WAITING, (), None)
    assert waiting.eta == NOW + HOUR
    explained = ledger.explain(waiting.id)
    assert waiting.reason is not None
    assert explained is not None
    assert waiting.reason.limit is explained.limit is Limit.CAPACITY
    assert explained.holders == (holder.id,)


def test_a_reason_names_holders_and_what_would_help(ledger: Ledger) -> None:
    """In words and fields, with the first promise kept beside the present one."""
    holder, _ = held(ledger, "a", pod_sets=(PodSet(count=1, gpus_per_pod=4),))
    waiting = ledger.submit(a_request("b"))
    assert waiting.first_eta == waiting.eta
    assert waiting.reason is not None
    assert waiting.reason.holders == (holder.id,)
    assert "vision a (4 GPUs until" in waiting.reason.message
    assert waiting.reason.helps == ("ask for 1 x 4 GPUs of h100: it could start now",)


def test_those_too_far_back_for_a_promise_have_an_expected_start(ledger: Ledger) -> None:
    """A range, whose late end is the ETA, for who waits, in a list and before asking; nothing is promised by it."""
    ledger.set_policy(Policy(depth=1), by="test", why="a short line")
    keys = ("holds", "promised", "third", "fourth")
    for key in keys:
        ledger.submit(a_request(key))
    third, fourth = (ledger.find(key) for key in keys[2:])
    assert (third.promised, third.eta) == (False, NOW + 2 * HOUR)
    assert (fourth.promised, fourth.eta) == (False, NOW + 3 * HOUR)
    assert fourth.eta_range is not None
    assert NOW < fourth.eta_range[0] <= fourth.eta_range[1] == fourth.eta
    assert [one.eta_range for one in ledger.list(ReservationState.WAITING)][1:] == [third.eta_range, fourth.eta_range]
    assert ledger.what_if(a_request("fifth"))[0] == NOW + 4 * HOUR
    assert ledger.find("promised").eta_range is None


def test_a_look_at_a_long_line_is_used_again_for_a_while(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look that took long serves all who ask soon after; what is promised or granted is always as it stands."""
    ledger.set_policy(Policy(depth=1), by="test", why="a short line")
    for key in ("holds", "promised", "third", "fourth"):
        ledger.submit(a_request(key))
    monkeypatch.setattr("gangplan.reserve.ledger._QUICK_S", 0.0)
    monkeypatch.setattr("gangplan.reserve.ledger._KEPT", 1e9)
    before = ledger.find("fourth")
    ledger.cancel(ledger.find("promised").id)
    assert ledger.find("third").eta == NOW + HOUR  # now promised
    assert ledger.find("fourth").eta_range == before.eta_range
    assert ledger.find("fourth").eta == NOW + 3 * HOUR


def test_a_look_at_a_long_line_is_made_once_for_all_who_ask_at_a_time(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks while a slow look is made waits for it, and does not make one more."""
    ledger.set_policy(Policy(depth=1), by="test", why="a short line")
    for key in ("holds", "promised", "third"):
        ledger.submit(a_request(key))
    looks: list[float] = []

    def slow(*given: Any, **named: Any) -> Any:
        looks.append(time.monotonic())
        time.sleep(0.1)
        return estimate(*given, **named)

    monkeypatch.setattr("gangplan.reserve.ledger.estimate", slow)
    monkeypatch.setattr("gangplan.reserve.ledger._KEPT", 1e9)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(ledger.find, ["third"] * 4))
    assert [one.eta for one in found] == [NOW + 2 * HOUR] * 4
    assert len(looks) == 1


def test_same_key_and_body_is_the_same_row(ledger: Ledger) -> None:
    """Submitting again, even after the end, answers with the one row."""
    first, token = held(ledger, "a")
    assert ledger.submit(a_request("a")) == first
    ended = ledger.release(first.id, token)
    assert ledger.submit(a_request("a")) == ended
    assert len(ledger.list()) == 1


def test_same_key_with_another_body_is_refused(ledger: Ledger, refused: Refused) -> None:
    """The key is one request's alone."""
    held(ledger, "a")
    refused(KeyConflictError, "another body", lambda: ledger.submit(a_request("a", priority=7)))


def test_release_frees_for_the_next_and_answers_the_same_twice(ledger: Ledger, fake: FakeClock) -> None:
    """The one who waited is granted; the end is when it was released, whoever asks later."""
    first, token = held(ledger, "a")
    second = ledger.submit(a_request("b"))
    fake.advance(timedelta(minutes=5))
    ended = ledger.release(first.id, token)
    assert (ended.state, ended.granted_at, ended.ended_at) == (
        ReservationState.RELEASED,
        NOW,
        NOW + timedelta(minutes=5),
    )
    fake.advance(timedelta(minutes=5))
    assert ledger.release(first.id, token) == ledger.get(first.id) == ended
    soon(ledger, second.id)


def test_release_grants_to_the_next_in_the_same_call(ledger: Ledger, fake: FakeClock) -> None:
    """With a greater token, and its wait is known to the moment."""
    first, token = held(ledger, "a")
    second = ledger.submit(a_request("b"))
    fake.advance(timedelta(minutes=5))
    ledger.release(first.id, token)
    now_held = ledger.get(second.id)
    assert now_held.state is ReservationState.GRANTED
    assert now_held.token is not None
    assert now_held.token > token
    assert now_held.waited == timedelta(minutes=5)


def test_a_stale_token_changes_nothing(ledger: Ledger, refused: Refused) -> None:
    """Renew and release refuse any token but the present one."""
    granted, token = held(ledger, "a")
    stale = Token(token + 1)
    refused(StaleTokenError, "nothing was changed", lambda: ledger.release(granted.id, stale))
    refused(StaleTokenError, "nothing was changed", lambda: ledger.renew(granted.id, stale))
    ledger.release(granted.id, token)
    refused(StaleTokenError, "cannot be renewed", lambda: ledger.renew(granted.id, token))
    refused(StaleTokenError, "nothing was changed", lambda: ledger.release(granted.id, stale))


def test_a_lease_ends_by_itself(ledger: Ledger, fake: FakeClock) -> None:
    """After its expiry the slots are the next one's, and the old token renews nothing; a late release is answered."""
    first, token = held(ledger, "a")
    second = ledger.submit(a_request("b", duration=2 * HOUR))
    fake.advance(HOUR)
    assert ledger.get(first.id).state is ReservationState.EXPIRED
    soon(ledger, second.id)
    with pytest.raises(StaleTokenError, match="expired"):
        ledger.renew(first.id, token)
    assert ledger.release(first.id, token).state is ReservationState.EXPIRED


def test_renewal_moves_the_end_but_never_past_the_walltime(ledger: Ledger, fake: FakeClock) -> None:
    """A heartbeat with a ttl sets the end from now; all renewals together stay within the walltime."""
    granted, token = held(ledger, "a", walltime=2 * HOUR)
    fake.advance(timedelta(minutes=30))
    assert ledger.renew(granted.id, token, timedelta(minutes=1)).expires_at == NOW + timedelta(minutes=31)
    assert ledger.renew(granted.id, token).expires_at == NOW + timedelta(minutes=90)
    assert ledger.renew(granted.id, token, 9 * HOUR).expires_at == NOW + 2 * HOUR


def test_cancel_ends_what_waits_and_what_holds(ledger: Ledger) -> None:
    """A cancelled holder frees its slots; a cancelled waiter leaves the line; again answers the same."""
    first, _ = held(ledger, "a")
    second, third = ledger.submit(a_request("b")), ledger.submit(a_request("c"))
    assert ledger.cancel(second.id).state is ReservationState.CANCELLED
    assert ledger.cancel(first.id) == ledger.cancel(first.id)
    soon(ledger, third.id)


def test_a_window_to_come_is_promised_and_kept(ledger: Ledger, fake: FakeClock) -> None:
    """An accepted window starts on time although a higher priority came later."""
    window = ledger.submit(a_request("w", earliest_start=NOW + HOUR, latest_start=NOW + HOUR))
    assert window.eta == NOW + HOUR
    assert window.reason is not None
    assert window.reason.limit is Limit.WINDOW
    late = ledger.submit(a_request("x", priority=1000, duration=2 * HOUR))
    assert late.eta == NOW + 2 * HOUR
    assert late.reason is not None
    assert late.reason.limit is Limit.ORDER
    fake.advance(HOUR)
    assert ledger.get(window.id).granted_at == NOW + HOUR


def test_a_window_that_passed_ends_the_request(ledger: Ledger, fake: FakeClock) -> None:
    """A request not started by its latest start expires."""
    held(ledger, "a")
    missed = ledger.submit(a_request("b", latest_start=NOW + timedelta(minutes=30)))
    fake.advance(timedelta(minutes=31))
    assert ledger.get(missed.id).state is ReservationState.EXPIRED


def test_a_small_gang_fills_the_hole_before_a_big_one(ledger: Ledger) -> None:
    """Backfill: what ends before the promised start may start; what would delay it may not."""
    one = (PodSet(count=1, gpus_per_pod=4),)
    held(ledger, "a", pod_sets=one)
    big = ledger.submit(a_request("b"))
    assert held(ledger, "short", pod_sets=one)[0].state is ReservationState.GRANTED
    assert ledger.get(big.id).eta == big.eta
    ledger.release(ledger.find("short").id, ledger.find("short").token or Token(0))
    long = ledger.submit(a_request("long", pod_sets=one, duration=3 * HOUR))
    assert long.state is ReservationState.WAITING
    assert long.reason is not None
    assert long.reason.limit is Limit.ORDER


def test_priority_goes_first_and_age_makes_up_for_it(ledger: Ledger, fake: FakeClock) -> None:
    """A higher priority passes a younger line; one that waited long enough is not passed."""
    ledger.set_policy(Policy(ageing=timedelta(minutes=1)), by="test", why="a point for each minute")
    first, token = held(ledger, "a")
    old = ledger.submit(a_request("old", priority=100))
    urgent = ledger.submit(a_request("urgent", priority=110))
    assert ledger.get(urgent.id).eta == NOW + HOUR
    assert ledger.get(old.id).eta == NOW + 2 * HOUR
    fake.advance(timedelta(minutes=11))
    late = ledger.submit(a_request("late", priority=110))
    ledger.cancel(urgent.id)
    ledger.release(first.id, token)
    assert ledger.get(old.id).state is ReservationState.GRANTED
    assert ledger.get(late.id).state is ReservationState.WAITING


def test_the_preferred_accelerator_comes_first_and_the_other_if_sooner(empty: Ledger) -> None:
    """The second accelerator serves when only it has the slots now."""
    empty.publish(a_calendar([a_pool("h100-owned"), a_pool("a100-owned")]))
    wish = ("a100", "h100")
    assert held(empty, "a", accelerators=wish)[0].placements[0].pool == "a100-owned"
    assert held(empty, "b", accelerators=wish)[0].placements[0].pool == "h100-owned"
    waiting = empty.submit(a_request("c", accelerators=("a100",)))
    assert waiting.eta == NOW + HOUR


def test_same_rack_keeps_a_gang_together_or_waits(empty: Ledger) -> None:
    """Enough GPUs in two racks are not enough; the reason says so and what would help."""
    empty.publish(a_calendar([a_pool(max_nodes=4, nodes_per_rack=2)]))
    one = (PodSet(count=1, gpus_per_pod=4),)
    keys = [held(empty, key, pod_sets=one)[0] for key in "abcd"]
    for reservation in (keys[1], keys[2]):
        empty.release(reservation.id, reservation.token or Token(0))
    waiting = empty.submit(a_request("r", topology=Topology(level=Level.RACK)))
    assert waiting.state is ReservationState.WAITING
    assert waiting.reason is not None
    assert waiting.reason.limit is Limit.TOPOLOGY
    assert "prefer one rack instead of requiring it: it could start now" in waiting.reason.helps
    empty.release(keys[0].id, keys[0].token or Token(0))
    assert {p.node for p in empty.get(waiting.id).placements} == {"h100-owned-0", "h100-owned-1"}


def test_only_what_the_calendar_holds_is_promised(empty: Ledger, fake: FakeClock) -> None:
    """A gang waits for the hour that has its nodes, and the last count goes on after the calendar's end."""
    empty.publish(a_calendar(hours=[2, 1, 2]))
    waiting = empty.submit(a_request("a", duration=90 * timedelta(minutes=1)))
    assert waiting.eta == NOW + 2 * HOUR
    assert waiting.reason is not None
    assert waiting.reason.limit is Limit.CALENDAR
    fake.advance(2 * HOUR)
    assert empty.get(waiting.id).state is ReservationState.GRANTED
    later = empty.submit(a_request("b", earliest_start=NOW + 1000 * HOUR))
    assert later.eta == NOW + 1000 * HOUR


def test_without_a_calendar_all_wait(empty: Ledger) -> None:
    """Before the first plan nothing is promised; publishing one grants what fits."""
    waiting = empty.submit(a_request("a"))
    assert waiting.eta is None
    assert waiting.reason is not None
    assert waiting.reason.limit is Limit.CALENDAR
    empty.publish(a_calendar())
    assert empty.get(waiting.id).state is ReservationState.GRANTED


def test_a_smaller_calendar_takes_promises_back_but_no_grants(ledger: Ledger) -> None:
    """A running gang keeps its slots; a promise that the new calendar cannot keep is drawn anew."""
    running, _ = held(ledger, "a")
    promised = ledger.submit(a_request("b"))
    ledger.publish(a_calendar(hours=[2, 0, 2]))
    assert ledger.get(running.id) == running
    assert ledger.get(promised.id).eta == NOW + 2 * HOUR


def test_what_no_calendar_serves_is_refused_by_name(ledger: Ledger, refused: Refused) -> None:
    """A gang larger than any pool is refused with the remedy; nothing is written."""
    many = (PodSet(count=3, gpus_per_pod=4),)
    refused(InputError, "pod_sets: '3 x 4 GPUs' .* 2 x 4", lambda: held(ledger, "a", pod_sets=many))
    wide = (PodSet(count=1, gpus_per_pod=5),)
    refused(InputError, "pod_sets: '1 x 5 GPUs'", lambda: held(ledger, "a", pod_sets=wide))


def test_what_can_never_start_is_refused_by_name(ledger: Ledger, refused: Refused) -> None:
    """An unknown accelerator with those that there are; a latest start that is past; nothing is written."""
    refused(InputError, "accelerators: 'h200' .* use .*h100", lambda: held(ledger, "a", accelerators=("h200",)))
    past = NOW - timedelta(seconds=1)
    refused(InputError, "latest_start: .* is past", lambda: held(ledger, "a", latest_start=past))


def test_wait_returns_at_the_grant_or_gives_up(ledger: Ledger, fake: FakeClock) -> None:
    """A waiting client gets the grant in time; one with less patience gets an error that says why it waits."""
    held(ledger, "a")
    second = ledger.submit(a_request("b"))
    with pytest.raises(WaitTimeoutError, match=r"'b' still waits after 60 s: "):
        ledger.wait(second.id, timeout=timedelta(minutes=1), poll=timedelta(seconds=20), sleep=fake.sleep)
    granted = ledger.wait(second.id, timeout=2 * HOUR, poll=timedelta(minutes=10), sleep=fake.sleep)
    assert granted.state is ReservationState.GRANTED


def test_watch_yields_each_change_until_the_end(ledger: Ledger, fake: FakeClock) -> None:
    """Waiting, granted, expired: one picture each."""
    held(ledger, "a")
    second = ledger.submit(a_request("b"))
    seen = [r.state.value for r in ledger.watch(second.id, poll=timedelta(minutes=10), sleep=fake.sleep)]
    assert seen == ["waiting", "granted", "expired"]


def test_explain_and_what_if_answer_without_writing(ledger: Ledger, refused: Refused) -> None:
    """What a submit would bring is told before it; nothing is written."""
    held(ledger, "a")
    before = ledger.list()
    eta, reason = ledger.what_if(a_request("b"))
    assert eta == NOW + HOUR
    assert reason is not None
    assert ledger.list() == before
    assert ledger.submit(a_request("b")).eta == eta
    explained, told = ledger.explain(ledger.find("b").id), ledger.find("b").reason
    assert explained is not None
    assert told is not None
    assert (explained.limit, explained.message) == (told.limit, told.message)
    assert ledger.explain(ledger.find("a").id) is None
    assert ledger.what_if(a_request("a", duration=2 * HOUR))[0] == NOW + 2 * HOUR  # a known key is only a name here
    assert ledger.find("a").state is ReservationState.GRANTED
    refused(InputError, "accelerators", lambda: ledger.what_if(a_request("c", accelerators=("h200",))))


def test_calendar_shows_free_capacity_in_stretches(ledger: Ledger) -> None:
    """Held and promised GPUs come off the planned ones; equal stretches are one."""
    held(ledger, "a")
    ledger.submit(a_request("w", earliest_start=NOW + 3 * HOUR))
    seen = [(c.start - NOW, c.end - NOW, c.free_gpus) for c in ledger.calendar(NOW, NOW + 5 * HOUR)]
    zero = timedelta(0)
    assert seen == [(zero, HOUR, 0), (HOUR, 3 * HOUR, 8), (3 * HOUR, 4 * HOUR, 0), (4 * HOUR, 5 * HOUR, 8)]
    with pytest.raises(InputError, match="end"):
        ledger.calendar(NOW, NOW)


def test_history_has_what_lived_since(ledger: Ledger, fake: FakeClock) -> None:
    """What ended before is left out; what still waits or runs is in."""
    first, token = held(ledger, "a")
    ledger.release(first.id, token)
    fake.advance(HOUR)
    held(ledger, "b")
    assert [r.request.request_key for r in ledger.history()] == ["a", "b"]
    assert [r.request.request_key for r in ledger.history(since=NOW + HOUR)] == ["b"]
    assert [r.request.request_key for r in ledger.list(ReservationState.RELEASED)] == ["a"]


def test_what_is_not_there_is_said(ledger: Ledger) -> None:
    """An unknown id or key is a refusal that names it."""
    for call in (lambda: ledger.get(ReservationId("r-1")), lambda: ledger.find("nobody")):
        with pytest.raises(NotFoundError, match="no reservation"):
            call()
    with pytest.raises(NotFoundError, match="r-1"):
        ledger.cancel(ReservationId("r-1"))


def test_two_pod_sets_share_nodes_and_are_told_apart(empty: Ledger) -> None:
    """Each placement names its pod set; together they are exactly the gang."""
    empty.publish(a_calendar([a_pool(gpus_per_node=8)]))
    mixed = (PodSet(count=1, gpus_per_pod=2), PodSet(count=2, gpus_per_pod=6))
    granted, _ = held(empty, "a", pod_sets=mixed)
    assert sorted((p.pod_set, p.pods, p.gpus) for p in granted.placements) == [(0, 1, 2), (1, 1, 6), (1, 1, 6)]
