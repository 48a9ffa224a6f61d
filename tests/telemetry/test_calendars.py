"""iCalendar files: each event is read right or named with its line, and no rule runs away."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from types import FrameType

import pytest
from dateutil.rrule import rrulestr
from hypothesis import given, strategies as st
from tests.effort import examples

from gangplan.errors import InputError
from gangplan.telemetry.calendars import MOST, Calendar, Window, read_calendar
from gangplan.testing import NOW

WINDOW = Window(first=NOW - timedelta(days=1096), now=NOW, last=NOW + timedelta(days=366))
LONG = "(UTC+01:00) Amsterdam, Berlin, Bern, Rome, Stockholm, Vienna"
DEFINED = """BEGIN:VTIMEZONE
TZID:{}
BEGIN:STANDARD
DTSTART:16010101T030000
TZOFFSETFROM:+0200
TZOFFSETTO:+0100
RRULE:FREQ=YEARLY;INTERVAL=1;BYDAY=-1SU;BYMONTH=10
END:STANDARD
BEGIN:DAYLIGHT
DTSTART:16010101T020000
TZOFFSETFROM:+0100
TZOFFSETTO:+0200
RRULE:FREQ=YEARLY;INTERVAL=1;BYDAY=-1SU;BYMONTH=3
END:DAYLIGHT
END:VTIMEZONE
"""


def _event(*lines: str, uid: str = "1") -> str:
    """Write an event."""
    return "\n".join(("BEGIN:VEVENT", f"UID:{uid}", *lines, "END:VEVENT", ""))


def _calendar(body: str, head: str = "") -> str:
    """Write a calendar."""
    return f"BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:-//made up//EN\n{head}{body}END:VCALENDAR\n"


def _in(zone: str) -> str:
    """Write a release from nine to five in a zone."""
    return _event(f"DTSTART;TZID={zone}:20261205T090000", f"DTEND;TZID={zone}:20261205T170000", "CATEGORIES:Release")


def _read(text: str | bytes, tmp_path: Path) -> Calendar:
    """Read a calendar's text from a file."""
    file = tmp_path / "team.ics"
    file.write_bytes(text if isinstance(text, bytes) else text.replace("\n", "\r\n").encode())
    return read_calendar(file, WINDOW)


def _spans(calendar: Calendar) -> list[str]:
    """Return when events take place, in UTC, sorted."""
    return sorted(f"{event.start:%m-%d %H:%M} {event.end:%m-%d %H:%M}" for event in calendar.events)


@contextmanager
def _within(calls: int) -> Generator[None]:
    """Fail when the block needs more calls of functions."""
    made = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal made
        made += 1
        if made > calls:
            sys.setprofile(None)
            raise AssertionError(f"over {calls} calls, now in {frame.f_code.co_qualname}")

    sys.setprofile(count)
    try:
        yield
    finally:
        sys.setprofile(None)


@pytest.mark.parametrize(
    ("body", "head", "start"),
    [
        (_in("Europe/Berlin"), "", "08:00"),
        (_in('"Europe/Berlin"'), "", "08:00"),
        (_in("europe/berlin"), "", "08:00"),
        (DEFINED.format("W. Europe Standard Time") + _in("W. Europe Standard Time"), "", "08:00"),
        (_in("W. Europe Standard Time"), "", "08:00"),
        (DEFINED.format(LONG.replace(",", "\\,")) + _in(f'"{LONG}"'), "", "08:00"),
        (DEFINED.format(LONG.replace(",", "\\,")) + _in(LONG), "", "08:00"),
        (DEFINED.format("Customized Time Zone") + _in("Customized Time Zone"), "", "08:00"),
        (_in("Our Zone") + DEFINED.format("Our Zone"), "", "08:00"),
        (_in("/freeassociation.sourceforge.net/Europe/Berlin"), "", "08:00"),
        (_in("/mozilla.org/20050126_1/America/Argentina/Buenos_Aires"), "", "12:00"),
        (_in("tzone://Microsoft/Utc"), "", "09:00"),
        (_in("GMT+0100"), "", "08:00"),
        (_in("UTC-05:30"), "", "14:30"),
        (_event("DTSTART:20261205T090000", "DURATION:PT8H"), "X-WR-TIMEZONE:Europe/Berlin\n", "08:00"),
        (_event("dtstart:20261205t090000z", "duration:PT8H"), "X-WR-TIMEZONE:Europe/Berlin\n", "09:00"),
    ],
)
def test_zone_is_honoured_as_programs_write_it(body: str, head: str, start: str, tmp_path: Path) -> None:
    """Nine to five by the clock of the zone that is meant, whoever wrote its name; what is assumed is noted."""
    calendar = _read(_calendar(body, head), tmp_path)
    begun = datetime.fromisoformat(f"2026-12-05T{start}Z")
    assert not calendar.rejected
    assert _spans(calendar) == [f"{begun:%m-%d %H:%M} {begun + timedelta(hours=8):%m-%d %H:%M}"]
    assert any("without a zone" in note for note in calendar.notes) == ("DTSTART:2026" in body)


