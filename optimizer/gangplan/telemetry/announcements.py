# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""What people know: releases, campaigns, holidays, planned jobs, growth that is meant; from the calendars they keep.

A source is a CSV or Parquet file, an iCalendar file, `holidays:DE` (or `holidays:DE-BY`), or `mlflow+<tracking URI>`,
where runs with the tag gangplan.event.kind are events. What a source says anew replaces what it said before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import polars as pl
from mlflow.entities import Run

from gangplan.clock import Clock
from gangplan.errors import InputError
from gangplan.tables import ANNOUNCED, EVENTS, conform, empty
from gangplan.telemetry.rows import (
    FAULT,
    LINE,
    PLACE,
    Rule,
    TableSpec,
    check,
    moment,
    name,
    not_before,
    number,
    one_of,
    read_rows,
    value_of,
)
from gangplan.telemetry.values import BadRow, digest_of
from gangplan.tracking import TELEMETRY, Store, table_sha256
from gangplan.types import Usage, WorkloadClass

TOLD = {"kind": "announced"}
JOB, TARGET = "job", "target"
BACK, AHEAD = timedelta(days=1096), timedelta(days=366)
"""How far back and ahead of now calendars that go on for ever are read."""

_TAG = "gangplan.event."
_SOURCES = "a CSV or Parquet file, an .ics file, holidays:DE or mlflow+<tracking URI>"
_MOST = 5000


@dataclass(frozen=True, kw_only=True)
class Told:
    """What one source said: its run, its rows (tables.ANNOUNCED), and the rows that were kept out."""

    run_id: str
    source: str
    rows: pl.DataFrame
    rejected: tuple[BadRow, ...] = ()
    rejected_count: int = 0


def tell(source: str, store: Store, *, clock: Clock) -> Told:
    """Keep what a source says as one run, from where every forecast after it reads.

    Raises
    ------
    InputError
        When the source is not there, is of no known kind, or has no usable row; nothing was written.
    """
    checked = check(_rows(source, clock()), SPEC.fields, SPEC.relations)
    sound = conform("announced", checked.frame, ANNOUNCED).unique(maintain_order=True).sort("start", "kind")
    if not sound.height:
        why = f": {checked.rejected[0]}" if checked.rejected else f": give {_SOURCES} with at least one row"
        raise InputError("source", source, f"has no usable row{why}")
    tags = {**TOLD, "source": source, "sha256": table_sha256(sound)}
    with store.run(TELEMETRY, f"announced {source}"[:250], tags) as run_id:
        store.log_table(run_id, "announced", sound)
    return Told(
        run_id=run_id,
        source=source,
        rows=sound,
        rejected=checked.rejected,
        rejected_count=checked.rejected_count,
    )


def read_announced(store: Store) -> pl.DataFrame:
    """Return what all sources said last (tables.ANNOUNCED)."""
    newest: dict[str, Run] = {}
    for run in store.runs(TELEMETRY, TOLD, limit=1000):
        newest.setdefault(run.data.tags["source"], run)
    tables = [store.read_table(run.info.run_id, "announced") for _, run in sorted(newest.items())]
    return pl.concat([empty(ANNOUNCED), *tables]).unique(maintain_order=True).sort("start", "kind")


def with_announced(usage: Usage, announced: pl.DataFrame) -> Usage:
    """Return the usage with what people said: events beside those of the telemetry, the rest as it is."""
    if not announced.height:
        return usage
    events = announced.filter(~pl.col("kind").is_in([JOB, TARGET])).select(list(EVENTS))
    together = pl.concat([usage.events, events]).unique(maintain_order=True).sort("start", "kind")
    digest = digest_of([usage.sha256, table_sha256(announced)])
    return replace(usage, events=together, announced=announced, sha256=digest)


def _spec() -> TableSpec:
    """The fields of an announcement and the rules between them."""
    last = datetime(2200, 1, 1, tzinfo=UTC)
    kind, gpus, growth = value_of("kind"), value_of("gpus"), value_of("growth")
    incomplete = (kind == JOB) & pl.any_horizontal(
        value_of(field).is_null() for field in ("tenant", "workload_class", "accelerator", "gpus")
    )
    class_field = one_of("workload_class", [each.value for each in WorkloadClass])
    return TableSpec(
        fields=(
            moment("start", last, ahead=True),
            moment("end", last, ahead=True),
            name("kind"),
            name("tenant", optional=True),
            name("like", optional=True),
            replace(class_field, rules=class_field.rules[1:], optional=True),
            name("accelerator", optional=True),
            number("gpus", above=True, optional=True),
            number("growth", least=-1, most=100, above=True, optional=True),
        ),
        relations=(
            not_before("end", "start"),
            Rule(
                field="gpus",
                bad=incomplete,
                remedy="is no planned job: give tenant, workload_class, accelerator and gpus",
            ),
            Rule(
                field="gpus",
                bad=(kind != JOB) & gpus.is_not_null(),
                remedy=f"belongs to the kind {JOB}: leave it empty",
            ),
            Rule(
                field="growth",
                bad=(kind == TARGET) & growth.is_null(),
                remedy="is missing: give it as a share, like 0.2",
            ),
            Rule(
                field="growth",
                bad=(kind != TARGET) & growth.is_not_null(),
                remedy=f"belongs to the kind {TARGET}: leave it empty",
            ),
        ),
    )


