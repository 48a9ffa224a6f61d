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
import polars as pl
import pytest
from tests.servers import serving

from gangplan import forecast
from gangplan.errors import NotFoundError
from gangplan.forecast.models.bundle import bundle_bytes, read_bundle
from gangplan.forecast.registry import model_versions
from gangplan.forecast.registry.model_versions import pointed_at
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