def test_time_without_a_zone_needs_one_to_be_named(tmp_path: Path) -> None:
    """It is kept out with its remedy where neither the calendar nor the user names a zone: none is assumed."""
    text = _calendar(_event("DTSTART:20261205T090000", "DURATION:PT8H") + _event("DTSTART:20261206T090000Z", uid="2"))
    calendar = _read(text, tmp_path)
    assert [str(row) for row in calendar.rejected] == [
        "team.ics line 4: DTSTART: '20261205T090000' has no time zone, nor has the calendar: "
        "name it, --zone Europe/Berlin"
    ]
    assert len(calendar.events) == 1
    read = read_calendar(tmp_path / "team.ics", WINDOW, zone="Europe/Berlin")
    assert _spans(read) == ["12-05 08:00 12-05 16:00", "12-06 09:00 12-06 09:00"]
    assert any("times without a zone count in Europe/Berlin" in note for note in read.notes)


@pytest.mark.parametrize(
    "zone", [f'"{LONG}"', "Customized Time Zone", "Mitteleurop\u00e4ische Zeit", "GMT+9900", "/etc/localtime"]
)
def test_unknown_zone_is_named_and_only_its_event_kept_out(zone: str, tmp_path: Path) -> None:
    """The event is kept out with its line, whatever an earlier file defined; the others stay."""
    _read(_calendar(DEFINED.format("Customized Time Zone") + _in("Customized Time Zone")), tmp_path)
    calendar = _read(_calendar(_in(zone) + _event("DTSTART:20261206T090000Z", uid="2")), tmp_path)
    assert [str(row) for row in calendar.rejected] == [
        f"team.ics line 4: TZID: {zone.strip(chr(34))!r} is no time zone that is known: name one like Europe/Berlin, "
        "or define it"
    ]
    assert len(calendar.events) == 1


@pytest.mark.parametrize(
    ("head", "spans", "note"),
    [
        ("X-WR-TIMEZONE:Europe/Berlin\n", ["03-27 23:00 03-29 22:00"], "whole days count in Europe/Berlin"),
        ("", ["03-28 00:00 03-30 00:00"], "whole days count in UTC: the calendar names no zone"),
    ],
)
def test_whole_days_count_in_the_calendars_zone(head: str, spans: list[str], note: str, tmp_path: Path) -> None:
    """Two days over the change of the clock are 47 hours in Berlin; without a zone they count in UTC, with a word."""
    body = _event("DTSTART;VALUE=DATE:20260328", "DTEND;VALUE=DATE:20260330")
    calendar = _read(_calendar(body, head), tmp_path)
    assert _spans(calendar) == spans
    assert any(note in found for found in calendar.notes)


