"""Malformed requests, generated: each is refused with its field's name, and nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gangplan.errors import InputError
from gangplan.testing import NOW, a_request, memory_ledger
from gangplan.types import PodSet

bad_name = st.text(max_size=80).filter(
    lambda text: not text.isascii() or not text or text[0] in " -./\n" or " " in text
)
below_one = st.one_of(st.integers(max_value=0), st.just(float("nan")), st.just(float("inf")))
not_positive = st.timedeltas(max_value=timedelta(0))
naive_or_foreign = st.one_of(
    st.datetimes(min_value=datetime(2020, 1, 1), max_value=datetime(2030, 1, 1)),  # noqa: DTZ001 (the fault itself)
    st.integers(1, 12).map(lambda h: NOW.astimezone(timezone(timedelta(hours=h)))),
)
FAULTS: list[tuple[str, st.SearchStrategy[Callable[[], object]]]] = [
    ("request_key", st.sampled_from(["", "x" * 513]).map(lambda key: lambda: a_request(key))),
    ("tenant", bad_name.map(lambda name: lambda: a_request(tenant=name))),
    ("pod_sets", st.just(lambda: a_request(pod_sets=()))),
    ("pod_sets.count", below_one.map(lambda n: lambda: PodSet(count=n, gpus_per_pod=1))),
    ("pod_sets.gpus_per_pod", below_one.map(lambda n: lambda: PodSet(count=1, gpus_per_pod=n))),
    ("pod_sets", st.integers(3, 10**6).map(lambda n: lambda: a_request(pod_sets=(PodSet(count=n, gpus_per_pod=4),)))),
    ("pod_sets", st.integers(5, 10**6).map(lambda n: lambda: a_request(pod_sets=(PodSet(count=1, gpus_per_pod=n),)))),
    ("accelerators", st.just(lambda: a_request(accelerators=()))),
    ("accelerators", bad_name.map(lambda name: lambda: a_request(accelerators=(name,)))),
    ("accelerators", st.from_regex(r"b[0-9]{1,5}", fullmatch=True).map(lambda a: lambda: a_request(accelerators=(a,)))),
    ("duration", not_positive.map(lambda span: lambda: a_request(duration=span))),
    ("walltime", st.timedeltas(max_value=timedelta(minutes=59)).map(lambda w: lambda: a_request(walltime=w))),
    ("earliest_start", naive_or_foreign.map(lambda at: lambda: a_request(earliest_start=at))),
    ("latest_start", naive_or_foreign.map(lambda at: lambda: a_request(latest_start=at))),
    (
        "latest_start",
        st.datetimes(max_value=datetime(2026, 3, 2, 8), timezones=st.just(UTC)).map(  # noqa: DTZ001
            lambda at: lambda: a_request(latest_start=at)
        ),
    ),
]


@pytest.mark.parametrize(("field", "faults"), FAULTS, ids=[f"{n}-{field}" for n, (field, _) in enumerate(FAULTS)])
def test_a_malformed_request_is_refused_by_field(field: str, faults: st.SearchStrategy[Callable[[], object]]) -> None:
    """The error names the field and says what to do; the ledger stays empty. 15 kinds x up to 30 values."""
    ledger = memory_ledger()

    @settings(max_examples=30, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(faults)
    def refused(make: Callable[[], object]) -> None:
        with pytest.raises(InputError) as caught:
            ledger.submit(make())  # type: ignore[arg-type]
        assert caught.value.field == field
        assert caught.value.remedy
        assert ledger.list() == ()

    refused()
