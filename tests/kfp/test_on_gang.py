"""`on_gang`: one component with a gang of its own, wherever it is used."""

from pathlib import Path

import pytest
from kfp import components, dsl, kubernetes
from kfp.compiler import Compiler
from tests.kfp.specs import WISH, Spec, add, measure, shell, train

from gangplan_kfp import on_gang

held = on_gang(name="train", **WISH)(train)


@on_gang(name="above", **WISH)
@dsl.component(base_image="python", install_kfp_package=False)
def above(shard: int) -> int:
    """Train, with a gang."""
    return shard


def test_three_tasks_in_place_of_one() -> None:
    """One reserves, one works and holds, one releases after it, however it ended."""

    def pipeline() -> None:
        held(shard=3)

    spec = Spec(pipeline)
    assert spec.beside("train") == {"reserve-gang", "train", "release-gang"}
    assert "gangplan_kfp.held" in spec["train"].container["command"]
    assert spec["train"].task["dependentTasks"] == ["reserve-gang"]
    release = spec["release-gang"].task
    assert release["dependentTasks"] == ["train"]
    assert release["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    for name in ("run_id", "name", "part"):
        assert spec["release-gang"].inputs[name] == spec["reserve-gang"].inputs[name]


def test_its_outputs_can_be_used_in_loops_and_conditions() -> None:
    """It stands where the component stood: others use its outputs, and a loop's are collected."""

    def pipeline() -> None:
        with dsl.ParallelFor([1, 2]) as item:
            first = held(shard=item, part=item)
            with dsl.If(first.output == 1):
                above(shard=first.output, part=item)
        add(shards=dsl.Collected(first.output))

    spec = Spec(pipeline)
    assert spec.beside("above") == {"reserve-gang-2", "above", "release-gang-2"}
    item = {"componentInputParameter": "pipelinechannel--loop-item-param-1"}
    for name in ("reserve-gang", "release-gang", "reserve-gang-2", "release-gang-2"):
        assert spec[name].inputs["part"] == item


def test_slots_are_not_held_while_others_prepare() -> None:
    """The gang waits for what the task waits for, be it by its arguments or by `.after`."""

    def pipeline() -> None:
        held(shard=measure().output).after(measure())

    assert set(Spec(pipeline)["reserve-gang"].task["dependentTasks"]) == {"measure", "measure-2"}


def test_it_is_configured_where_it_is_used() -> None:
    """Settings after the call are the author's, as with any task."""

    def pipeline() -> None:
        task = held().set_retry(7).set_cpu_limit("2")
        kubernetes.add_node_selector(task, "disk", "fast")

    task = Spec(pipeline)["train"]
    assert task.task["retryPolicy"]["maxRetryCount"] == 7
    assert task.platform["nodeSelector"] == {"labels": {"disk": "fast"}}
    assert "nodeAffinityJson" in str(task.platform["nodeAffinity"])


@dsl.pipeline(name="inner")
def inner(shard: int) -> int:
    """A pipeline that another uses as a task."""
    return train(shard=shard).output


@pytest.mark.parametrize("kind", ["loaded", "container", "pipeline"])
def test_around_any_component(kind: str, tmp_path: Path) -> None:
    """A component loaded from YAML, one of a container, and a pipeline: each holds the lease."""

    def pipeline() -> None:
        if kind == "loaded":
            Compiler().compile(train, str(tmp_path / "train.yaml"))
            on_gang(**WISH)(components.load_component_from_file(str(tmp_path / "train.yaml")))(shard=1)
        elif kind == "container":
            on_gang(**WISH)(shell)(text="a")
        else:
            on_gang(**WISH)(inner)(shard=1)

    spec = Spec(pipeline)
    working = spec["shell" if kind == "container" else "train"]
    assert "gangplan_kfp.held" in working.container["command"]
    assert "nodeAffinityJson" in str(working.platform["nodeAffinity"])


def test_each_part_can_be_switched_off() -> None:
    """As with `reserved_gang`."""

    def pipeline() -> None:
        on_gang(hold=False, place=False, **WISH)(train)()

    spec = Spec(pipeline)
    assert spec["train"].container["command"][0] == "sh"
    assert not spec["train"].platform
    assert spec["reserve-gang"].inputs["handover"] == {"runtimeValue": {"constant": ""}}