SPEC = _spec()


def _rows(source: str, now: datetime) -> pl.DataFrame:
    """Read a source as rows of text."""
    if source.startswith("holidays:"):
        return _as_rows(_holidays(source, now), source)
    if source.startswith("mlflow+"):
        return _as_rows(_tagged(Store(uri=source.removeprefix("mlflow+"))), source)
    if source.endswith(".ics"):
        return _as_rows(_calendar(Path(source), now), source)
    rows = read_rows(Path(source))
    missing = [column for column in ("start", "end", "kind") if column not in rows.columns]
    if missing:
        raise InputError(", ".join(missing), source, "lacks that column: give start, end and kind (docs/events.md)")
    return rows


def _as_rows(entries: Iterator[dict[str, str | None]], source: str) -> pl.DataFrame:
    """Lay entries out as rows of text with their number."""
    named = [
        {**dict.fromkeys(ANNOUNCED), **entry, LINE: line, PLACE: source, FAULT: None}
        for line, entry in enumerate(entries, start=1)
    ]
    text = dict.fromkeys((*ANNOUNCED, PLACE, FAULT), pl.String())
    return pl.DataFrame(named, schema={**text, LINE: pl.Int64()})


def _calendar(path: Path, now: datetime) -> Iterator[dict[str, str | None]]:
    """Give the events of an iCalendar file, those that come back one by one; times in any zone, days in UTC.

    The kind is X-GANGPLAN-KIND, else the first of CATEGORIES, else "event"; X-GANGPLAN-TENANT, -LIKE, -GPUS and so on
    are the other columns.
    """
    import recurring_ical_events
    from icalendar import Calendar

    try:
        parsed: Any = Calendar.from_ical(path.read_bytes())
    except OSError as error:
        raise InputError("source", path, f"cannot be read ({error.strerror}): check the path") from None
    except ValueError as error:
        raise InputError("source", path, f"is no iCalendar file ({error}): export it again") from None
    query: Any = recurring_ical_events.of(parsed)  # pyright: ignore[reportUnknownMemberType]
    for event in query.between(now - BACK, now + AHEAD)[:_MOST]:
        begun, ended = event.start, event.end
        categories = event.get("CATEGORIES")
        first = str(categories.cats[0]) if hasattr(categories, "cats") and categories.cats else "event"
        extra = {column: event.get(f"X-GANGPLAN-{column.upper().replace('_', '-')}") for column in ANNOUNCED}
        given = {column: str(value) for column, value in extra.items() if value is not None}
        yield {"kind": _slug(first), "start": _moment(begun), "end": _moment(ended), **given}


def _holidays(source: str, now: datetime) -> Iterator[dict[str, str | None]]:
    """Give the public holidays of a country, or of a part of it, as whole days in UTC."""
    import holidays

    country, _, part = source.removeprefix("holidays:").partition("-")
    years = range((now - BACK).year, (now + AHEAD).year + 1)
    try:
        found = holidays.country_holidays(country, subdiv=part or None, years=years)
    except NotImplementedError as error:
        raise InputError("source", source, f"is no country that is known ({error}): give it like DE or DE-BY") from None
    for day in sorted(found):
        yield {"kind": "holiday", "start": _moment(day), "end": _moment(day + timedelta(days=1))}


def _tagged(store: Store) -> Iterator[dict[str, str | None]]:
    """Give the runs that are tagged as events; a run's own start and end count where its tags give none."""
    experiments = [one.experiment_id for one in store.client.search_experiments()]
    runs = store.client.search_runs(experiments, f"tags.`{_TAG}kind` LIKE '%'", max_results=_MOST)
    for run in runs:
        given = {column: run.data.tags.get(f"{_TAG}{column}") for column in ANNOUNCED}
        if given["start"] is None:
            given["start"] = _moment(datetime.fromtimestamp(run.info.start_time / 1000, UTC))
        if given["end"] is None and run.info.end_time:
            given["end"] = _moment(datetime.fromtimestamp(run.info.end_time / 1000, UTC))
        yield given


def _moment(value: date | datetime) -> str:
    """Write a time in UTC; a day begins at midnight UTC, a time without a zone is UTC."""
    if not isinstance(value, datetime):
        value = datetime.combine(value, time(), UTC)
    zoned = value if value.tzinfo else value.replace(tzinfo=UTC)
    return zoned.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _slug(words: str) -> str:
    """Make a kind of a category's words."""
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")[:63] or "event"
