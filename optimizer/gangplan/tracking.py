"""The MLflow store through which stages hand over: experiments, runs, tables as artifacts with a sha256 tag.

Each stage can run in a process of its own: telemetry writes a run that the forecast reads, the forecast registers a
model that the plan reads.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import polars as pl
import requests  # MLflow's own HTTP client

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # set before the import, so that MLflow sends nothing
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # the command line draws its own

from mlflow import MlflowClient
from mlflow.entities import Metric, Run, RunStatus
from mlflow.exceptions import MlflowException

from gangplan.config import Settings
from gangplan.errors import InputError, NotFoundError, UnavailableError
from gangplan.progress import Progress, no_progress

TELEMETRY = "gangplan/telemetry"
FORECAST = "gangplan/forecast"
PLAN = "gangplan/plan"
FEEDBACK = "gangplan/feedback"

METRICS_AT_ONCE = 1000
"""The largest number of metrics that MLflow takes in one request."""

MODEL = "gangplan-demand"
"""The registered model; its aliases are `champion` and `challenger`."""


@dataclass(frozen=True, kw_only=True)
class Store:
    """An MLflow tracking store and model registry; it connects when it is first used."""

    uri: str

    @cached_property
    def client(self) -> MlflowClient:
        """The MLflow client; a SQLite file that does not exist is created with its folder."""
        scheme = urlsplit(self.uri).scheme
        if scheme not in ("sqlite", "http", "https", "postgresql", "postgresql+psycopg"):
            raise InputError("mlflow", self.uri, "is no MLflow tracking URI: use sqlite:///file.db or http://host:port")
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # hides the log of its migrations
        try:
            if self.folder is not None:
                _make_database(Path(self.uri.removeprefix("sqlite:///")))
            return MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
        except (MlflowException, OSError) as error:
            raise UnavailableError(f"mlflow: {self.uri} cannot be opened: {error}") from error

    @property
    def folder(self) -> Path | None:
        """The folder of a SQLite store's file; none for a server."""
        if not self.uri.startswith("sqlite:///"):
            return None
        return Path(self.uri.removeprefix("sqlite:///")).resolve().parent

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

    def runs(self, experiment: str, tags: Mapping[str, str] | None = None, limit: int = 1) -> list[Run]:
        """Return up to `limit` finished runs with those tags, the newest first."""
        query = [
            "attributes.status = 'FINISHED'",
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
            raise NotFoundError(f"{experiment}: no finished run in {self.uri}: {remedy}")
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


def open_store(settings: Settings, *, create: bool = False) -> Store:
    """Return the store of the settings; a file that does not exist is created only if `create` is true."""
    store = Store(uri=settings.mlflow_uri)
    if store.folder is not None and not create and not Path(store.uri.removeprefix("sqlite:///")).exists():
        raise InputError("mlflow", store.uri, "is not there: run `gangplan ingest` first, or name another store")
    if store.uri.startswith(("http://", "https://")):
        _require_answer(store.uri)
    return store


def _require_answer(uri: str) -> None:
    """Ask a server for its health first: MLflow's own client retries for minutes before it raises."""
    try:
        requests.get(f"{uri.rstrip('/')}/health", timeout=10).raise_for_status()
    except requests.RequestException as error:
        raise UnavailableError(
            f"mlflow: {uri!r} does not answer ({type(error).__name__}): start it, or name another store"
        ) from None


def _make_database(file: Path) -> None:
    """Create a migrated database in one step, because a migration that was killed half-way cannot be resumed."""
    if file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    staging = file.with_name(f".{file.name}.{os.getpid()}")
    staging.unlink(missing_ok=True)
    client = MlflowClient(tracking_uri=f"sqlite:///{staging}")
    client.search_experiments(max_results=1)  # pyright: ignore[reportUnknownMemberType]
    try:
        os.link(staging, file)  # unlike a rename, it never replaces a database that another process created
    except FileExistsError:
        pass
    finally:
        staging.unlink()


def table_sha256(frame: pl.DataFrame) -> str:
    """Return the sha256 of a table's Parquet form, which covers every value (MLflow's own digest covers a sample)."""
    return hashlib.sha256(_parquet(frame)).hexdigest()


def _parquet(frame: pl.DataFrame) -> bytes:
    """Write a table as Parquet, always with the same bytes for the same values."""
    buffer = io.BytesIO()
    frame.rechunk().write_parquet(buffer)
    return buffer.getvalue()
