"""Policy files: what is read, what is refused by which path, what is written back, what a change would mean."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from tests.effort import examples

from gangplan.clock import parse_span
from gangplan.errors import InputError
from gangplan.reserve.policy.file import policy_from_yaml, policy_yaml, read_policy, span_text
from gangplan.reserve.policy.review import holdings, policy_changes, policy_doubts, policy_effects
from gangplan.reserve.policy.rules import ALL, Policy, Preemption, Quota, TenantPolicy
from gangplan.testing import NOW, a_pool, a_request
from gangplan.types import Placement, PodSet, Reservation, ReservationId, ReservationState

FILE = """
tenants:
  vision: {weight: 2, cohort: research, quotas: {h100: {nominal: 8, borrow: 4}, "*": {nominal: 0}}}
  search: {cohort: research, quotas: {h100: {nominal: 8, lend: 2}}}
  guest: {weight: 0.5}
priority_classes: {normal: 100, urgent: 300}
ageing: 30m
depth: 64
preemption: {by_priority: false, margin: 50, notice: 90s, grace: 1h}
drain: 1d
"""
READ = Policy(
    tenants={
        "vision": TenantPolicy(
            weight=2.0, cohort="research", quotas={"h100": Quota(nominal=8, borrow=4), ALL: Quota(nominal=0)}
        ),
        "search": TenantPolicy(cohort="research", quotas={"h100": Quota(nominal=8, lend=2)}),
        "guest": TenantPolicy(weight=0.5),
    },
    priority_classes={"normal": 100, "urgent": 300},
    ageing=timedelta(minutes=30),
    depth=64,
    preemption=Preemption(by_priority=False, margin=50, notice=timedelta(seconds=90), grace=timedelta(hours=1)),
    drain=timedelta(days=1),
)
POOLS = (a_pool("h100-owned"), a_pool("a100-owned", slot="1/4", slots_per_gpu=4))


def test_file_is_read_and_the_rest_has_its_default(tmp_path: Path) -> None:
    """A file says what differs from the default; what it leaves out has it."""
    (tmp_path / "policy.yaml").write_text(FILE)
    assert read_policy(tmp_path / "policy.yaml") == READ
    assert READ.claim == Policy().claim
    assert policy_from_yaml("{}") == Policy()
    assert policy_from_yaml("ageing: null").ageing is None


QUOTA = "tenants: {vision: {cohort: c, quotas: {h100: {%s}}}}"
BAD = [
    ("", "policy"),
    ("[]", "policy"),
    ("tenants: [", "policy"),
    ("tenants: {? [1] : {}}", "policy"),
    ("depth: !!python/object:os.system {}", "policy"),
    ("depth: " + "9" * 5000, "policy"),
    ("\x00", "policy"),
    ("[" * 5000, "policy"),
    ("tenant: {}", "tenant"),
    ("depth: 3\ndepth: 4", "depth"),
    ("tenants: {vision: {}, vision: {}}", "vision"),
    ("tenants: null", "tenants"),
    ("tenants: {1: {}}", "tenants[1]"),
    ("tenants: {on: {}}", "tenants[True]"),
    ("tenants: {a b: {}}", "tenants"),
    ("tenants: {vision: 2}", "tenants[vision]"),
    ("tenants: {vision: {wieght: 2}}", "tenants[vision].wieght"),
    ("tenants: {vision: {weight: 0}}", "tenants[vision].weight"),
    ("tenants: {vision: {weight: .nan}}", "tenants[vision].weight"),
    ("tenants: {vision: {weight: .inf}}", "tenants[vision].weight"),
    ("tenants: {vision: {weight: '2'}}", "tenants[vision].weight"),
    ("tenants: {vision: {weight: yes}}", "tenants[vision].weight"),
    ("tenants: {vision: {cohort: a b}}", "tenants[vision].cohort"),
    ("tenants: {vision: {cohort: null}}", "tenants[vision].cohort"),
    ("tenants: {vision: {quotas: [h100]}}", "tenants[vision].quotas"),
    ("tenants: {vision: {quotas: {h 100: {nominal: 1}}}}", "tenants[vision].quotas"),
    ("tenants: {vision: {quotas: {h100: 8}}}", "tenants[vision].quotas[h100]"),
    (QUOTA % "", "tenants[vision].quotas[h100].nominal"),
    (QUOTA % "nominal: -1", "tenants[vision].quotas[h100].nominal"),
    (QUOTA % "nominal: 8.0", "tenants[vision].quotas[h100].nominal"),
    (QUOTA % "nominal: yes", "tenants[vision].quotas[h100].nominal"),
    (QUOTA % "nominal: null", "tenants[vision].quotas[h100].nominal"),
    (QUOTA % "nominal: 8, lend: 9", "tenants[vision].quotas[h100].lend"),
    (QUOTA % "nominal: 8, borrow: -1", "tenants[vision].quotas[h100].borrow"),
    (QUOTA % "nominal: 8, borow: 1", "tenants[vision].quotas[h100].borow"),
    ("tenants: {v: {quotas: {h100: {nominal: 8, borrow: 1}}}}", "tenants[v].quotas[h100].borrow"),
    ("tenants: {v: {quotas: {h100: {nominal: 8, lend: 0}}}}", "tenants[v].quotas[h100].lend"),
    ("priority_classes: [high]", "priority_classes"),
    ("priority_classes: {high: 1.5}", "priority_classes[high]"),
    ("priority_classes: {high: 1000001}", "priority_classes[high]"),
    ("priority_classes: {5: 5}", "priority_classes[5]"),
    ("ageing: 3600", "ageing"),
    ("ageing: 1:30", "ageing"),
    ("ageing: 0s", "ageing"),
    ("ageing: -1h", "ageing"),
    ("ageing: 2026-01-01", "ageing"),
    ("ageing: 3651d", "ageing"),
    ("ageing: 999999999999999d", "ageing"),
    ("depth: 0", "depth"),
    ("depth: null", "depth"),
    ("depth: " + "9" * 400, "depth"),
    ("drain: null", "drain"),
    ("claim: soon", "claim"),
    ("back_within: -1h", "back_within"),
    ("owners_first: maybe", "owners_first"),
    ("owners_first: 1", "owners_first"),
    ("preemption: {by_priority: 1}", "preemption.by_priority"),
    ("preemption: {margin: 0}", "preemption.margin"),
    ("preemption: {notice: 2 m}", "preemption.notice"),
    ("preemption: {grace: null}", "preemption.grace"),
]


@pytest.mark.parametrize(("text", "field"), BAD, ids=[text[:45] for text, _ in BAD])
def test_mistake_is_refused_by_its_full_path(text: str, field: str, tmp_path: Path) -> None:
    """Each mistake names its field from the top of the file, on one line, with what to do."""
    file = tmp_path / "policy.yaml"
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        read_policy(file)
    assert caught.value.field == field
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_unknown_field_lists_the_known_ones() -> None:
    """Whoever misspells a field is told which there are."""
    with pytest.raises(InputError, match="use one of nominal, borrow, lend"):
        policy_from_yaml(QUOTA % "nominal: 8, borow: 1")


def test_repeated_key_names_its_line() -> None:
    """A tenant that stands twice is refused with the line of the second."""
    with pytest.raises(InputError, match="line 3"):
        policy_from_yaml("tenants:\n  vision: {}\n  vision: {weight: 2}\n")


@pytest.mark.parametrize("make", [lambda file: None, lambda file: file.mkdir(), lambda file: file.write_bytes(b"\xff")])
def test_file_that_cannot_be_read(make: Callable[[Path], object], tmp_path: Path) -> None:
    """No file, a folder and bytes that are no text are refused by the path."""
    file = tmp_path / "policy.yaml"
    make(file)
    with pytest.raises(InputError, match=r"policy\.yaml"):
        read_policy(file)


NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,9}", fullmatch=True) | st.sampled_from(["on", "1", "null", "1e3"])
SPANS = st.timedeltas(timedelta(0), timedelta(days=3650))
SOME = SPANS.filter(bool)


@st.composite
def tenants(draw: st.DrawFn) -> TenantPolicy:
    """Draw a tenant's rules; limits of borrowing and lending only in a cohort."""
    cohort = draw(st.just("") | NAMES)
    quotas: dict[str, Quota] = {}
    for name in draw(st.sets(NAMES | st.just(ALL), max_size=3)):
        nominal = draw(st.integers(0, 1000))
        borrow = draw(st.none() | st.integers(0, 1000)) if cohort else None
        lend = draw(st.none() | st.integers(0, nominal)) if cohort else None
        quotas[name] = Quota(nominal=nominal, borrow=borrow, lend=lend)
    return TenantPolicy(weight=draw(st.floats(1e-6, 1e6)), cohort=cohort, quotas=quotas)


