"""The component `promote_model`. No postponed annotations here: KFP's compiler reads them as they are written."""

# pyright: reportInvalidTypeForm=false
# ruff: noqa: B006

from typing import NamedTuple

from kfp import dsl

from gangplan_kfp.components.keyed import keyed
from gangplan_kfp.support import IMAGE


@keyed
@dsl.component(base_image=IMAGE, install_kfp_package=False)
def promote_model(
    run_id: str,
    version: str,
    by: str,
    why: str,
    model: dsl.Output[dsl.Model],
    mlflow: str = "",
    home: str = "",
    settings: dict = {},
) -> NamedTuple("Promoted", [("promoted", bool), ("champion", str)]):
    """Make a version the champion, once: a step that runs again changes nothing, also after a rollback.

    It fails where the gate or a reviewer refused the version.

    Args:
        run_id: Pass dsl.PIPELINE_JOB_ID_PLACEHOLDER.
        version: The version.
        by: Who said so, kept with the version.
        why: The reason, kept with the version.
        model: The champion afterwards, by its name in MLflow's registry.
        mlflow: MLflow tracking URI; empty: GANGPLAN_MLFLOW of the step's environment.
        home: gangplan's folder; empty: GANGPLAN_HOME of the step's environment.
        settings: Any other gangplan settings.
    """
    from gangplan_kfp import support

    with support.one_line_errors():
        promoted, champion = support.promote(settings, version=version, by=by, why=why, mlflow=mlflow, home=home)
        support.point_at_model(model, champion, {})
        return promoted, champion
