"""The reserved training of Airflow and of Kubeflow Pipelines on Kueue: each runs its step as a Job on this cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gangplan.types import ReservationState
from tests.cluster.conftest import ROOT, Object, Space
from tests.cluster.environments import a_dag, program
from tests.cluster.objects import jobs

KFP = """
import sys
from kfp import dsl, local
from gangplan_kfp import release_gang, reserve_gang

@dsl.component(install_kfp_package=False)
def train(reservation_id: str, token: int, job: str):  # as text: KFP hands every number on as a float
    import json
    import os
    from gangplan.clock import system_clock
    from gangplan.client import hold
    from gangplan.reserve import open_ledger, run_beside
    with open_ledger(os.environ["GANGPLAN_LEDGER"], clock=system_clock) as ledger:
        with hold(ledger, reservation_id, token) as held:
            run_beside(ledger, reservation_id, json.loads(job), check=held.check)

@dsl.pipeline
def training(job: str):
    asked = {"tenant": "vision", "accelerators": ["h100"], "pods": 2, "gpus_per_pod": 4, "duration": "10m"}
    gang = reserve_gang(run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER, **asked)
    done = train(reservation_id=gang.outputs["reservation_id"], token=gang.outputs["token"], job=job)
    release_gang(run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER).after(done)

local.init(local.SubprocessRunner(use_venv=False), pipeline_root=sys.argv[1])
training(job=sys.argv[2])
"""


def ran(space: Space) -> Object:
    """Return the one Job, after it has completed on the reserved flavor's nodes and its slots were given back."""
    (job,) = space.api.items(jobs(space.name))
    assert job["status"]["succeeded"] == 2
    assert job["spec"]["template"]["spec"]["nodeSelector"]["gangplan.io/pool"] == "h100-owned"
    assert 0 < job["spec"]["activeDeadlineSeconds"] <= 600
    (held,) = space.ledger().history()
    assert held.state is ReservationState.RELEASED
    assert held.request.gpus == 8
    return job


def test_the_example_dag_runs_its_step_as_a_job(space: Space, queue: str, tmp_path: Path) -> None:
    """`dag.test()` of real Airflow: reserve, the Job, release."""
    with a_dag(
        ROOT / "dags" / "examples" / "example_reserved_job.py", "example_reserved_job", space=space, home=tmp_path
    ) as example:
        example.end()
    assert ran(space)["metadata"]["name"].startswith("train-")


def test_a_pipeline_runs_its_step_as_a_job(space: Space, queue: str, tmp_path: Path) -> None:
    """KFP's own local runner: reserve_gang, a component that runs the Job, release_gang."""
    container: dict[str, Any] = {"name": "train", "image": "busybox", "resources": {"limits": {"nvidia.com/gpu": "4"}}}
    pods = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    spec = {"parallelism": 2, "completions": 2, "backoffLimit": 0, "template": pods}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "train-kfp"}, "spec": spec}
    script = tmp_path / "training.py"
    script.write_text(KFP)
    runner = f"import runpy, sys\nsys.argv[0] = {str(script)!r}\nrunpy.run_path(sys.argv[0], run_name='__main__')"
    with program("kfp", runner, str(tmp_path / "runs"), json.dumps(job), space=space, home=tmp_path) as pipeline:
        pipeline.end()
    assert ran(space)["metadata"]["name"] == "train-kfp"
