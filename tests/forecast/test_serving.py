"""The logged model is an MLflow pyfunc that answers as `predict` does, also where nothing but MLflow is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from contextlib import AbstractContextManager
from pathlib import Path

import lightgbm
import mlflow.pyfunc
import numpy as np
import pandas as pd
import polars as pl
import pytest
from mlflow.exceptions import MlflowException
from tests.servers import serving

from gangplan import forecast
from gangplan.errors import NotFoundError
from gangplan.forecast.models.bundle import Bundle, bundle_bytes, read_bundle
from gangplan.forecast.registry import model_versions
from gangplan.forecast.registry.model_versions import pointed_at
from gangplan.forecast.serving import ServedModel
from gangplan.tables import QUANTILE_COLUMNS
from gangplan.tracking import FORECAST, MODEL, Store
from gangplan.urls import sqlite_url

from .conftest import END, Trained, copy_store


@pytest.fixture(scope="module")
def bundle(trained: Trained) -> Bundle:
    """The champion's fits."""
    return model_versions.load(trained.store, trained.training.version)


def answer_of(bundle: Bundle, frame: pd.DataFrame, **params: object) -> pd.DataFrame:
    """Ask the served model, past MLflow's own checks of types."""
    model = ServedModel()
    model.bundle = bundle
    return model.predict(None, frame, params)


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
    assert len(loaded.predict(loaded.input_example, params={"horizon_hours": 3})) == 3
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
    with pytest.raises(MlflowException, match=r"events\.0\.start: 'soon'"):
        loaded.predict(frame, params={"events": json.dumps([{**event, "start": "soon"}])})


def asked(trained: Trained) -> pd.DataFrame:
    """Two days of one series, as a caller sends them."""
    rows = trained.usage.demand.filter(pl.col("tenant") == "language").tail(48)
    return rows.with_columns(pl.col("hour").dt.replace_time_zone(None)).to_pandas()


def with_value(frame: pd.DataFrame, column: str, value: object) -> pd.DataFrame:
    """The same rows with another value in the third."""
    values = list(frame[column])
    values[2] = value
    return frame.assign(**{column: pd.Series(values, index=frame.index)})


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("hour", pd.NaT, r"hour \(row 3\): '' is missing"),
        ("hour", pd.Timestamp("2026-02-28T11:30:00"), r"hour \(row 3\): .*11:30.* is no full hour"),
        ("hour", pd.Timestamp("1970-01-01"), r"hour \(row 3\): '1970.* three years from 2026-03-02"),
        ("hour", pd.Timestamp("2262-01-01"), r"hour \(row 3\): '2262.* three years"),
        ("gpus", float("nan"), r"gpus \(row 3\): 'nan' is no number of 0 or more: leave the row out"),
        ("gpus", float("inf"), r"gpus \(row 3\): 'inf'"),
        ("gpus", -1.0, r"gpus \(row 3\): '-1.0'"),
        ("tenant", "", r"tenant \(row 3\): '' is missing"),
        ("tenant", None, r"tenant \(row 3\): '' is missing"),
        ("workload_class", "training", r"workload_class \(row 3\): 'training' is no class: use one of latency"),
    ],
)
def test_wrong_value_is_named(trained: Trained, bundle: Bundle, column: str, value: object, says: str) -> None:
    """Field, row, value and remedy: nothing is forecast from a value that means nothing."""
    with pytest.raises(MlflowException, match=says) as refused:
        answer_of(bundle, with_value(asked(trained), column, value))
    assert refused.value.get_http_status_code() == 400


@pytest.mark.parametrize("horizon", [0, -1, 2161, 1.5, float("nan"), True])
def test_wrong_horizon_is_refused(trained: Trained, bundle: Bundle, horizon: object) -> None:
    """The horizon is a whole number of hours, as long as the settings allow."""
    with pytest.raises(MlflowException, match=r"horizon_hours: .* must be a whole number from 1 to 2160"):
        answer_of(bundle, asked(trained), horizon_hours=horizon)


def test_wrong_table_is_refused(trained: Trained, bundle: Bundle) -> None:
    """Unknown and missing columns, hours that stand twice, and no rows at all."""
    frame = asked(trained)
    for wrong, says in (
        (frame.assign(gpu=1.0), "gpu: 'gpu' is no column of demand: use one of hour"),
        (frame.drop(columns="gpus"), "gpus: '' is missing"),
        (pd.concat([frame, frame.tail(1)]), "stands twice in its series"),
        (frame.head(0), "has no hour to forecast from"),
        (frame.assign(gpus="many"), "another type"),
    ):
        with pytest.raises(MlflowException, match=says):
            answer_of(bundle, wrong)


@pytest.mark.parametrize(
    ("events", "says"),
    [
        ("soon", "events: 'soon' is no JSON"),
        ("{}", "events: '{}' is no list"),
        ('["release"]', "events.0: 'release' is no event"),
        ('[{"start": "2026-03-02T12:00:00Z", "kind": "release"}]', "events.0.end: '' is missing"),
        (
            '[{"start": "2026-03-02T12:00:00Z", "end": "2026-03-02T11:00:00Z", "kind": "release"}]',
            "events.0.end: .* is before the start",
        ),
        (
            '[{"start": "2026-03-02T12:00:00Z", "end": "2026-03-02T13:00:00Z", "kind": "release", "who": "x"}]',
            "events.0.who: 'x' is no field of an event",
        ),
    ],
)
def test_wrong_events_are_refused(trained: Trained, bundle: Bundle, events: str, says: str) -> None:
    """Each event names its place in the list."""
    with pytest.raises(MlflowException, match=says):
        answer_of(bundle, asked(trained), events=events)


