"""The demand model: telemetry in, a challenger trained, a person asked, the champion replaced on a yes."""

# pyright: reportCallIssue=false
# ruff: noqa: B006

from typing import Any

from kfp import dsl

from gangplan_kfp.components import (
    evaluate_challenger,
    ingest_telemetry,
    promote_model,
    review_gate,
    train_demand_model,
)
from gangplan_kfp.pipelines.secrets import with_our_secret


@dsl.pipeline(name="promote-if-approved")
def promote_if_approved(
    approved: bool, version: str, by: str, why: str, mlflow: str = "", home: str = "", settings: dict = {}
):
    """Promote a version on a yes. A pipeline of its own: KFP's local runner knows no output by name in a condition."""
    with dsl.If(approved == True, name="approved"):  # noqa: E712 - KFP makes a condition of it
        promote_model(
            run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
            version=version,
            by=by,
            why=why,
            mlflow=mlflow,
            home=home,
            settings=settings,
        ).set_caching_options(False)
    with_our_secret()


@dsl.pipeline(name="retrain-and-review", display_name="gangplan: retrain and review")
def retrain_and_review(
    source: str = "",
    until: str = "",
    replay: bool = False,
    because: str = "",
    timeout_seconds: int = 86400,
    on_timeout: str = "keep",
    poll_seconds: int = 30,
    pages: str = "",
    mlflow: str = "",
    home: str = "",
    settings: dict = {},
):
    """Bring telemetry in, train a challenger, show it, wait for a reviewer, promote it if the answer is yes."""
    stores = {"mlflow": mlflow, "home": home, "settings": settings}
    common = {"run_id": dsl.PIPELINE_JOB_ID_PLACEHOLDER, **stores}
    brought = ingest_telemetry(source=source, until=until, replay=replay, **common)
    trained = train_demand_model(because=because, promotion="person", **common).after(brought)
    version = trained.outputs["model_version"]
    shown = evaluate_challenger(version=version, pages=pages, **common)
    reviewed = review_gate(
        version=shown.outputs["version"],
        timeout_seconds=timeout_seconds,
        on_timeout=on_timeout,
        poll_seconds=poll_seconds,
        pages=pages,
        **common,
    )
    with_our_secret()
    decided = {name: reviewed.outputs[name] for name in ("approved", "by", "why")}
    promoted: Any = promote_if_approved(version=shown.outputs["version"], **decided, **stores)
    for step in (brought, trained, shown, reviewed, promoted):
        step.set_caching_options(False)
