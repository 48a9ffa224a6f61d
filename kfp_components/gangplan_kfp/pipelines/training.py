"""Hold a gang while the demand model is trained, then plan: the pipeline that is compiled and shipped as an example."""

# pyright: reportCallIssue=false
# ruff: noqa: B006

from typing import List

from kfp import dsl

from gangplan_kfp.components import plan_capacity, train_demand_model
from gangplan_kfp.pipelines.reserved import reserved_gang
from gangplan_kfp.pipelines.secrets import with_our_secret


@dsl.pipeline(name="reserved-training", display_name="gangplan: reserved training")
def reserved_training(
    tenant: str = "vision",
    accelerators: List[str] = ["h100-lab"],
    pods: int = 2,
    gpus_per_pod: int = 4,
    duration: str = "1h",
    timeout_seconds: int = 3600,
    mlflow: str = "",
    ledger: str = "",
    fleet: str = "",
    home: str = "",
    settings: dict = {},
):
    """Reserve a gang, train the demand model, plan the capacity; give the gang back whatever happened."""
    run_id = dsl.PIPELINE_JOB_ID_PLACEHOLDER
    with reserved_gang(
        tenant=tenant,
        accelerators=accelerators,
        pods=pods,
        gpus_per_pod=gpus_per_pod,
        duration=duration,
        timeout_seconds=timeout_seconds,
        ledger=ledger,
        home=home,
    ) as gang:
        trained = train_demand_model(run_id=run_id, mlflow=mlflow, home=home, settings=settings).after(gang)
        planned = plan_capacity(
            run_id=run_id, mlflow=mlflow, ledger=ledger, fleet=fleet, home=home, settings=settings
        ).after(trained)
        for step in (trained, planned):
            step.set_caching_options(False)
    with_our_secret()
