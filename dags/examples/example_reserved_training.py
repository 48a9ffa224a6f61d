"""Two trainings want the same eight GPUs: the second waits in the triggerer, with an ETA and a reason, and gets them.

Each training stands in a gang, as a user would write it: reserved (a setup) before it, held while it runs, released (a
teardown, so that it runs when the work failed).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import dag, task

from gangplan_airflow import gang, hold

GANG: dict[str, Any] = {
    "tenant": "vision",
    "accelerators": ["h100-lab"],
    "pods": 2,
    "gpus_per_pod": 4,
    "duration": "2m",
    "wait_timeout": "10m",
}


@task
def train(slots: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Fit a small LightGBM model within a time budget, and stop at once if the slots were lost."""
    import time

    import lightgbm as lgb
    import numpy as np

    random = np.random.default_rng(7)
    features = random.normal(size=(20_000, 12))
    target = np.sin(features[:, 0]) * features[:, 1] + random.normal(scale=0.1, size=20_000)
    ends = time.monotonic() + seconds

    with hold(slots) as held:

        def budget(step: lgb.callback.CallbackEnv) -> None:
            held.check()
            if time.monotonic() >= ends:
                raise lgb.callback.EarlyStopException(step.iteration, step.evaluation_result_list)

        options = {"objective": "l2", "num_threads": 1, "learning_rate": 0.02, "verbosity": -1}
        parts = lgb.Dataset(features[:16_000], target[:16_000]), lgb.Dataset(features[16_000:], target[16_000:])
        model = lgb.train(options, parts[0], num_boost_round=100_000, valid_sets=[parts[1]], callbacks=[budget])
    return {"rounds": model.current_iteration(), "nodes": slots["nodes"], "waited_s": slots["waited_s"]}


@dag(schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False, tags=["gangplan"], doc_md=__doc__)
def example_reserved_training() -> None:
    """Let the second training ask while the first one holds the slots."""
    with gang("first", **GANG) as first:
        train(first, seconds=9)
    with gang("second", **GANG) as second:
        train(second, seconds=2)
    first >> second  # the second reservation is asked for once the first is there


the_dag = example_reserved_training()
