"""The pods that tests run for Kubeflow Pipelines are told what KFP itself would tell them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kfp.local import placeholder_utils
from tests.kfp.pod_specs import Compiled, pod

COMPILED = Path(__file__).resolve().parents[2] / "kfp_components" / "compiled"
COMPONENTS = ("reserve_gang", "release_gang", "run_on_gang")


@pytest.mark.parametrize("name", COMPONENTS)
def test_the_command_is_the_one_that_kfp_makes(name: str) -> None:
    """Placeholders stand for the same, by KFP's own code."""
    compiled, task = Compiled.read(COMPILED / f"{name}.yaml"), name.replace("_", "-")
    main = pod(compiled, task, {"run_id": "{{$.pipeline_job_uuid}}"}, run="run-7")["spec"]["containers"][0]
    (executor,) = compiled.spec["deploymentSpec"]["executors"].values()
    place = main["args"].index("--executor_input") + 1
    given = json.loads(main["args"][place])
    assert given["inputs"]["parameterValues"]["run_id"] == "run-7"
    theirs = placeholder_utils.replace_placeholders(
        [*executor["container"]["command"], *executor["container"]["args"]],
        given,
        pipeline_resource_name="run-7",
        task_resource_name=task,
        pipeline_root="",
        unique_pipeline_id="run-7",
    )
    ours = [*main["command"], *main["args"]]
    assert [json.loads(one) if one.startswith("{") else one for one in ours] == [
        json.loads(one) if one.startswith("{") else one for one in theirs
    ]
