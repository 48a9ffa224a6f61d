"""The component `release_gang`. No postponed annotations here: KFP's compiler reads them as they are written."""

from kfp import dsl

from gangplan_kfp.components.keyed import keyed
from gangplan_kfp.support import IMAGE


@keyed
@dsl.component(base_image=IMAGE, install_kfp_package=False)
def release_gang(run_id: str, name: str = "gang", part: str = "", ledger: str = "", home: str = "") -> str:
    """Give back whatever this run holds or waits for under `name`; nothing to give back is no error.

    It takes no output of another step, so that it can be the exit task of a dsl.ExitHandler.

    Args:
        run_id: Pass dsl.PIPELINE_JOB_ID_PLACEHOLDER, as to reserve_gang.
        name: The name that reserve_gang was given.
        part: The part that reserve_gang was given.
        ledger: URL of the ledger; empty: GANGPLAN_LEDGER of the image's environment.
        home: gangplan's folder; empty: GANGPLAN_HOME of the image's environment.

    Returns:
        The state that the reservation ended in, or "none".
    """
    from gangplan_kfp import support

    with support.one_line_errors():
        return support.give_back(run_id=run_id, name=name, part=part, ledger=ledger, home=home)
