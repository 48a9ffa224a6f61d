"""The component `train_demand_model`. No postponed annotations here: KFP's compiler reads them as they are written."""

# pyright: reportInvalidTypeForm=false
# ruff: noqa: B006

from typing import NamedTuple

from kfp import dsl

from gangplan_kfp.components.keyed import keyed
from gangplan_kfp.support import IMAGE


@keyed
@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train_demand_model(
    run_id: str,
    model: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    training: dsl.Output[dsl.Markdown],
    name: str = "model",
    because: str = "",
    promotion: str = "",
    mlflow: str = "",
    home: str = "",
    settings: dict = {},
) -> NamedTuple("Trained", [("model_version", str), ("mlflow_run_id", str), ("promoted", bool)]):
    """Train the demand model on the telemetry in MLflow, back-test and register it; promote it if the gate passes.

    A step that runs again after its training was done finds that version, and one that was killed goes on.

    Args:
        run_id: Pass dsl.PIPELINE_JOB_ID_PLACEHOLDER; a new run trains anew.
        model: The version in MLflow's registry, by its name there, with its figures.
        metrics: Weighted quantile loss beside seasonal naive, and the coverage of the 80 % band.
        training: The verdict in words.
        name: Tells the trainings of one run apart.
        because: What caused the training, kept with the version; empty: this run.
        promotion: gate, or person: then nobody but a person makes it champion; empty: as the settings say.
        mlflow: MLflow tracking URI; empty: GANGPLAN_MLFLOW of the step's environment.
        home: gangplan's folder; empty: GANGPLAN_HOME of the step's environment.
        settings: Any other gangplan settings, like {"backtest_origins": 7}.
    """
    from gangplan_kfp import support

    with support.one_line_errors():
        trained = support.train(
            settings, run_id=run_id, name=name, because=because, promotion=promotion, mlflow=mlflow, home=home
        )
        figures = support.training_figures(trained)
        support.point_at_model(model, trained.version, figures, mlflow_run_id=trained.run_id)
        support.log_metrics(metrics, figures)
        support.write(training, support.of_training(trained))
        return trained.version, trained.run_id, trained.promoted
