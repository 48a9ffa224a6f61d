"""The fleet: planned for the forecast, approved where a person has to, carried out."""

# pyright: reportCallIssue=false
# ruff: noqa: B006

from typing import Any

from kfp import dsl

from gangplan_kfp.components import apply_plan, approve_plan, plan_capacity
from gangplan_kfp.pipelines.secrets import with_our_secret


@dsl.pipeline(name="apply-if-approved")
def apply_if_approved(
    approved: bool,
    dry_run: bool = False,
    mlflow: str = "",
    ledger: str = "",
    fleet: str = "",
    targets: str = "",
    home: str = "",
    settings: dict = {},
):
    """Apply the plan on a yes. A pipeline of its own: KFP's local runner knows no output by name in a condition."""
    with dsl.If(approved == True, name="approved"):  # noqa: E712 - KFP makes a condition of it
        apply_plan(
            run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
            dry_run=dry_run,
            mlflow=mlflow,
            ledger=ledger,
            fleet=fleet,
            targets=targets,
            home=home,
            settings=settings,
        ).set_caching_options(False)
    with_our_secret()


@dsl.pipeline(name="plan-and-apply", display_name="gangplan: plan and apply")
def plan_and_apply(
    timeout_seconds: int = 86400,
    on_timeout: str = "keep",
    poll_seconds: int = 30,
    dry_run: bool = False,
    pages: str = "",
    mlflow: str = "",
    ledger: str = "",
    fleet: str = "",
    targets: str = "",
    home: str = "",
    settings: dict = {},
):
    """Plan the capacity, wait for an approval where the settings ask for one, carry the plan out."""
    stores = {"mlflow": mlflow, "ledger": ledger, "home": home, "settings": settings}
    common = {"run_id": dsl.PIPELINE_JOB_ID_PLACEHOLDER, **stores}
    planned = plan_capacity(fleet=fleet, **common)
    approved = approve_plan(
        plan_id=planned.outputs["plan_id"],
        timeout_seconds=timeout_seconds,
        on_timeout=on_timeout,
        poll_seconds=poll_seconds,
        pages=pages,
        **common,
    )
    with_our_secret()
    applied: Any = apply_if_approved(
        approved=approved.outputs["approved"], dry_run=dry_run, fleet=fleet, targets=targets, **stores
    )
    for step in (planned, approved, applied):
        step.set_caching_options(False)
