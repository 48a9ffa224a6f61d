"""The whole pipeline, run by KFP's local runner on the ledger and the MLflow store that the command uses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kfp import local
from tests.kfp import world as worlds
from tests.kfp.world import SETTINGS

from gangplan import forecast, plan
from gangplan.config import load_settings
from gangplan.tracking import open_store
from gangplan_kfp.components import train_demand_model
from gangplan_kfp.pipelines.training import reserved_training


def gangplan(home: Path, *words: str) -> Any:
    """Call the command as a person would, and return the JSON that it prints."""
    command = [str(Path(sys.executable).parent / "gangplan"), "--home", str(home), *words, "--json"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, world_template: Path) -> Path:
    """A home with a starter fleet, its ledger, and telemetry and models in MLflow."""
    return worlds.copy(world_template, tmp_path_factory.mktemp("worlds") / "home").home


@pytest.fixture(scope="module")
def outputs(home: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Each step's outputs after the pipeline ran, by the step's name."""
    root = tmp_path_factory.mktemp("runs")
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(root))
    reserved_training(home=str(home), settings=SETTINGS, timeout_seconds=0)
    return worlds.outputs(root)


def parameters(outputs: dict[str, dict[str, Any]], step: str) -> dict[str, Any]:
    """Return a step's output parameters."""
    return outputs[step]["parameterValues"]


def figures(outputs: dict[str, dict[str, Any]], step: str) -> dict[str, float]:
    """Return the metrics that a step's page shows."""
    (artifact,) = outputs[step]["artifacts"]["metrics"]["artifacts"]
    return artifact["metadata"]


def page(outputs: dict[str, dict[str, Any]], step: str, name: str) -> str:
    """Return the Markdown that a step's page shows."""
    (artifact,) = outputs[step]["artifacts"][name]["artifacts"]
    return Path(artifact["uri"]).read_text()


def test_whole_pipeline_on_the_commands_stores(home: Path, outputs: dict[str, dict[str, Any]]) -> None:
    """The gang was held and given back, the model registered, the plan published: where the command finds them."""
    (found,) = gangplan(home, "status")
    assert found["id"] == parameters(outputs, "reserve-gang")["reservation_id"]
    assert (found["state"], found["gpus"], found["tenant"]) == ("released", 8, "vision")
    assert parameters(outputs, "release-gang") == {"Output": "released"}

    store = open_store(load_settings(home=home))
    trained = parameters(outputs, "train-demand-model")
    assert forecast.list_versions(store)[0].version == trained["model_version"] == "3"
    assert {"wql_percent", "naive_wql_percent", "coverage_80"} <= set(figures(outputs, "train-demand-model"))
    assert page(outputs, "train-demand-model", "training").startswith(f"# Demand model {trained['model_version']}: ")

    planned = parameters(outputs, "plan-capacity")
    assert plan.read_plan(store)[0].plan_id == planned["plan_id"]
    assert figures(outputs, "plan-capacity")["total_cost"] == planned["total_cost"] > 0
    assert page(outputs, "plan-capacity", "explanation").startswith(f"# Plan {planned['plan_id']}: ")
    assert {row["pool"] for row in gangplan(home, "calendar", "--hours", "12")} == {"h100-lab"}


def test_unknown_setting_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A misspelt setting ends the step with its name and those that there are."""
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path))
    with pytest.raises(RuntimeError, match="train-demand-model"):
        train_demand_model(run_id="run-1", home=str(tmp_path), settings={"horizon_hour": 24})
    log = capfd.readouterr().out
    assert "error: horizon_hour: 24.0 is no setting: use one of home, ledger, mlflow" in log
    assert "Traceback" not in log
