# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
"""MLflow's model registry as this room uses it: log, register whole, read by alias, move an alias and say why."""

from __future__ import annotations

import importlib.metadata
import json
import tempfile
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import mlflow
import mlflow.pyfunc
from mlflow.entities.model_registry import ModelVersion as MlflowVersion
from mlflow.exceptions import MlflowException

from gangplan import __version__
from gangplan.errors import NotFoundError
from gangplan.forecast import served
from gangplan.forecast.bundle import Bundle, write_bundle
from gangplan.forecast.quiet import quiet_mlflow
from gangplan.forecast.serving import ARTIFACT, SIGNATURE, an_example
from gangplan.tracking import MODEL, Store

CHAMPION, CHALLENGER = "champion", "challenger"
PROMOTED, REFUSED = "promoted", "refused"
NO_CHAMPION = f"{MODEL}: no champion in the registry: train one with `gangplan train`"
_AUDIT = "audit."
_POINTING = threading.RLock()


@dataclass(frozen=True, kw_only=True)
class Change:
    """One decision about an alias: who, when, why, and which version was champion before it."""

    at: datetime
    by: str
    action: str
    version: str
    why: str
    champion_before: str | None


def log_model(store: Store, run_id: str, bundle: Bundle) -> str:  # pyright: ignore[reportReturnType]  no exit swallows
    """Log the fits as a pyfunc model of that run; return its URI. Nothing is registered yet."""
    with pointed_at(store), tempfile.TemporaryDirectory() as folder, mlflow.start_run(run_id=run_id, nested=True):
        file = Path(folder) / "fits.json"
        write_bundle(file, bundle)
        return mlflow.pyfunc.log_model(
            name="model",
            python_model=str(served.__file__),
            artifacts={ARTIFACT: str(file)},
            signature=SIGNATURE,
            input_example=an_example(),
            pip_requirements=_requirements(),
        ).model_uri


def register(store: Store, run_id: str, model_uri: str, tags: Mapping[str, str]) -> str:
    """Make a version of a logged model in one step, with all its tags, so that none is ever half registered."""
    if not store.client.search_registered_models(f"name = '{MODEL}'"):
        store.client.create_registered_model(MODEL, description="Quantiles of hourly GPU demand")
    model_id = model_uri.removeprefix("models:/")
    source = store.client.get_logged_model(model_id).artifact_location
    made = store.client.create_model_version(MODEL, source, run_id=run_id, tags=dict(tags), model_id=model_id)
    store.client.set_registered_model_alias(MODEL, CHALLENGER, made.version)
    return str(made.version)


def crown(store: Store, change: Change) -> None:
    """Make a version the champion, and keep who, when and why with it and in the model's history."""
    tags = {"by": change.by, "at": change.at.isoformat(), "why": change.why}
    for name, value in tags.items():
        store.client.set_model_version_tag(MODEL, change.version, f"promoted_{name}", value)
    record(store, change)
    store.client.set_registered_model_alias(MODEL, CHAMPION, change.version)
    if alias(store, CHALLENGER) == change.version:
        store.client.delete_registered_model_alias(MODEL, CHALLENGER)


def record(store: Store, change: Change) -> None:
    """Add a decision to the model's history: one tag each, never written over."""
    body = {**asdict(change), "at": change.at.isoformat()}
    key = f"{_AUDIT}{len(history(store)) + 1:06d}.{change.action}.{change.version}"
    store.client.set_registered_model_tag(MODEL, key, json.dumps(body, sort_keys=True))


def history(store: Store) -> tuple[Change, ...]:
    """Return all decisions, the oldest first."""
    found = store.client.search_registered_models(f"name = '{MODEL}'")
    tags: list[tuple[str, str]] = sorted(found[0].tags.items()) if found else []
    return tuple(_read_change(text) for key, text in tags if key.startswith(_AUDIT))


def alias(store: Store, name: str) -> str | None:
    """Return the version that has this alias."""
    try:
        return str(store.client.get_model_version_by_alias(MODEL, name).version)
    except MlflowException:  # MLflow says so when there is no such alias or model
        return None


def champion(store: Store) -> MlflowVersion:
    """Return the champion's version, or say what makes one."""
    try:
        return store.client.get_model_version_by_alias(MODEL, CHAMPION)
    except MlflowException:
        raise NotFoundError(NO_CHAMPION) from None


def versions(store: Store) -> list[MlflowVersion]:
    """Return all versions, the newest first."""
    found = store.client.search_model_versions(f"name = '{MODEL}'")
    return sorted(found, key=lambda one: int(one.version), reverse=True)


def load(store: Store, version: str) -> Bundle:
    """Load a version's fits from the registry, by MLflow's own way."""
    try:
        with pointed_at(store):
            loaded = mlflow.pyfunc.load_model(f"models:/{MODEL}/{version}")
    except (MlflowException, OSError) as error:
        raise NotFoundError(f"{MODEL}/{version}: cannot be loaded: {error}: train again or roll back") from error
    return loaded.unwrap_python_model().bundle


@contextmanager
def pointed_at(store: Store) -> Generator[None]:
    """Point MLflow's module-wide functions, which take no store, at this one for a while."""
    with _POINTING:
        tracking, registry = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
        mlflow.set_tracking_uri(store.uri)
        mlflow.set_registry_uri(store.uri)
        try:
            with quiet_mlflow():
                yield
        finally:
            mlflow.set_tracking_uri(tracking)
            mlflow.set_registry_uri(registry)


def _read_change(text: str) -> Change:
    """Read a decision from its tag."""
    body: dict[str, Any] = json.loads(text)
    at = datetime.fromisoformat(body.pop("at"))
    return Change(at=at, **body)


def _requirements() -> list[str]:
    """What a clean environment needs, in the versions that trained it."""
    pinned = ("lightgbm", "scipy", "statsforecast", "mlflow", "numpy", "pandas", "polars")
    return [f"gangplan[forecast]=={__version__}", *(f"{name}=={importlib.metadata.version(name)}" for name in pinned)]
