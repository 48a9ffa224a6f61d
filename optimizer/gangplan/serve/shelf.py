"""What MLflow holds, as all viewers see it: each thing is read at most every half minute, by one of them at a time."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, TypeVar, cast
from urllib.parse import urlsplit

from gangplan.config import Settings
from gangplan.errors import GangplanError, NotFoundError
from gangplan.extras import needs_extras
from gangplan.types import Pool

if TYPE_CHECKING:
    from gangplan.tracking import Store

T = TypeVar("T")

_log = logging.getLogger(__name__)

KEPT_S = 30.0
_POOLS = "pools"
_MOST = 64
"""So many things are kept at most."""


@dataclass(frozen=True, kw_only=True)
class _Kept:
    until: float
    value: object = None
    error: GangplanError | None = None


class Shelf:
    """Reads from the MLflow of the settings, and keeps what was read for a while; errors too."""

    def __init__(self, settings: Callable[[], Settings], *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._settings, self._monotonic = settings, monotonic
        self._kept: dict[str, _Kept] = {}
        self._locks = [Lock() for _ in range(16)]  # by a name's hash: there may be any number of names
        self._reading = Event()

    def store(self) -> Store:
        """Return MLflow; where it is missing, its error says what to do."""
        with needs_extras():  # a plain Airflow has no MLflow
            from gangplan.tracking import open_store
        return open_store(self._settings())

    def read(self, name: str, work: Callable[[Store], T]) -> T:
        """Return what `work` reads, or what it read under this name a short while ago."""
        with self._locks[hash(name) % len(self._locks)]:
            kept = self._kept.get(name)
            if kept is None or self._monotonic() >= kept.until:
                kept = self._read(work)
                if len(self._kept) >= _MOST:
                    self._kept.clear()
                self._kept[name] = kept
        if kept.error is not None:
            raise kept.error.with_traceback(None)  # or it would grow with each viewer
        return cast("T", kept.value)

    def _read(self, work: Callable[[Store], object]) -> _Kept:
        try:
            with needs_extras():
                value = work(self.store())
        except GangplanError as error:
            return _Kept(until=self._monotonic() + KEPT_S, error=error)
        return _Kept(until=self._monotonic() + KEPT_S, value=value)

    def forget(self) -> None:
        """Read everything anew: something was decided."""
        self._kept.clear()

    def pools(self) -> Mapping[str, Pool]:
        """Return the pools of the plan that holds now, as far as they are known: nobody waits for them.

        The first read takes seconds, since it imports the libraries of the stages. It happens beside the page, whose
        next view has the pools; likewise when they are read anew.
        """
        kept = self._kept.get(_POOLS)
        if (kept is None or self._monotonic() >= kept.until) and not self._reading.is_set():
            self._reading.set()
            Thread(target=self._read_pools, name="gangplan pools", daemon=True).start()
        return cast("Mapping[str, Pool]", kept.value) if kept is not None and kept.error is None else {}

    def _read_pools(self) -> None:
        def work(store: Store) -> dict[str, Pool]:
            from gangplan import plan

            return {pool.name: pool for pool in plan.read_published(store).fleet.pools}

        try:
            self.read(_POOLS, work)
        except GangplanError as error:  # the pages of models and plans show it
            _log.info("the published plan's pools: %s", error)
        finally:
            self._reading.clear()

    def page(self, run_id: str, name: str, remedy: str) -> str:
        """Return an HTML file that a stage logged to its run, or say what makes it."""
        return self.read(f"{run_id}/{name}", lambda store: _text(store, run_id, name, remedy))

    def address(self, run_id: str | None) -> str:
        """Return where MLflow's own page shows a run; empty where MLflow is a file, or has its password in its URL."""
        uri = self._settings().mlflow_uri
        parts = urlsplit(uri)
        if parts.scheme not in ("http", "https") or "@" in parts.netloc or not run_id:
            return ""
        try:
            run = self.read(f"run {run_id}", lambda store: store.client.get_run(run_id).info.experiment_id)
        except GangplanError:
            return ""
        return f"{uri.rstrip('/')}/#/experiments/{run}/runs/{run_id}"


def _text(store: Store, run_id: str, name: str, remedy: str) -> str:
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory() as folder:
        try:
            return Path(store.client.download_artifacts(run_id, name, folder)).read_text()
        except (MlflowException, OSError) as error:
            raise NotFoundError(f"run {run_id}: has no {name}: {remedy}") from error