CANCELLED = """BEGIN:VEVENT
UID:a
DTSTART:20260305T080000Z
DTEND:20260305T160000Z
CATEGORIES:Release
STATUS:CANCELLED
END:VEVENT
BEGIN:VEVENT
UID:b
DTSTART;TZID=Europe/Berlin:20260306T090000
DTEND;TZID=Europe/Berlin:20260306T110000
RRULE:FREQ=DAILY;COUNT=5
EXDATE;TZID=Europe/Berlin:20260307T090000
CATEGORIES:Campaign
END:VEVENT
BEGIN:VEVENT
UID:b
RECURRENCE-ID:20260308T080000Z
DTSTART:20260308T080000Z
DTEND:20260308T100000Z
STATUS:CANCELLED
END:VEVENT
BEGIN:VEVENT
UID:b
RECURRENCE-ID;TZID=Europe/Berlin:20260309T090000
DTSTART:20260309T120000Z
DTEND:20260309T130000Z
CATEGORIES:Campaign
END:VEVENT
BEGIN:VEVENT
UID:c
DTSTART:20260312T080000Z
DTEND:20260312T160000Z
CATEGORIES:Release
STATUS:TENTATIVE
END:VEVENT
"""


def test_cancelled_is_out_and_tentative_is_marked(tmp_path: Path) -> None:
    """A cancelled release, a day in EXDATE and a cancelled day of a series are out; a moved day is moved."""
    calendar = _read(_calendar(CANCELLED), tmp_path)
    assert _spans(calendar) == [
        "03-06 08:00 03-06 10:00",
        "03-09 12:00 03-09 13:00",
        "03-10 08:00 03-10 10:00",
        "03-12 08:00 03-12 16:00",
    ]
    assert [event.start.day for event in calendar.events if event.status == "tentative"] == [12]
    assert "2 events: cancelled: left out" in calendar.notes
    assert any("tentative" in note for note in calendar.notes)


def test_cancelling_message_and_cancelled_series_hold_for_every_day(tmp_path: Path) -> None:
    """METHOD:CANCEL takes the event of an earlier message away; a cancelled series takes its changed days along."""
    asked = _calendar(_event("DTSTART:20260306T080000Z", "SUMMARY:x"))
    taken_back = _calendar(_event("DTSTART:20260306T080000Z", "SEQUENCE:1"), "METHOD:CANCEL\n")
    assert not _read(asked + taken_back, tmp_path).events
    gone = CANCELLED.replace("CATEGORIES:Campaign", "CATEGORIES:Campaign\nSTATUS:CANCELLED", 1)
    assert _spans(_read(_calendar(gone), tmp_path)) == ["03-12 08:00 03-12 16:00"]


def test_cancelled_day_that_is_none_is_named(tmp_path: Path) -> None:
    """A cancellation that fits no day of its series is not passed over in silence, nor is such an EXDATE."""
    text = _calendar(CANCELLED.replace("RECURRENCE-ID:20260308T08", "RECURRENCE-ID:20260308T09"))
    calendar = _read(text.replace("Berlin:20260307T09", "Berlin:20260307T10"), tmp_path)
    assert any(row.field == "RECURRENCE-ID" and "nothing was cancelled" in row.remedy for row in calendar.rejected)
    assert any("EXDATE names a time" in note for note in calendar.notes)


def test_change_for_all_later_days_moves_them(tmp_path: Path) -> None:
    """RANGE=THISANDFUTURE moves the day that it names and those after it, until the next such change."""
    series = _event("DTSTART:20260303T080000Z", "DURATION:PT1H", "RRULE:FREQ=DAILY;COUNT=4")
    moved = _event("RECURRENCE-ID;RANGE=THISANDFUTURE:20260304T080000Z", "DTSTART:20260304T100000Z", "DURATION:PT2H")
    ended = _event("RECURRENCE-ID;RANGE=THISANDFUTURE:20260306T080000Z", "DTSTART:20260306T080000Z", "STATUS:CANCELLED")
    spans = _spans(_read(_calendar(series + moved + ended), tmp_path))
    assert spans == ["03-03 08:00 03-03 09:00", "03-04 10:00 03-04 12:00", "03-05 10:00 03-05 12:00"]


