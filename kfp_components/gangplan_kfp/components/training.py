"""The component `train_demand_model`. No postponed annotations here: KFP's compiler reads them as they are written."""

# pyright: reportInvalidTypeForm=false
# ruff: noqa: B006

from typing import NamedTuple

from kfp import dsl

from gangplan_kfp.support import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train_demand_model(
    run_id: str,
    metrics: dsl.Output[dsl.Metrics],
    training: dsl.Output[dsl.Markdown],
    mlflow: str = "",
    home: str = "",
    settings: dict = {},
) -> NamedTuple("Trained", [("model_version", str), ("mlflow_run_id", str), ("promoted", bool)]):
    """Train the demand model on the telemetry in MLflow, back-test and register it; promote it if the gate passes.

    Args:
        run_id: Pass dsl.PIPELINE_JOB_ID_PLACEHOLDER; a new run trains anew.
        metrics: Weighted quantile loss beside seasonal naive, and the coverage of the 80 % band.
        training: The verdict in words.
        mlflow: MLflow tracking URI; empty: GANGPLAN_MLFLOW of the image's environment.
        home: gangplan's folder; empty: GANGPLAN_HOME of the image's environment.
        settings: Any other gangplan settings, like {"backtest_origins": 7}.
    """
    from gangplan_kfp import support

    with support.one_line_errors():
        trained = support.train(settings, mlflow=mlflow, home=home)
        support.log_metrics(metrics, support.training_figures(trained))
        support.write(training, support.of_training(trained))
        return trained.version, trained.run_id, trained.promoted
