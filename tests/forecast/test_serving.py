"""The logged model is an MLflow pyfunc that answers as `predict` does; a killed training leaves none."""

from __future__ import annotations

import json
from pathlib import Path

import lightgbm
import mlflow.pyfunc
import numpy as np
import polars as pl
import pytest

from gangplan import forecast
from gangplan.errors import NotFoundError
from gangplan.forecast import registry
from gangplan.forecast.bundle import read_bundle, write_bundle
from gangplan.forecast.registry import pointed_at
from gangplan.tables import QUANTILE_COLUMNS
from gangplan.tracking import MODEL

from .conftest import END, Trained


@pytest.fixture(scope="module")
def loaded(trained: Trained) -> mlflow.pyfunc.PyFuncModel:
    """The champion, loaded as anybody would."""
    with pointed_at(trained.store):
        return mlflow.pyfunc.load_model(f"models:/{MODEL}@champion")


def test_pyfunc_answers_as_predict_does(trained: Trained, loaded: mlflow.pyfunc.PyFuncModel) -> None:
    """Given the demand table without zone, it returns the same quantiles."""
    naive_times = trained.usage.demand.with_columns(pl.col("hour").dt.replace_time_zone(None)).to_pandas()
    answer = loaded.predict(naive_times, params={"horizon_hours": 48})
    wanted = forecast.predict(trained.usage, trained.store, None, settings=trained.settings).quantiles
    assert np.allclose(answer[list(QUANTILE_COLUMNS)].to_numpy(), wanted.select(QUANTILE_COLUMNS).to_numpy())
    assert answer["hour"].min().to_pydatetime() == END.replace(tzinfo=None)


def test_model_says_what_it_takes_and_needs(trained: Trained, loaded: mlflow.pyfunc.PyFuncModel) -> None:
    """Signature, input example and pinned requirements are there, so that it can be served in a clean environment."""
    signature = loaded.metadata.signature
    assert signature.inputs.input_names() == ["hour", "tenant", "workload_class", "accelerator", "gpus"]
    assert signature.outputs.input_names()[-5:] == list(QUANTILE_COLUMNS)
    assert loaded.metadata.saved_input_example_info
    with pointed_at(trained.store):
        needed = Path(mlflow.pyfunc.get_model_dependencies(f"models:/{MODEL}@champion")).read_text()
    assert "gangplan" not in needed  # its code comes with the model
    assert f"lightgbm=={lightgbm.__version__}" in needed


def test_events_reach_the_served_model(trained: Trained, loaded: mlflow.pyfunc.PyFuncModel) -> None:
    """The events parameter is read; what is no event is refused."""
    frame = trained.usage.demand.with_columns(pl.col("hour").dt.replace_time_zone(None)).to_pandas()
    event = {
        "start": "2026-03-02T12:00:00+00:00",
        "end": "2026-03-02T14:00:00+00:00",
        "kind": "release",
        "tenant": None,
    }
    assert len(loaded.predict(frame, params={"horizon_hours": 24, "events": json.dumps([event])})) == 3 * 24
    with pytest.raises(ValueError, match="isoformat"):
        loaded.predict(frame, params={"events": json.dumps([{**event, "start": "soon"}])})


def test_bundle_survives_the_file(trained: Trained, tmp_path: Path) -> None:
    """What is read is what was written, byte for byte."""
    bundle = registry.load(trained.store, trained.training.version)
    write_bundle(tmp_path / "one.json", bundle)
    write_bundle(tmp_path / "two.json", read_bundle(tmp_path / "one.json"))
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


def test_pointing_leaves_mlflow_as_it_was(trained: Trained) -> None:
    """MLflow's module-wide store is given back, also after an error."""
    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    with pytest.raises(NotFoundError, match="cannot be loaded"):
        registry.load(trained.store, "99")
    assert (mlflow.get_tracking_uri(), mlflow.get_registry_uri()) == before