POLICIES = st.builds(
    Policy,
    tenants=st.dictionaries(NAMES, tenants(), max_size=3),
    priority_classes=st.dictionaries(NAMES, st.integers(-1_000_000, 1_000_000), max_size=3),
    ageing=st.none() | SOME,
    depth=st.integers(1, 100_000),
    preemption=st.builds(
        Preemption,
        by_priority=st.booleans(),
        reclaim=st.booleans(),
        margin=st.integers(1, 1000),
        notice=SPANS,
        grace=SPANS,
    ),
    drain=SPANS,
    claim=SPANS,
    back_within=SPANS,
    owners_first=st.booleans(),
)


@given(POLICIES)
@examples(40, 2000)
def test_policy_survives_its_file(policy: Policy) -> None:
    """Any policy that is written is read back the same, names that YAML takes for numbers included."""
    assert policy_from_yaml(policy_yaml(policy)) == policy


@given(SPANS)
def test_span_survives_its_text(span: timedelta) -> None:
    """A duration's text is read back to the microsecond."""
    assert parse_span("span", span_text(span)) == span


@given(POLICIES, POLICIES)
@examples(40, 2000)
def test_changes_are_none_for_the_same_and_some_for_others(one: Policy, other: Policy) -> None:
    """Two policies have differences if and only if they differ, and each names another field."""
    changes = policy_changes(one, other)
    assert bool(changes) == (one != other)
    assert policy_changes(one, one) == ()
    assert len({change.field for change in changes}) == len(changes)
    back = {change.field: (change.before, change.after) for change in policy_changes(other, one)}
    assert back == {change.field: (change.after, change.before) for change in changes}


