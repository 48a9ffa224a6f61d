"""A URL with a secret is no parameter; from the environment it reaches no log, parameter, artifact or output.

No postponed annotations: KFP reads them as they are written.
"""

from pathlib import Path
from typing import Any

import pytest
from kfp import dsl
from tests.kfp.world import World

import gangplan_kfp
from gangplan.errors import InputError
from gangplan_kfp.support import refuse_secrets

SECRET = "s3cret"  # noqa: S105 - made up
DOWN = "127.0.0.1:1"
URLS = (
    f"http://ada:{SECRET}@{DOWN}",
    f"http://{SECRET}@{DOWN}",
    f"postgresql://ada:{SECRET}@{DOWN}/db",
    f"postgresql://{DOWN}/db?user=ada&password={SECRET}",
    f"prometheus+http://ada:{SECRET}@{DOWN}",
)
RUN: dict[str, Any] = {"run_id": "run-1"}
STEPS: dict[str, dict[str, Any]] = {
    "ingest_telemetry": {"source": "sample"},
    "train_demand_model": {},
    "evaluate_challenger": {},
    "review_gate": {},
    "promote_model": {"version": "2", "by": "ada", "why": "better"},
    "plan_capacity": {},
    "approve_plan": {},
    "apply_plan": {},
    "record_feedback": {},
}
Capture = pytest.CaptureFixture[str]


def nowhere(runs: Path, capfd: Capture) -> None:
    """Assert that neither the log of the steps nor a file of the run has the secret."""
    log = capfd.readouterr()
    assert SECRET not in log.out + log.err
    for file in (path for path in runs.rglob("*") if path.is_file()):
        assert SECRET not in file.read_text(errors="replace"), file


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("name", ["ledger", "mlflow", "source", "settings"])
def test_a_url_with_a_secret_is_no_parameter(name: str, url: str) -> None:
    """It is refused under its name, without the secret, and the remedy names the variable of the Secret."""
    with pytest.raises(InputError) as refused:
        refuse_secrets({name: {"airflow_api": url} if name == "settings" else url})
    field, variable = {"settings": ("airflow_api", "AIRFLOW_API"), "source": (name, "TELEMETRY")}.get(
        name, (name, name.upper())
    )
    assert refused.value.field == field
    assert f"under GANGPLAN_{variable}, and give the step its environment: with_secret(task)" in str(refused.value)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["sqlite:////data/ledger.db", "kueue://-/vision/gangplan", "http://mlflow:5000", "postgresql://ada@host/db"]
)
def test_a_url_without_a_secret_is_one(url: str) -> None:
    """Files, Kueue, servers and a user without a password are said openly."""
    refuse_secrets({"ledger": url, "settings": {"horizon_hours": 24.0, "reviewers": ["ada"]}})


@pytest.mark.parametrize("step", STEPS)
def test_every_component_refuses_it_before_it_is_shown(step: str, home: Path, runs: Path, capfd: Capture) -> None:
    """When a pipeline is compiled, and when the step is run alone: nothing is printed, nothing is made."""

    def use() -> object:
        return getattr(gangplan_kfp, step)(**{**STEPS[step], "run_id": dsl.PIPELINE_JOB_ID_PLACEHOLDER}, mlflow=URLS[0])

    with pytest.raises(InputError, match=r"mlflow: .* has a secret"):
        use()
    with pytest.raises(InputError, match=r"mlflow: .* has a secret"):
        dsl.pipeline(name="shown")(lambda: use() and None)
    assert not home.exists()
    nowhere(runs, capfd)


def test_a_pipelines_parameter_is_refused_by_the_step(home: Path, runs: Path, capfd: Capture) -> None:
    """What is known only when the pipeline runs ends the step as one line, before anything is made."""

    @dsl.pipeline(name="later")
    def later(mlflow: str):
        gangplan_kfp.plan_capacity(run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER, mlflow=mlflow)

    with pytest.raises(RuntimeError):
        later(mlflow=URLS[0])
    errors = [line.strip() for line in capfd.readouterr().out.splitlines() if line.strip().startswith("error: ")]
    assert len(errors) == 1
    assert errors[0].startswith(f"error: mlflow: 'http://{DOWN}' has a secret")
    assert SECRET not in errors[0]
    assert not home.exists()


@pytest.mark.parametrize("step", ["train_demand_model", "approve_plan"])
def test_a_server_that_is_down_is_named_without_its_password(
    step: str, home: Path, runs: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The steps get the URLs by their environment, as from a Secret; what fails says where, and no password."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("GANGPLAN_MLFLOW", URLS[0])
    with pytest.raises(RuntimeError):
        getattr(gangplan_kfp, step)(**RUN, **STEPS[step])
    nowhere(runs, capfd)


def test_secrets_of_the_environment_stay_there(
    world: World, runs: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps that work leave none in their outputs."""
    monkeypatch.setenv("GANGPLAN_TELEMETRY", URLS[4])
    monkeypatch.setenv("GANGPLAN_AIRFLOW_API", URLS[0])
    gangplan_kfp.ingest_telemetry(**RUN, source=str(world.home / "demand.csv"), **world.given)
    gangplan_kfp.evaluate_challenger(**RUN, **world.given)
    nowhere(runs, capfd)
