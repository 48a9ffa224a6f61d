"""The component `run_on_gang`. No postponed annotations here: KFP's compiler reads them as they are written."""

# pyright: reportInvalidTypeForm=false
# ruff: noqa: B006

from typing import NamedTuple

from kfp import dsl

from gangplan_kfp.support import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def run_on_gang(
    run_id: str,
    summary: dsl.Output[dsl.Markdown],
    job: dict = {},
    job_yaml: str = "",
    node_label: str = "",
    ledger: str = "",
    home: str = "",
) -> NamedTuple("Ran", [("name", str), ("seconds", float)]):
    """Run a Job, JobSet or TrainJob on the slots of the gang around this step; follow it to its end, show its log.

    The step itself uses no slots. It ends as the Job ends. Where the slots must be left the Job is deleted, and the
    step exits with code 75, to be tried again; so it is when the run is terminated.

    Args:
        run_id: Pass dsl.PIPELINE_JOB_ID_PLACEHOLDER; a new run runs the Job anew.
        summary: Which pods ran where, and how long.
        job: The manifest of the Job, JobSet or TrainJob.
        job_yaml: The same as YAML, in place of `job`.
        node_label: The label of the cluster's nodes that has the ledger's names of them; empty: on Kueue the hostname,
            else no nodes are asked for.
        ledger: URL of the ledger; empty: GANGPLAN_LEDGER of the image's environment.
        home: gangplan's folder; empty: GANGPLAN_HOME of the image's environment.
    """
    from gangplan_kfp import support

    with support.one_line_errors():
        ran = support.run_job(job, job_yaml, node_label=node_label, ledger=ledger, home=home)
        support.write(summary, ran.page())
        return ran.name, ran.seconds