def test_changes_in_words() -> None:
    """A change names the field, what held and what will; a tenant that comes or goes stands whole."""
    vision = replace(READ.tenants["vision"], quotas={"h100": Quota(nominal=8), ALL: Quota(nominal=0)})
    new = replace(READ, tenants={"vision": vision, "speech": TenantPolicy(cohort="research")}, ageing=None)
    assert [str(change) for change in policy_changes(READ, new)] == [
        "tenants[vision].quotas[h100].borrow: 4 -> no limit",
        "tenants[search]: {weight: 1, cohort: research, quotas: {h100: {nominal: 8, lend: 2}}} -> -",
        "tenants[guest]: {weight: 0.5} -> -",
        "tenants[speech]: - -> {weight: 1, cohort: research}",
        "ageing: 30m -> off",
    ]


def quotas(**nominal: int) -> TenantPolicy:
    """Return a tenant with these nominal quotas."""
    return TenantPolicy(quotas={name: Quota(nominal=gpus) for name, gpus in nominal.items()})


@pytest.mark.parametrize(
    ("tenants", "said"),
    [
        ({"vision": quotas(h200=8)}, r"tenants\[vision\].quotas\[h200\]: no pool has this .* a100, h100"),
        ({"vision": TenantPolicy(cohort="research")}, "nobody else is in research"),
        ({"vision": quotas(h100=6), "search": quotas(h100=6)}, "add up to 12, the pools never have more than 8"),
        ({"vision": quotas(h100=0, a100=0)}, r"tenants\[vision\].quotas: it may never hold"),
    ],
)
def test_doubt_is_said_and_nothing_refused(tenants: dict[str, TenantPolicy], said: str) -> None:
    """What is allowed and looks like a slip is said, once."""
    (doubt,) = policy_doubts(Policy(tenants=tenants), POOLS)
    assert re.search(said, doubt)


def test_sound_policy_raises_no_doubt() -> None:
    """A policy in which all fits together is passed over in silence; so is any where no fleet is known."""
    sound = {"vision": quotas(h100=4), "search": quotas(h100=4), "guest": TenantPolicy()}
    assert policy_doubts(Policy(tenants=sound), POOLS) == ()
    assert policy_doubts(Policy(tenants={"vision": quotas(h200=8)}), ()) == ()


def a_reservation(key: str, pool: str = "", gpus: int = 8, **changes: object) -> Reservation:
    """Return a reservation that holds GPUs of a pool, or waits where none is named."""
    request = a_request(key, pod_sets=(PodSet(count=gpus, gpus_per_pod=1),), **changes)
    places = (Placement(pool=pool, node=f"{pool}-0", pods=gpus, gpus=gpus),) if pool else ()
    state = ReservationState.GRANTED if pool else ReservationState.WAITING
    return Reservation(id=ReservationId(key), request=request, state=state, submitted_at=NOW, placements=places)


def test_holdings_count_gpus_by_tenant_and_accelerator() -> None:
    """What is held is counted by the pool's accelerator, a part of a GPU as that part; what waits or ended is not."""
    held = [
        a_reservation("one", "h100-owned"),
        a_reservation("two", "h100-owned", 2),
        a_reservation("parts", "a100-owned", 6),
        a_reservation("other", "h100-owned", 1, tenant="search"),
        a_reservation("waiting"),
        replace(a_reservation("gone", "h100-owned"), state=ReservationState.RELEASED),
    ]
    assert holdings(held, POOLS) == {"vision": {"h100": 10, "a100": 1.5}, "search": {"h100": 1}}


def test_effects_name_those_who_hold_and_wait() -> None:
    """Who holds more than it may, whose class is gone, and whose gang could never start, is named."""
    policy = Policy(tenants={"vision": quotas(h100=4)})
    now = [
        a_reservation("holds", "h100-owned", 6),
        a_reservation("classy", gpus=2, priority_class="urgent"),
        a_reservation("large", gpus=6),
        a_reservation("free", tenant="guest"),
    ]
    assert policy_effects(policy, now, POOLS) == (
        "vision holds 6 h100, may hold 4: it keeps them until they are released",
        "priority_classes: urgent is gone, and 1 waiting name it",
        "'large' of vision asks for 6 and could never start: it may hold 4 h100",
    )
    assert policy_effects(Policy(priority_classes={"urgent": 1}), now, POOLS) == ()
