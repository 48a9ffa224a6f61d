"""Malformed requests are refused with the field's name, through Python and the command line, and write nothing."""

from __future__ import annotations

import re
import sqlite3
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gangplan import cli
from gangplan.errors import InputError, Refusal
from gangplan.reserve import Ledger, open_ledger
from gangplan.testing import NOW, FakeClock, a_calendar, a_request
from gangplan.types import GangRequest, PodSet

HOUR = timedelta(hours=1)
NAN, INF = float("nan"), float("inf")
SQL = "x'; DROP TABLE gangplan_reservations; --"
NO_NUMBERS = [None, "4", "", b"4", 4.0, NAN, INF, -INF, True, [4], (4,), {4}, 4 + 0j]
NO_COUNTS = [*NO_NUMBERS, 0, -1, -(10**30), 10**9, 10**30, 10**5000]
NO_TEXTS = [None, 5, 5.0, True, b"vision", ["vision"], ("vision",), {"vision"}]
CONTROL = ["a\0b", "a\nb", "a\tb", "a\x1b[31mb", "\ud800", "a\u202eb", "\x7f"]
NO_NAMES = [
    *NO_TEXTS,
    *CONTROL,
    "",
    " ",
    "a b",
    "-a",
    "é",
    "../etc",
    "a/b",
    "a" * 64,
    "a" * 10**6,
    SQL,
    "'",
    "%s",
    "{}",
]
NO_SPANS = [None, 5, 1.5, "1h", NAN, timedelta(0), -HOUR, timedelta.max, timedelta.min, timedelta(days=3651), True]
NO_TIMES = [
    0,
    1.5,
    NAN,
    "2026-03-02T10:00:00Z",
    date(2026, 3, 3),
    True,
    HOUR,
    datetime(2026, 3, 3),  # noqa: DTZ001 - the naive time is the case
    datetime(2026, 3, 3, tzinfo=timezone(HOUR)),
    datetime(2026, 3, 3, tzinfo=timezone(-HOUR / 60)),
    datetime.max.replace(tzinfo=UTC),
    datetime(3000, 1, 1, tzinfo=UTC),
]
NO_BOOLS = [None, 0, 1, "yes", "False", 1.0, [], NAN]
POD = PodSet(count=1, gpus_per_pod=1)


class Case(NamedTuple):
    """A malformed call, and the field that its refusal has to name."""

    field: str
    value: object
    call: Callable[[Ledger], object]


def asking(field: str, values: list[Any], named: str | None = None) -> Iterator[Case]:
    """Give requests in which one field is wrong."""
    for value in values:
        yield Case(
            named or field, value, lambda ledger, v=value: ledger.submit(a_request(**{"key": "bad"} | {field: v}))
        )


def pods(count: Any, gpus: Any, named: str) -> Case:
    """Give a request with one pod set."""
    ask = lambda ledger: ledger.submit(a_request("bad", pod_sets=(PodSet(count=count, gpus_per_pod=gpus),)))  # noqa: E731
    return Case(named, (count, gpus), ask)


def request_cases() -> Iterator[Case]:
    """Give every field of a request, wrong in every way."""
    for value in [*NO_TEXTS, *CONTROL, "", "k" * 513, "k" * 10**6]:
        yield Case("request_key", value, lambda ledger, v=value: ledger.submit(a_request(v)))
    yield from asking("tenant", NO_NAMES)
    for value in NO_COUNTS:
        yield pods(value, 1, "pod_sets.count")
        yield pods(1, value, "pod_sets.gpus_per_pod")
    for count, gpus in [(3, 4), (1, 5), (9, 1), (10**6, 10**6), (2, 10**6)]:
        yield pods(count, gpus, "pod_sets")
    yield from asking("pod_sets", [(), [], [POD], POD, None, "1x1", 5, (POD, None), ((1, 1),), (POD,) * 65, {POD}])
    yield from asking("accelerators", [(), [], ["h100"], "h100", None, 5, ("h100",) * 65, {"h100"}, ("h200",)])
    yield from asking("accelerators", [(name,) for name in NO_NAMES] + [("h100", name) for name in NO_NAMES])
    yield from asking("duration", NO_SPANS)
    yield from asking("walltime", [*NO_SPANS[1:], HOUR / 2, HOUR - timedelta(microseconds=1)])
    yield from asking("priority", [*NO_NUMBERS, 10**7, -(10**7), 10**400, 10**5000])
    yield from asking("workload_class", [None, "fast", "throughput", 0, True, "", ("latency",)])
    yield from asking("earliest_start", NO_TIMES)
    yield from asking("latest_start", [*NO_TIMES, NOW - HOUR, datetime(1, 1, 1, tzinfo=UTC)])
    yield from asking("preemptible", NO_BOOLS)
    yield from asking("topology", [True, False, 0, 1, "rack", "", (), {}])
    yield from asking("labels", [None, (), [("a", "b")], "a=b", {1: "a"}, {"": "a"}, {"a": 1}, {"a": None}])
    yield from asking(
        "labels", [{"a\n": "b"}, {"a": "b\0"}, {"a" * 513: ""}, {"a": "b" * 513}, {str(n): "" for n in range(65)}]
    )
    backwards = a_request("bad", earliest_start=NOW + HOUR)
    kept = {field.name: getattr(backwards, field.name) for field in fields(backwards)}
    for earlier in (NOW, NOW + HOUR - timedelta(microseconds=1)):
        yield Case(
            "latest_start", earlier, lambda ledger, v=earlier: ledger.submit(GangRequest(**kept | {"latest_start": v}))
        )


