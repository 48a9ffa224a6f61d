"""The runs of an MLflow tracking store that are tagged as something, with these tags; the store is only read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from mlflow.store.tracking.dbmodels import models

from gangplan.tracking import Store, database_to_read, naming_faults, require_answer
from gangplan.urls import is_http

_PAGE = 1000
_tables: Any = models  # MLflow's tables have no types


@dataclass(frozen=True, kw_only=True)
class TaggedRun:
    """A run: its start, its end if it has one, and its tags that begin as asked for, without that beginning."""

    start: datetime
    end: datetime | None
    tags: dict[str, str] = field(default_factory=dict[str, str])


def tagged_runs(uri: str, required: str, prefix: str) -> list[TaggedRun]:
    """Return the active runs that have the tag `required`, each with its tags that begin with `prefix`.

    Raises
    ------
    InputError
        There is no such store, it has the schema of another MLflow, or it refuses us.
    UnavailableError
        It cannot be reached.
    """
    with naming_faults(uri, "source"):
        if is_http(uri):
            require_answer(uri, "source")
            return list(_of_server(Store(uri=uri), required, prefix))
        with database_to_read(uri) as connection:
            return _of_database(connection, required, prefix)


def _of_server(store: Store, required: str, prefix: str) -> Iterator[TaggedRun]:
    """Ask a server, page by page."""
    experiments, page = list(store.experiment_names()), None
    while True:
        runs: Any = store.client.search_runs(
            experiments, f"tags.`{required}` LIKE '%'", max_results=_PAGE, page_token=page
        )
        for run in runs:
            tags = {key.removeprefix(prefix): value for key, value in run.data.tags.items() if key.startswith(prefix)}
            yield TaggedRun(start=_time(run.info.start_time), end=_time_or_none(run.info.end_time), tags=tags)
        page = runs.token
        if not page:
            return


def _of_database(connection: sa.Connection, required: str, prefix: str) -> list[TaggedRun]:
    """Ask a database."""
    run, experiment, tag = _tables.SqlRun, _tables.SqlExperiment, _tables.SqlTag
    wanted = sa.select(tag.run_uuid).where(tag.key == required)
    query = (
        sa.select(run.run_uuid, run.start_time, run.end_time, tag.key, tag.value)
        .join(experiment, experiment.experiment_id == run.experiment_id)
        .join(tag, tag.run_uuid == run.run_uuid)
        .where(run.lifecycle_stage == "active", experiment.lifecycle_stage == "active", run.run_uuid.in_(wanted))
        .order_by(run.start_time, run.run_uuid)
    )
    found: dict[str, TaggedRun] = {}
    for run_id, start, end, key, value in connection.execute(query):
        one = found.setdefault(run_id, TaggedRun(start=_time(start), end=_time_or_none(end)))
        if key.startswith(prefix):
            one.tags[key.removeprefix(prefix)] = value
    return list(found.values())


def _time(milliseconds: int) -> datetime:
    """Return MLflow's time."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _time_or_none(milliseconds: int | None) -> datetime | None:
    """Return the end of a run, which has none while it runs."""
    return _time(milliseconds) if milliseconds else None
