"""The component `plan_capacity`. No postponed annotations here: KFP's compiler reads them as they are written."""

# pyright: reportInvalidTypeForm=false
# ruff: noqa: B006

from typing import NamedTuple

from kfp import dsl

from gangplan_kfp.components.keyed import keyed
from gangplan_kfp.support import IMAGE


@keyed
@dsl.component(base_image=IMAGE, install_kfp_package=False)
def plan_capacity(
    run_id: str,
    metrics: dsl.Output[dsl.Metrics],
    explanation: dsl.Output[dsl.Markdown],
    page: dsl.Output[dsl.HTML],
    name: str = "plan",
    mlflow: str = "",
    ledger: str = "",
    fleet: str = "",
    home: str = "",
    settings: dict = {},
) -> NamedTuple("Planned", [("plan_id", str), ("total_cost", float), ("expected_short_gpu_hours", float)]):
    """Plan the cheapest fleet for the champion's forecast, keep it in MLflow, publish it as the ledger's calendar.

    A plan that needs a person's approval is kept and not published. A step that runs again finds the plan that it made.

    Args:
        run_id: Pass dsl.PIPELINE_JOB_ID_PLACEHOLDER; a new run plans anew.
        metrics: Cost, proven gap and shortage.
        explanation: What the plan costs by pool, who is short, when and why.
        page: The plan drawn over the demand, with its tables; it needs no other file.
        name: Tells the plans of one run apart.
        mlflow: MLflow tracking URI; empty: GANGPLAN_MLFLOW of the step's environment.
        ledger: URL of the ledger; empty: GANGPLAN_LEDGER of the step's environment.
        fleet: Fleet file; empty: GANGPLAN_FLEET of the step's environment.
        home: gangplan's folder; empty: GANGPLAN_HOME of the step's environment.
        settings: Any other gangplan settings, like {"horizon_hours": 168}.
    """
    from gangplan_kfp import support

    with support.one_line_errors():
        given = {"mlflow": mlflow, "ledger": ledger, "fleet": fleet, "home": home}
        planned = support.make_plan(settings, run_id=run_id, name=name, page=page.path, **given)
        figures = support.plan_figures(planned)
        support.log_metrics(metrics, figures)
        support.write(explanation, support.of_plan(planned))
        return planned.plan_id, figures["total_cost"], figures["expected_short_gpu_hours"]