def call_cases() -> Iterator[Case]:
    """Give the other calls: ids that are none, tokens that are none, times that are none."""
    for id in ["", "r-1", SQL, "held", "a\0b", None, 5, b"r", ["r"], NAN, "\ud800", "r" * 10**6]:
        for name in ("get", "cancel", "explain"):
            yield Case("id", id, lambda ledger, n=name, v=id: getattr(ledger, n)(v))
        yield Case("id", id, lambda ledger, v=id: ledger.release(v, 1))
        yield Case("id", id, lambda ledger, v=id: ledger.renew(v, 1))
    for token in [None, "1", 1.0, True, NAN, INF, [1], b"1", 0, -1, 2, 10**30]:
        yield Case("token", token, lambda ledger, v=token: ledger.release(ledger.find("held").id, v))
        yield Case("token", token, lambda ledger, v=token: ledger.renew(ledger.find("held").id, v))
    for ttl in (span for span in NO_SPANS[1:] if not isinstance(span, timedelta) or span <= timedelta(0)):
        yield Case("ttl", ttl, lambda ledger, v=ttl: ledger.renew(ledger.find("held").id, 1, v))
    for key in ["nobody", SQL]:
        yield Case("id", key, lambda ledger, v=key: ledger.find(v))
    for key in [*NO_TEXTS, *CONTROL, "", "k" * 513]:
        yield Case("request_key", key, lambda ledger, v=key: ledger.find(v))
    for moment in [None, *NO_TIMES[:10]]:
        yield Case("start", moment, lambda ledger, v=moment: ledger.calendar(v, NOW))
        yield Case("end", moment, lambda ledger, v=moment: ledger.calendar(NOW, v))
        if moment is not None:
            yield Case("since", moment, lambda ledger, v=moment: ledger.history(v))
    for request in [None, "job", 5, {}, object()]:
        yield Case("request", request, lambda ledger, v=request: ledger.submit(v))
        yield Case("request", request, lambda ledger, v=request: ledger.what_if(v))
        yield Case("calendar", request, lambda ledger, v=request: ledger.publish(v))
    for state in ["lost", "granted ", 5, True]:
        yield Case("state", state, lambda ledger, v=state: ledger.list(v))
    for timeout in [None, "1h", 5, NAN]:
        yield Case("timeout", timeout, lambda ledger, v=timeout: ledger.wait(ledger.find("held").id, timeout=v))


CASES = [*request_cases(), *call_cases()]


