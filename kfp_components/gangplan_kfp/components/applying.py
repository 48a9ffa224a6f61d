"""The component `apply_plan`. No postponed annotations here: KFP's compiler reads them as they are written."""

# pyright: reportInvalidTypeForm=false
# ruff: noqa: B006

from typing import NamedTuple

from kfp import dsl

from gangplan_kfp.components.keyed import keyed
from gangplan_kfp.support import IMAGE


@keyed
@dsl.component(base_image=IMAGE, install_kfp_package=False)
def apply_plan(
    run_id: str,
    metrics: dsl.Output[dsl.Metrics],
    steps: dsl.Output[dsl.Markdown],
    dry_run: bool = False,
    mlflow: str = "",
    ledger: str = "",
    fleet: str = "",
    targets: str = "",
    home: str = "",
    settings: dict = {},
) -> NamedTuple("Applied", [("reached", bool), ("done", int), ("waiting", int)]):
    """Carry the newest published plan out: one pass, which takes the steps that can be taken now.

    Run it again (a recurring run) for those that wait. It fails where an engine refused a step or was not reached.

    Args:
        run_id: Pass dsl.PIPELINE_JOB_ID_PLACEHOLDER; a new run looks anew.
        metrics: How many steps were done, wait and were refused, and what nodes cost per hour.
        steps: Each step, why, and for what it waits.
        dry_run: Only show the steps, and let the engines check them.
        mlflow: MLflow tracking URI; empty: GANGPLAN_MLFLOW of the step's environment.
        ledger: URL of the ledger; empty: GANGPLAN_LEDGER of the step's environment.
        fleet: Fleet file; empty: GANGPLAN_FLEET of the step's environment.
        targets: Where pools live (targets.yaml); empty: GANGPLAN_TARGETS of the step's environment.
        home: gangplan's folder; empty: GANGPLAN_HOME of the step's environment.
        settings: Any other gangplan settings, like {"seed": 7}.
    """
    from gangplan_kfp import support

    with support.one_line_errors():
        given = {"mlflow": mlflow, "ledger": ledger, "fleet": fleet, "targets": targets, "home": home}
        applied = support.apply_plan(settings, dry_run=dry_run, **given)
        figures = support.apply_figures(applied)
        support.log_metrics(metrics, figures)
        support.write(steps, support.of_applied(applied))
        applied.require_taken()
        return applied.reached, int(figures["done"]), int(figures["waiting"])
