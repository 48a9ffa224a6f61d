"""MLflow's model registry as this room uses it: log a model with its code, register it, read it by alias, load it."""

from __future__ import annotations

import importlib.metadata
import os
import sys
import tempfile
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

import mlflow
import mlflow.artifacts
import mlflow.pyfunc
from mlflow.entities import LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion as MlflowVersion
from mlflow.exceptions import MlflowException
from packaging.requirements import Requirement

import gangplan
from gangplan.errors import NotFoundError
from gangplan.forecast import served
from gangplan.forecast.libraries import quiet_mlflow, uncollected
from gangplan.forecast.models import Bundle, bundle_bytes
from gangplan.forecast.serving import ARTIFACT, SIGNATURE, example_input
from gangplan.tracking import MODEL, Store, naming_faults
from gangplan.urls import has_marks


class Alias(StrEnum):
    """Aliases of the registered model: who steers, and who may come next."""

    CHAMPION = "champion"
    CHALLENGER = "challenger"


NO_CHAMPION = f"{MODEL}: no champion in the registry: train one with `gangplan train`"
_NO_ALIAS = "none of them the champion: name one with `gangplan review approve <version>` (see `gangplan review list`)"
_POINTING = threading.RLock()
_ADDRESSES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")


def log_model(store: Store, run_id: str, bundle: Bundle) -> str:  # pyright: ignore[reportReturnType]  no exit swallows
    """Log the fits as a pyfunc model of that run; return its URI. Nothing is registered yet.

    A run has one model: where a training that was killed had logged it completely, that one is returned.
    """
    if (logged := _logged(store, run_id)) is not None:
        return logged
    with active_run(store, run_id), tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "fits.json"
        file.write_bytes(bundle_bytes(bundle))
        return mlflow.pyfunc.log_model(  # pyright: ignore[reportUnknownMemberType]
            name="model",
            python_model=str(served.__file__),
            artifacts={ARTIFACT: str(file)},
            signature=SIGNATURE,
            input_example=example_input(bundle.steering.fitted_until),
            pip_requirements=_requirements(),
            code_paths=[str(Path(gangplan.__file__).parent)],  # the code that trained it goes with it: nothing to build
        ).model_uri


def _logged(store: Store, run_id: str) -> str | None:
    """Return the URI of the run's model, if one was logged completely."""
    outputs = store.client.get_run(run_id).outputs
    logged = [] if outputs is None else outputs.model_outputs
    models = [store.client.get_logged_model(output.model_id) for output in logged]
    return next((model.model_uri for model in models if model.status == LoggedModelStatus.READY), None)


def register(store: Store, run_id: str, model_uri: str, tags: Mapping[str, str]) -> str:
    """Make a version of a logged model in one step, with all its tags, so that none is ever half registered.

    A run has one version: where a training that was killed had registered it, that one is returned.
    """
    before = store.client.search_model_versions(f"name = '{MODEL}' and run_id = '{run_id}'")
    if before:
        return str(before[0].version)
    if not store.client.search_registered_models(f"name = '{MODEL}'"):
        store.client.create_registered_model(MODEL, description="Quantiles of hourly GPU demand")
    model_id = model_uri.removeprefix("models:/")
    source = store.client.get_logged_model(model_id).artifact_location
    version = store.client.create_model_version(MODEL, source, run_id=run_id, tags=dict(tags), model_id=model_id)
    return str(version.version)


def alias(store: Store, name: Alias) -> str | None:
    """Return the version that has this alias."""
    try:
        return str(store.client.get_model_version_by_alias(MODEL, name).version)
    except MlflowException:  # MLflow says so when there is no such alias or model
        return None


def champion(store: Store) -> MlflowVersion:
    """Return the champion's version, or say what makes one."""
    try:
        return store.client.get_model_version_by_alias(MODEL, Alias.CHAMPION)
    except MlflowException:
        trained = len(versions(store))
        raise NotFoundError(f"{MODEL}: {trained} versions, {_NO_ALIAS}" if trained else NO_CHAMPION) from None


def versions(store: Store) -> list[MlflowVersion]:
    """Return all versions, the newest first."""
    versions = store.client.search_model_versions(f"name = '{MODEL}'")
    return sorted(versions, key=lambda version: int(version.version), reverse=True)


def load(store: Store, version: str) -> Bundle:
    """Load a version's fits from the registry, by MLflow's own way."""
    try:
        with pointed_at(store), _own_code(), uncollected(), _readable(store, f"models:/{MODEL}/{version}") as uri:
            # Without warnings MLflow leaves out a search of all that is installed, which takes a second.
            loaded = mlflow.pyfunc.load_model(uri, suppress_warnings=True)
    except (MlflowException, OSError) as error:
        raise NotFoundError(f"{MODEL}/{version}: cannot be loaded: {error}: train again or roll back") from error
    return loaded.unwrap_python_model().bundle


@contextmanager
def _readable(store: Store, uri: str) -> Generator[str]:
    """Yield what MLflow can load a model from: it takes a path for a URI, so one with marks in it is copied first."""
    if not has_marks(store.folder):
        yield uri
        return
    with tempfile.TemporaryDirectory() as folder:
        yield mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=folder)


@contextmanager
def active_run(store: Store, run_id: str) -> Generator[None]:
    """Make that run MLflow's active one for a while, and leave it running."""
    with pointed_at(store):
        mlflow.start_run(run_id=run_id, nested=True)
        try:
            yield
        finally:
            mlflow.end_run()
            store.client.update_run(run_id, status="RUNNING")


@contextmanager
def pointed_at(store: Store) -> Generator[None]:
    """Point MLflow's module-wide functions, which take no store, at this one for a while.

    MLflow also writes the address into the environment, for its child processes: that is given back as well.
    """
    with _POINTING:
        tracking, registry = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
        inherited = {name: os.environ.get(name) for name in _ADDRESSES}
        mlflow.set_tracking_uri(store.tracking_uri)
        mlflow.set_registry_uri(store.tracking_uri)
        try:
            with quiet_mlflow(), naming_faults(store.uri):
                yield
        finally:
            mlflow.set_tracking_uri(tracking)
            mlflow.set_registry_uri(registry)
            for name, value in inherited.items():
                os.environ.pop(name, None)
                os.environ.update({} if value is None else {name: value})


@contextmanager
def _own_code() -> Generator[None]:
    """Restore the import path: loading a model puts the code that came with it first, and we go on with our own."""
    before = list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = before


def _requirements() -> list[str]:
    """Return what the forecast needs in a clean environment, in the versions that trained it."""
    given = map(Requirement, importlib.metadata.requires("gangplan") or ())
    names = {each.name for each in given if each.marker is None or each.marker.evaluate({"extra": "forecast"})}
    return sorted(f"{name}=={importlib.metadata.version(name)}" for name in (*names, "pandas", "pyarrow"))