@pytest.mark.parametrize("meetings", [4, 7, 12])
def test_rare_event_arrives_among_many_meetings(meetings: int, tmp_path: Path) -> None:
    """A release and one of two years ago are kept beside thousands of meetings, of which the nearest are."""
    each = ("DURATION:PT15M", "RRULE:FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR")
    body = "".join(_event(f"DTSTART:20230301T{8 + n:02}0000Z", *each, uid=f"m{n}") for n in range(meetings))
    body += _event("DTSTART:20260312T080000Z", "DURATION:PT8H", "CATEGORIES:Release", uid="r")
    body += _event("DTSTART:20240312T080000Z", "DURATION:PT8H", "CATEGORIES:Release", uid="past")
    calendar = _read(_calendar(body), tmp_path)
    assert [event.columns["kind"] for event in calendar.events].count("release") == 2
    assert len(calendar.events) == min(MOST, len(calendar.events))
    assert any("the 5,000 nearest to now" in note for note in calendar.notes) == (meetings > 4)
    assert max(event.start for event in calendar.events) > NOW + timedelta(days=90)


@pytest.mark.parametrize(
    "rule",
    [
        "FREQ=SECONDLY",
        "FREQ=MINUTELY;INTERVAL=7",
        "FREQ=SECONDLY;COUNT=999999999",
        "FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=30;BYHOUR=5",
        "FREQ=MINUTELY;COUNT=10;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=HOURLY;COUNT=900000;BYMINUTE=0,5,10,15,20,25,30,35,40,45,50,55",
        "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=YEARLY;BYDAY=MO,TU,WE,TH,FR,SA,SU;BYHOUR=1,2,3,4,5,6,7,8;BYMINUTE=1,2,3,4,5,6,7,8;BYSECOND=1,2,3,4,5,6,7",
        "FREQ=DAILY;INTERVAL=0",
        "FREQ=DAILY;INTERVAL=99999999999999",
        "FREQ=DAILY;UNTIL=99991231T235959Z",
        "FREQ=WEEKLY;BYDAY=2MO",
        "FREQ=NEVER",
        "",
    ],
)
def test_no_rule_runs_away(rule: str, tmp_path: Path) -> None:
    """Whatever repeats is read in a bounded number of steps: near now, or the event is named and kept out."""
    body = _event("DTSTART;TZID=Europe/Berlin:20000301T090000", "DURATION:PT1H", f"RRULE:{rule}")
    with _within(calls=4_000_000):
        calendar = _read(_calendar(body + _event("DTSTART:20260306T080000Z", uid="2")), tmp_path)
    assert len(calendar.events) <= MOST
    assert any(event.uid == "2" for event in calendar.events)
    said = [*(row.field for row in calendar.rejected), *calendar.notes]
    assert said or len(calendar.events) > 1
    if rule == "FREQ=SECONDLY":
        near = [event.start for event in calendar.events if event.uid == "1"]
        assert max(near) - min(near) < timedelta(hours=2)
        assert min(near) < NOW < max(near)
        assert "1 event: only the 5,000 starts nearest to now are read of line 4" in calendar.notes


@st.composite
def _rules(draw: st.DrawFn) -> str:
    """Draw a rule that a calendar program might write."""
    frequency = draw(st.sampled_from(["HOURLY", "DAILY", "WEEKLY", "MONTHLY", "YEARLY"]))
    parts = {"FREQ": frequency, "INTERVAL": str(draw(st.integers(1, 5)))}
    if draw(st.booleans()):
        parts["COUNT"] = str(draw(st.integers(1, 400)))
    elif draw(st.booleans()):
        parts["UNTIL"] = f"{NOW + timedelta(days=draw(st.integers(-800, 300))):%Y%m%dT%H%M%SZ}"
    days = st.lists(st.sampled_from(["MO", "TU", "WE", "FR", "SU"]), unique=True, min_size=1, max_size=3).map(",".join)
    numbers = st.sampled_from(["1", "15,28", "-1", "13"])
    for name, values in {"BYDAY": days, "BYMONTHDAY": numbers, "BYMONTH": st.sampled_from(["3", "2,7"])}.items():
        if draw(st.integers(0, 3)) == 0:
            parts[name] = draw(values)
    if frequency == "WEEKLY":
        parts["WKST"] = draw(st.sampled_from(["MO", "SU"]))
        parts.pop("BYMONTHDAY", None)
    return ";".join(f"{name}={value}" for name, value in parts.items())