def test_right_question_is_answered(trained: Trained, bundle: Bundle) -> None:
    """What is refused above is refused for its fault alone; the least horizon is one hour."""
    answer = answer_of(bundle, asked(trained), horizon_hours=1)
    assert answer["hour"].tolist() == [pd.Timestamp(END.replace(tzinfo=None))]
    assert np.isfinite(answer[list(QUANTILE_COLUMNS)].to_numpy()).all()


def test_model_in_a_home_with_marks_in_its_path_is_loaded(
    trained: Trained, bundle: Bundle, mlflow_template: Path, tmp_path: Path
) -> None:
    """MLflow takes a local path for a URI: `#`, `?` and `%20` in it neither cut nor change it."""
    home = tmp_path / "h a%20#?ü"
    store = Store(uri=copy_store(mlflow_template, home).uri.replace(str(home), str(sqlite_url(home))[10:]))
    with store.run(FORECAST, "a training", {}) as run_id:
        version = model_versions.register(store, run_id, model_versions.log_model(store, run_id, bundle), {})
    assert bundle_bytes(model_versions.load(store, version)) == bundle_bytes(bundle)
    assert (home / "mlflow" / "artifacts").is_dir()
    assert {path.name for path in tmp_path.iterdir()} == {home.name}


def test_bundle_survives_the_file(trained: Trained, tmp_path: Path) -> None:
    """What is read is what was written, byte for byte."""
    bundle = model_versions.load(trained.store, trained.training.version)
    (tmp_path / "one.json").write_bytes(bundle_bytes(bundle))
    (tmp_path / "two.json").write_bytes(bundle_bytes(read_bundle(tmp_path / "one.json")))
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


def test_what_is_not_asked_is_not_loaded(trained: Trained) -> None:
    """In a new process, loading the champion imports neither LightGBM nor statsforecast, and reads no tree."""
    program = f"""
import sys
from gangplan.forecast import registry
from gangplan.tracking import Store
bundle = registry.load(Store(uri={trained.store.uri!r}), {trained.training.version!r})
trees = (*bundle.steering.trees, *bundle.tested.trees)
print(len(trees), sum("booster" in vars(one) for one in trees), {{"lightgbm", "statsforecast"}} & set(sys.modules))
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "30 0 set()"


def test_pointing_leaves_mlflow_as_it_was(trained: Trained) -> None:
    """MLflow's module-wide store is given back, also after an error."""
    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri(), dict(os.environ)
    with pytest.raises(NotFoundError, match="cannot be loaded"):
        model_versions.load(trained.store, "99")
    assert (mlflow.get_tracking_uri(), mlflow.get_registry_uri(), dict(os.environ)) == before


def test_model_is_served_where_nothing_else_is_installed(trained: Trained, tmp_path: Path) -> None:
    """In an environment of the model's own requirements, without gangplan, `mlflow models serve` answers as we do."""
    into = tmp_path / "model"  # MLflow copies all that lies where it serves from
    into.mkdir()
    with pointed_at(trained.store):
        folder = Path(mlflow.artifacts.download_artifacts(f"models:/{MODEL}@champion", dst_path=str(into)))
    python = clean_environment(folder / "requirements.txt", tmp_path / "clean")
    frame = trained.usage.demand.with_columns(pl.col("hour").dt.strftime("%Y-%m-%dT%H:%M:%S")).to_pandas()
    question = {"dataframe_split": frame.to_dict(orient="split", index=False), "params": {"horizon_hours": 48}}
    with served(python, folder, tmp_path) as url:
        request = urllib.request.Request(  # noqa: S310 - our own loopback address
            f"{url}/invocations", json.dumps(question).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            said = pl.DataFrame(json.load(answer)["predictions"])
    wanted = forecast.predict(trained.usage, trained.store, None, settings=trained.settings).quantiles
    assert np.allclose(said.select(QUANTILE_COLUMNS).to_numpy(), wanted.select(QUANTILE_COLUMNS).to_numpy())


def clean_environment(requirements: Path, folder: Path) -> Path:
    """Make an environment of these requirements alone; return its Python."""
    uv = Path(sys.executable).parent / "uv"
    locked = Path(__file__).resolve().parents[2] / "requirements" / "core.txt"
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, folder], check=True)
    command = [uv, "pip", "install", "-q", "--python", folder, "-c", locked, "-r", requirements]
    subprocess.run(command, check=True)
    python = folder / "bin" / "python"
    missing = subprocess.run([python, "-c", "import gangplan"], capture_output=True, check=False, cwd=folder)
    assert missing.returncode != 0
    return python


def served(python: Path, model: Path, folder: Path) -> AbstractContextManager[str]:
    """Let that environment's MLflow serve a model; give its address."""
    words = ["models", "serve", "-m", str(model), "--env-manager", "local"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PATH"] = f"{python.parent}:{environment['PATH']}"
    return serving([python.parent / "mlflow", *words], environment, folder, "ping")
