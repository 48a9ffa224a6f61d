"""URLs with passwords for the steps: from a Kubernetes Secret into their environment, and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Iterable

from kfp import kubernetes
from kfp.dsl.pipeline_context import Pipeline
from kfp.dsl.pipeline_task import PipelineTask

from gangplan.errors import InputError

SECRET = "gangplan"  # noqa: S105 - the name of a Secret
IN_SECRET = ("GANGPLAN_LEDGER", "GANGPLAN_MLFLOW")
"""The keys of the Secret, which are the variables as well."""

OURS: str = os.environ.get("GANGPLAN_KFP_SECRET", "")
"""The Secret of the pipelines that ship with gangplan: `gangplan`, or with its keys `gangplan:GANGPLAN_MLFLOW,...`.

Read when a pipeline is compiled. None by default: a Secret that may be missing is unknown to KFP 2.14.
"""


def with_secret(task: PipelineTask, secret: str = SECRET, keys: Iterable[str] = IN_SECRET) -> PipelineTask:
    """Give a task's environment the keys of a Kubernetes Secret of its namespace, and return the task.

    Without that Secret, or without one of its keys, the step's pod does not start.
    """
    kubernetes.use_secret_as_env(task, secret, {key: key for key in keys})
    # Later versions write `optional: false`, which is the default: KFP 2.14 does not know that field.
    task.platform_config["kubernetes"]["secretAsEnv"][-1].pop("optional", None)
    return task


def all_with_secret(secret: str = SECRET, keys: Iterable[str] = IN_SECRET) -> None:
    """Give it to every task that the pipeline has so far: the last line of a pipeline's function."""
    pipeline, kept = Pipeline.get_default_pipeline(), tuple(keys)
    if pipeline is None:
        raise InputError("all_with_secret", secret, "is for a pipeline: call it as the last line of its function")
    for task in pipeline.tasks.values():
        with_secret(task, secret, kept)


def with_our_secret() -> None:
    """Give every task that the pipeline has so far the Secret that was chosen when it is compiled, if one was."""
    secret, _, keys = OURS.partition(":")
    if secret:
        all_with_secret(secret, keys.split(",") if keys else IN_SECRET)
