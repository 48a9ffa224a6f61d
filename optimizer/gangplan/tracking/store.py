"""The MLflow store through which stages hand over: experiments, runs, tables as artifacts with a sha256 tag.

Each stage can run in a process of its own: telemetry writes a run that the forecast reads, the forecast registers a
model that the plan reads.
"""

from __future__ import annotations

import hashlib
import io
import logging
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, wraps
from pathlib import Path
from typing import Any

import polars as pl
from mlflow import MlflowClient
from mlflow.entities import Metric, Run, RunStatus
from mlflow.exceptions import MlflowException

from gangplan.errors import InputError, NotFoundError
from gangplan.progress import Progress, no_progress
from gangplan.tracking.database import client_uri, prepare, require_known
from gangplan.tracking.faults import naming_faults
from gangplan.urls import is_http, shown, sqlite_file

TELEMETRY = "gangplan/telemetry"
FORECAST = "gangplan/forecast"
PLAN = "gangplan/plan"
FEEDBACK = "gangplan/feedback"
APPLY = "gangplan/apply"

METRICS_AT_ONCE = 1000
"""The largest number of metrics that MLflow takes in one request."""

MODEL = "gangplan-demand"
"""The registered model; its aliases are `champion` and `challenger`."""


class _Client(MlflowClient):
    """MLflow's client; a store that is down or refuses us is an error of ours, whichever library noticed it."""

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name.startswith("_") or not callable(found):
            return found
        uri = super().__getattribute__("_tracking_client").tracking_uri

        @wraps(found)
        def call(*given: Any, **named: Any) -> Any:
            with naming_faults(uri):
                return found(*given, **named)

        return call


@dataclass(frozen=True, kw_only=True)
class Store:
    """An MLflow tracking store and model registry; it connects when it is first used."""

    uri: str = field(repr=False)  # it may hold a password

    @cached_property
    def client(self) -> MlflowClient:
        """The MLflow client; a SQLite file that does not exist is created with its folder."""
        require_known(self.uri, "mlflow")
        for logger in ("mlflow.store.db.utils", "alembic"):
            logging.getLogger(logger).setLevel(logging.CRITICAL)  # what it logs is raised as well
        with naming_faults(self.uri):
            if not is_http(self.uri):
                prepare(self.uri)
            return _Client(tracking_uri=self.tracking_uri, registry_uri=self.tracking_uri)

    @property
    def tracking_uri(self) -> str:
        """The URI as MLflow's functions must get it."""
        return client_uri(self.uri)

    @property
    def folder(self) -> Path | None:
        """The folder of a SQLite store's file; none for a server."""
        file = sqlite_file(self.uri)
        return None if file is None else file.resolve().parent

    def experiment(self, name: str) -> str:
        """Return the id of the experiment of that name, created if need be (artifacts beside a SQLite file)."""
        existing = self.client.get_experiment_by_name(name)
        if existing is not None:
            return existing.experiment_id
        location = None if self.folder is None else (self.folder / "artifacts" / name).as_uri()
        try:
            return self.client.create_experiment(name, artifact_location=location)
        except MlflowException:  # another process created it in between
            existing = self.client.get_experiment_by_name(name)
            if existing is None:
                raise
            return existing.experiment_id

    def experiment_names(self) -> dict[str, str]:
        """Return the names of all active experiments by their ids."""
        client: Any = self.client
        return {experiment.experiment_id: experiment.name for experiment in client.search_experiments()}

    @contextmanager
    def run(self, experiment: str, name: str, tags: Mapping[str, str]) -> Generator[str]:
        """Open a run and yield its id; it ends as FINISHED, or as FAILED when the block raises: readers skip it."""
        run = self.client.create_run(self.experiment(experiment), run_name=name, tags=dict(tags))
        with self.ending(run.info.run_id):
            yield run.info.run_id

    @contextmanager
    def ending(self, run_id: str) -> Generator[None]:
        """End an open run as FINISHED, or as FAILED when the block raises."""
        try:
            yield
        except BaseException:
            self.client.set_terminated(run_id, RunStatus.to_string(RunStatus.FAILED))
            raise
        self.client.set_terminated(run_id, RunStatus.to_string(RunStatus.FINISHED))

    def runs(
        self, experiment: str, tags: Mapping[str, str] | None = None, limit: int = 1, *, finished: bool = True
    ) -> list[Run]:
        """Return up to `limit` runs with those tags, the newest first; only finished ones, unless told otherwise."""
        query = [
            *(["attributes.status = 'FINISHED'"] if finished else []),
            *(f"tags.`{key}` = '{value}'" for key, value in (tags or {}).items()),
        ]
        return list(
            self.client.search_runs(
                [self.experiment(experiment)],
                filter_string=" and ".join(query),
                max_results=limit,
                order_by=["attributes.start_time DESC"],
            )
        )

    def latest(self, experiment: str, tags: Mapping[str, str] | None = None, *, remedy: str) -> Run:
        """Return the newest finished run with those tags; without one, NotFoundError names the remedy."""
        newest = self.runs(experiment, tags)
        if not newest:
            raise NotFoundError(f"{experiment}: no finished run in {shown(self.uri)}: {remedy}")
        return newest[0]

    def log_metrics(
        self, run_id: str, metrics: Sequence[Metric], progress: Progress = no_progress, text: str = "logging metrics"
    ) -> None:
        """Log any number of metrics, in as few requests as MLflow allows; `text` goes with the progress."""
        for first in range(0, len(metrics), METRICS_AT_ONCE):
            progress(first, len(metrics), text)
            self.client.log_batch(run_id, metrics=metrics[first : first + METRICS_AT_ONCE])
        progress(len(metrics), len(metrics), text)

    def log_table(self, run_id: str, name: str, frame: pl.DataFrame) -> str:
        """Log a table as `tables/<name>.parquet`, tag the run with its sha256, and return that."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{name}.parquet"
            path.write_bytes(_parquet(frame))
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            self.client.log_artifact(run_id, str(path), "tables")  # pyright: ignore[reportUnknownMemberType]
        self.client.set_tag(run_id, f"sha256.{name}", digest)
        return digest

    def read_table(self, run_id: str, name: str) -> pl.DataFrame:
        """Read a logged table and check it against its sha256."""
        with tempfile.TemporaryDirectory() as folder:
            try:
                path = Path(self.client.download_artifacts(run_id, f"tables/{name}.parquet", folder))
            except (MlflowException, OSError) as error:
                raise NotFoundError(f"run {run_id}: no table {name}: {error}") from error
            wanted = self.client.get_run(run_id).data.tags.get(f"sha256.{name}")
            if wanted != hashlib.sha256(path.read_bytes()).hexdigest():
                remedy = "is not what was logged (sha256 differs): run that stage again"
                raise InputError(f"tables/{name}.parquet", run_id, remedy)
            return pl.read_parquet(path)


def table_sha256(frame: pl.DataFrame) -> str:
    """Return the sha256 of a table's Parquet form, which covers every value (MLflow's own digest covers a sample)."""
    return hashlib.sha256(_parquet(frame)).hexdigest()


def _parquet(frame: pl.DataFrame) -> bytes:
    """Write a table as Parquet, always with the same bytes for the same values."""
    buffer = io.BytesIO()
    frame.rechunk().write_parquet(buffer)
    return buffer.getvalue()