@examples(60, 2000)
@given(rule=_rules(), ago=st.integers(-3000, 24_000))
def test_rules_mean_what_dateutil_says(rule: str, ago: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The starts in the window are those of the whole rule, followed from its first start on."""
    begun = NOW - timedelta(hours=ago)
    body = _event(f"DTSTART:{begun:%Y%m%dT%H%M%SZ}", "DURATION:PT1M", f"RRULE:{rule}")
    calendar = _read(_calendar(body), tmp_path_factory.getbasetemp())
    meant = {begun, *itertools.takewhile(lambda at: at <= WINDOW.last, rrulestr(rule, dtstart=begun))}
    inside = [at for at in meant if WINDOW.first <= at <= WINDOW.last]
    assert not calendar.rejected
    assert {event.start for event in calendar.events} == set(sorted(inside, key=lambda at: abs(at - NOW))[:MOST])


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("DTSTART:tomorrow", "DTSTART"),
        ("DTSTART:20260231T090000Z", "DTSTART"),
        ("DTSTART", "DTSTART"),
        ("SUMMARY:no start", "DTSTART"),
        ("DTSTART:00010101T000000Z", "DTSTART"),
        ("DTSTART;TZID=Europe/Berlin:20260305T090000Z", "DTSTART"),
        ("DTSTART:20260305T090000Z\nDTSTART:20260306T090000Z", "DTSTART"),
        ("DTSTART:20260305T090000Z\nDTEND:20260305T080000Z", "DTEND"),
        ("DTSTART:20260305T090000Z\nDTEND:20260305T100000Z\nDURATION:PT2H", "DURATION"),
        ("DTSTART:20260305T090000Z\nDURATION:two hours", "DURATION"),
        ("DTSTART:20260305T090000Z\nDURATION:P999999D", "DURATION"),
        ("DTSTART:20260305T090000Z\nRRULE:FREQ=DAILY;BYMONTH=13", "RRULE"),
        ("DTSTART:20260305T090000Z\nRRULE:FREQ=DAILY;COUNT=2;UNTIL=20260401", "RRULE"),
        ("DTSTART:20260305T090000Z\nEXRULE:FREQ=DAILY", "EXRULE"),
        ("DTSTART:20260305T090000Z\nEXDATE:never", "EXDATE"),
        ("DTSTART:20260305T090000Z\nRDATE;VALUE=PERIOD:20260305T090000Z/PT1H", "RDATE"),
        ("DTSTART:20260305T090000Z\nSTATUS:PERHAPS", "STATUS"),
        ("DTSTART:20260305T090000Z\nSEQUENCE:one", "SEQUENCE"),
        ("DTSTART:20260305T090000Z\nX-GANGPLAN-TENNANT:search", "X-GANGPLAN"),
        ("DTSTART:20260305T090000Z\nBEGIN:VALARM\nTRIGGER:x", "END:VEVENT"),
    ],
)
def test_bad_event_is_kept_out_by_itself(line: str, field: str, tmp_path: Path) -> None:
    """The bad event is named with its line; the events before and after it are read."""
    before, after = (_event(f"DTSTART:2026030{day}T090000Z", uid=str(day)) for day in (3, 9))
    bad = _event(line, uid="bad") if field != "END:VEVENT" else f"BEGIN:VEVENT\nUID:bad\n{line}\n"
    calendar = _read(_calendar(before + bad + after), tmp_path)
    assert [(row.line, row.field) for row in calendar.rejected] == [(8, field)]
    assert sorted(event.uid for event in calendar.events) == ["3", "9"]


def test_what_does_not_matter_cannot_harm(tmp_path: Path) -> None:
    """Broken text, alarms and unknown properties leave the event as it is; folds may part a letter."""
    body = _event(
        "DTSTART:20260305T090000Z",
        "SUMMARY:one line",
        "and the next, which has lost its fold",
        'DESCRIPTION;X="open:quote',
        "CATEGORIES:Gr\u00f6\u00dfe",
        "BEGIN:VALARM",
        "DTSTART:nonsense",
        "END:VALARM",
    )
    raw = _calendar(body).encode().replace(b"Gr\xc3\xb6", b"Gr\xc3\n \xb6")
    for written in (raw, b"\xef\xbb\xbf" + raw.replace(b"\n", b"\r\n"), _calendar(body).encode("utf-16")):
        calendar = _read(written, tmp_path)
        assert not calendar.rejected
        assert [event.columns["kind"] for event in calendar.events] == ["groe"]


def test_categories_and_calendars_may_be_several(tmp_path: Path) -> None:
    """The kind is the first category of all lines and lists; each VCALENDAR has its own zone."""
    one = _calendar(
        _event("DTSTART:20260305T090000", "CATEGORIES:", "CATEGORIES:Big\\, bold launch,Marketing", "CATEGORIES:Other"),
        "X-WR-TIMEZONE:Europe/Berlin\n",
    )
    two = _calendar(
        _event("DTSTART:20260305T090000", "CATEGORIES:\u30ea\u30ea\u30fc\u30b9", uid="2"),
        "X-WR-TIMEZONE:America/New_York\n",
    )
    calendar = _read(one + two, tmp_path)
    found = {event.columns["kind"]: event.start.hour for event in calendar.events}
    assert found == {"big-bold-launch": 8, "event": 14}
    assert any("has no letter from a to z" in note for note in calendar.notes)


def test_revisions_and_repeated_identifiers(tmp_path: Path) -> None:
    """The newest revision counts; of two events with one UID the first is named; a missing UID joins nothing."""
    old, new = _event("DTSTART:20260305T090000Z"), _event("DTSTART:20260306T090000Z", "SEQUENCE:2")
    assert _spans(_read(_calendar(new + old), tmp_path)) == ["03-06 09:00 03-06 09:00"]
    twice = _read(_calendar(old + _event("DTSTART:20260307T090000Z")), tmp_path)
    assert [(row.line, row.field) for row in twice.rejected] == [(4, "UID")]
    nameless = "".join(_event(f"DTSTART:2026030{day}T090000Z", uid="") for day in (3, 4, 5))
    assert len(_read(_calendar(nameless), tmp_path).events) == 3


def test_file_that_is_cut_off_says_so(tmp_path: Path) -> None:
    """Without its end a calendar may have lost events: a note; the event that is cut is named."""
    whole = _calendar(_event("DTSTART:20260305T090000Z") + _event("DTSTART:20260306T090000Z", uid="2"))
    calendar = _read(whole[: whole.index("UID:2") + 8], tmp_path)
    assert [row.field for row in calendar.rejected] == ["END:VEVENT"]
    assert any("no END:VCALENDAR" in note for note in calendar.notes)
    with pytest.raises(InputError, match="BEGIN:VCALENDAR is missing"):
        _read("<html>log in first</html>", tmp_path)


@pytest.mark.parametrize("rule", ["FREQ=SECONDLY", "FREQ=YEARLY;INTERVAL=0", "FREQ=YEARLY;BYHOUR=1,2,3;BYSECOND=1,2,3"])
def test_zone_that_runs_away_is_named(rule: str, tmp_path: Path) -> None:
    """A definition of a zone may change the clock once a year; another is named, and so are its events."""
    defined = DEFINED.format("Wild").replace("FREQ=YEARLY;INTERVAL=1;BYDAY=-1SU;BYMONTH=10", rule)
    with _within(calls=2_000_000):
        calendar = _read(_calendar(defined + _in("Wild")), tmp_path)
    assert [row.field for row in calendar.rejected] == ["VTIMEZONE", "TZID"]


def test_definition_that_contradicts_the_database_is_noted(tmp_path: Path) -> None:
    """Where a file defines a known zone otherwise, the tz database counts, with a word."""
    calendar = _read(_calendar(DEFINED.format("Asia/Tokyo") + _in("Asia/Tokyo")), tmp_path)
    assert _spans(calendar) == ["12-05 00:00 12-05 08:00"]
    assert any("Asia/Tokyo: the file defines it otherwise" in note for note in calendar.notes)
