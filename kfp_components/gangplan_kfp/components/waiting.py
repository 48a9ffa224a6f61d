"""The component `wait_for_gang`. No postponed annotations here: KFP's compiler reads them as they are written."""

# pyright: reportInvalidTypeForm=false

from typing import List, NamedTuple

from kfp import dsl

from gangplan_kfp.components.keyed import keyed
from gangplan_kfp.support import IMAGE


@keyed
@dsl.component(base_image=IMAGE, install_kfp_package=False)
def wait_for_gang(
    run_id: str,
    reservation: dsl.Output[dsl.Markdown],
    timeout_seconds: int = 3600,
    name: str = "gang",
    part: str = "",
    handover: str = "",
    node_label: str = "",
    ledger: str = "",
    home: str = "",
) -> NamedTuple(
    "Gang",
    [
        ("reservation_id", str),
        ("token", int),
        ("pool", str),
        ("nodes", List[str]),
        ("expires_at", str),
        ("gang", str),
        ("node_affinity", dict),
        ("node_selector", dict),
        ("tolerations", list),
        ("accelerator", str),
        ("accelerators_per_pod", str),
    ],
):
    """Wait for the gang that reserve_gang has asked for with `wait=False`, and return where it is.

    Where that has ended meanwhile, it is asked for again: in a retried run, reserve_gang does not run a second time.

    Args:
        run_id: Pass dsl.PIPELINE_JOB_ID_PLACEHOLDER, as to reserve_gang.
        reservation: What was reserved, where, until when, and what it waited for.
        timeout_seconds: How long to wait for the slots before the step fails; also bounded by reserve_gang's own.
        name: The name that reserve_gang was given.
        part: The part that reserve_gang was given.
        handover: For how long the slots are kept between two steps that hold them, like 50s; empty: the duration.
        node_label: The label of the cluster's nodes that has the ledger's names of them; empty: on Kueue the hostname,
            else no nodes are asked for.
        ledger: URL of the ledger; empty: GANGPLAN_LEDGER of the image's environment.
        home: gangplan's folder; empty: GANGPLAN_HOME of the image's environment.
    """
    from gangplan_kfp import support

    with support.one_line_errors():
        taken = support.wait_on(
            run_id=run_id,
            name=name,
            part=part,
            timeout_seconds=timeout_seconds,
            handover=handover,
            node_label=node_label,
            ledger=ledger,
            home=home,
        )
        support.write(reservation, support.of_taken(taken))
        return taken.outputs()