def dump(file: Path) -> list[str]:
    """Return all tables, row by row."""
    with sqlite3.connect(file) as there:
        return list(there.iterdump())


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the ledger lies that all cases are tried on."""
    return tmp_path_factory.mktemp("malformed") / "ledger.db"


@pytest.fixture(scope="module")
def ledger(file: Path) -> Iterator[Ledger]:
    """A ledger in which one gang holds slots."""
    with open_ledger(f"sqlite:///{file}", clock=FakeClock()) as there:
        there.publish(a_calendar())
        assert there.submit(a_request("held")).token == 1
        yield there


def test_there_are_enough_cases() -> None:
    """The tables give what they promise."""
    assert len(CASES) >= 300


@pytest.mark.parametrize("field", sorted({case.field for case in CASES}))
def test_malformed_calls_are_refused_by_field_and_write_nothing(ledger: Ledger, file: Path, field: str) -> None:
    """Each wrong value of a field is refused on one line that names the field; all rows stay as they were."""
    before, got_through = dump(file), []
    for case in (case for case in CASES if case.field == field):
        try:
            case.call(ledger)
        except (InputError, Refusal) as error:
            text = str(error)
            if not text.startswith(case.field) or "\n" in text or len(text) > 1000:
                got_through.append(f"{repr(case.value)[:40]} is told as {text[:100]!r}")
        except Exception as error:  # noqa: BLE001 - named below
            got_through.append(f"{type(case.value).__name__} {type(error)!s} {str(error)[:100]}")
        else:
            got_through.append(f"{str(case.value)[:60]!r} is taken")
    assert not got_through, "\n".join(got_through)
    assert dump(file) == before


def test_sql_in_a_key_is_only_text(tmp_path: Path) -> None:
    """A key may hold quotes and SQL: it is found again by the same text, and no table is gone."""
    with open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}", clock=FakeClock()) as there:
        there.publish(a_calendar())
        for key in (SQL, '"; DELETE FROM gangplan_head; --', "%s %(a)s :id ?", "é 名"):
            made = there.submit(a_request(key))
            assert there.find(key) == made
        assert len(there.list()) == 4


# ---------------------------------------------------------------- the command line

ASK = {"--tenant": "vision", "--pods": "2", "--gpus": "4", "--accelerator": "h100-lab", "--duration": "1h"}
WRONG: dict[str, list[str]] = {
    "--tenant": ["", "a b", "../etc", SQL, "a" * 64, "a\nb", "é"],
    "--pods": ["0", "-1", "two", "1.5", "nan", "inf", "1e3", str(10**30), "3", ""],
    "--gpus": ["0", "-4", "four", "5", "nan", str(10**30)],
    "--accelerator": ["", "h200", "a b", SQL, "h" * 64],
    "--duration": ["0s", "-1h", "1", "h", "nan", "infh", "1w", "9" * 30 + "d", "99999d", "", "1h 30m"],
    "--walltime": ["0s", "59m", "-1h", "soon", "99999d", "9" * 20 + "h"],
    "--key": ["k" * 513, "a\nb", "a\tb", "\x1b[31m"],
    "--priority": ["high", "1.5", "nan", str(10**30)],
    "--workload-class": ["fast", "", "LATENCY2"],
    "--earliest": [
        "tomorrow",
        "2026-03-02",
        "2026-03-02T10:00:00",
        "2026-03-02T10:00:00+02:00",
        "9999-12-31T23:59:59Z",
    ],
    "--latest": ["now", "2020-01-01T00:00:00Z", "2026-13-01T00:00:00Z", "5", ""],
    "--wait": ["forever", "-1s", "9" * 30 + "d"],
}
# what an error may name instead of the option's own word, as a pattern
FIELDS = {
    "--pods": "--pods|pod_sets",
    "--gpus": "--gpus|pod_sets",
    "--key": "request_key",
    "--earliest": "earliest",
    "--latest": "latest",
}
RESERVE = [
    (name, ["reserve", *(word for option in (ASK | {name: wrong}).items() for word in option)])
    for name, values in WRONG.items()
    for wrong in values
]
COMMANDS = [
    *RESERVE,
    *(("id", ["release", wrong]) for wrong in ("r-1", SQL)),
    *(("id", ["explain", wrong]) for wrong in ("r-1", SQL)),
    ("--token", ["release", "r-1", "--token", "x"]),
    ("--hours", ["calendar", "--hours", "-1"]),
    ("--state", ["status", "--state", SQL]),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a ledger."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["gangplan", "--home", str(home), "init"])
        with pytest.raises(SystemExit) as left:
            cli.main()
    assert not left.value.code
    return home


def test_there_are_enough_commands() -> None:
    """The tables give what they promise."""
    assert len(COMMANDS) >= 60


@pytest.mark.parametrize(("named", "words"), COMMANDS)
def test_malformed_commands_are_one_line_and_write_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], named: str, words: list[str]
) -> None:
    """Exit code 2 or 3, one line that names the option or the field, and all rows as they were."""
    before = dump(home / "ledger.db")
    monkeypatch.setattr(sys, "argv", ["gangplan", "--home", str(home), *words])
    with pytest.raises(SystemExit) as left:
        cli.main()
    said = capsys.readouterr().err
    assert left.value.code in (2, 3), said
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert re.search(FIELDS.get(named, named.lstrip("-")), said)
    assert dump(home / "ledger.db") == before
