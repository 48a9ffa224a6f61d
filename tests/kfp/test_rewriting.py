"""What is used of KFP's inside is still there, and still does what it did: else the name that fails says which."""

import pytest
from kfp import dsl
from kfp.dsl import tasks_group
from kfp.dsl.pipeline_context import Pipeline
from kfp.dsl.pipeline_task import PipelineTask
from tests.kfp.specs import Spec, measure, say, train

from gangplan_kfp.pipelines import rewriting


def made() -> PipelineTask:
    """A task, in a pipeline of its own."""
    with Pipeline("tried"):
        return train(shard=1)


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (Pipeline, "get_default_pipeline"),
        (Pipeline, "_execution_caching_default"),
        (Pipeline("tried"), "groups"),
        (Pipeline("tried"), "tasks"),
        (tasks_group, "_ConditionBase"),
        (made(), "_channel_inputs"),
        (made(), "channel_inputs"),
        (made(), "dependent_tasks"),
        (made(), "component_spec"),
        (made(), "container_spec"),
        (made(), "pipeline_spec"),
        (made(), "importer_spec"),
        (made(), "platform_config"),
        (made()._task_spec, "enable_caching"),
        (made()._task_spec, "retry_policy"),
    ],
)
def test_kfp_has(owner: object, name: str) -> None:
    """An attribute that gangplan_kfp.pipelines.rewriting uses."""
    assert hasattr(owner, name), f"this KFP has no {name}: see rewriting.py"


def test_a_check_runs_when_kfp_compiles() -> None:
    """It runs once, after the pipeline's function and before anything of the pipeline is compiled."""
    order = list[str]()

    def pipeline() -> None:
        task = train()
        rewriting.when_compiled(task, lambda: order.append("check"))
        assert task.channel_inputs == []
        order.append("function")
        task.set_env_variable("A", "1")

    Spec(pipeline)
    assert order == ["function", "check"]


def test_tasks_can_be_made_without_caching() -> None:
    """Those made before and after are cached as ever, and an author's own choice is seen."""

    def pipeline() -> None:
        before = train()
        with rewriting.uncached():
            within, chosen = train(), train().set_caching_options(True)
        after = train()
        assert [rewriting.is_cached(task) for task in (before, within, chosen, after)] == [True, False, True, True]

    Spec(pipeline)


def test_a_block_is_one_thing_to_wait_for() -> None:
    """Who listens to its end depends on the group, and gets no value of it."""

    def pipeline() -> None:
        with rewriting.Block("b") as block:
            train(shard=measure().output)
        last = say(text="over")
        rewriting.listen(last, block.end())

    spec = Spec(pipeline)
    assert spec["say"].task["dependentTasks"] == ["condition-1"]
    assert set(spec["say"].inputs) == {"text"}
    assert spec["condition-1"].task.get("triggerPolicy", {}) == {}


def test_items_in_texts_stay_in_their_loop() -> None:
    """KFP takes them for parameters of the pipeline, where a group is between the loop and the task."""

    def pipeline() -> None:
        with dsl.ParallelFor([1, 2]) as item, rewriting.Block("b"):
            rewriting.know_items(say(text=f"item {item}"))

    spec = Spec(pipeline)
    assert "inputs" not in spec["for-loop-2"].task
    assert "pipelinechannel--loop-item-param-1" in spec["say"].inputs
