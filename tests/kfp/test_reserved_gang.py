"""What `reserved_gang` makes of the tasks inside: compiled, at each depth that KFP has."""

from collections.abc import Callable

import pytest
from kfp import dsl, kubernetes
from tests.kfp.specs import WISH, Spec, Task, add, measure, say, shell, train

from gangplan_kfp import reserved_gang

HELD = ["python3", "-m", "gangplan_kfp.held", "--gang", "{{$.inputs.parameters['gangplan_gang']}}", "--"]

COMPLETED = {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}


def is_held(task: Task) -> bool:
    """Whether a task's container holds the lease, on the slots, is not cached, and is tried again."""
    assert task.component["inputDefinitions"]["parameters"]["gangplan_gang"] == {"parameterType": "STRING"}
    assert task.platform["fieldPathAsEnv"] == [{"name": "GANGPLAN_POD_NODE", "fieldPath": "spec.nodeName"}]
    assert task.task["retryPolicy"] == {
        "maxRetryCount": 2,
        "backoffDuration": "10s",
        "backoffFactor": 2.0,
        "backoffMaxDuration": "300s",
    }
    assert "enableCache" not in task.task.get("cachingOptions", {})
    return list(task.container["command"][:6]) == HELD


def from_gang(value: dict) -> str:
    """Return which output of the reserve step a setting takes, be it in the same graph or in one around."""
    if "taskOutputParameter" in value:
        assert value["taskOutputParameter"]["producerTask"] == "reserve-gang"
        return value["taskOutputParameter"]["outputParameterKey"]
    name = value["componentInputParameter"]
    return name.removeprefix("pipelinechannel--reserve-gang-").removeprefix("gangplan_")


def is_placed(task: Task) -> bool:
    """Whether a task's pod goes to the slots, by outputs of the reserve step that reach its graph."""
    settings = task.platform
    assert [from_gang(term["nodeAffinityJson"]) for term in settings["nodeAffinity"]] == ["node_affinity"]
    assert from_gang(settings["nodeSelector"]["nodeSelectorJson"]) == "node_selector"
    assert [from_gang(one["tolerationJson"]) for one in settings["tolerations"]] == ["tolerations"]
    assert settings["podMetadata"]["annotations"] == {"kueue.x-k8s.io/podset-unconstrained-topology": "true"}
    asked = task.container["resources"]["accelerator"]
    return "accelerator']" in asked["resourceType"] and "accelerators_per_pod']" in asked["resourceCount"]


def direct() -> None:
    """A task directly in the block."""
    with reserved_gang(**WISH):
        train()


def container() -> None:
    """A container component."""
    with reserved_gang(**WISH):
        shell(text="hello").set_display_name("train")


def in_loop() -> None:
    """A task in a loop of the block, whose outputs are collected in it."""
    with reserved_gang(**WISH):
        with dsl.ParallelFor([1, 2]) as shard:
            trained = train(shard=shard)
        add(shards=dsl.Collected(trained.output))


def in_condition() -> None:
    """Tasks in all branches of a condition of the block."""
    with reserved_gang(**WISH):
        first = train()
        with dsl.If(first.output == 1):
            train()
        with dsl.Elif(first.output == 2):
            train()
        with dsl.Else(), dsl.ParallelFor([1, 2]) as shard:
            train(shard=shard)


@dsl.pipeline(name="inner")
def inner(shard: int = 1) -> int:
    """A pipeline that another uses as a task."""
    first = train(shard=shard)
    with dsl.If(first.output == 1):
        train()
    return first.output


def in_pipeline() -> None:
    """Tasks in a pipeline that is used as a task, in a loop of the block."""
    with reserved_gang(**WISH), dsl.ParallelFor([1, 2]) as shard:
        inner(shard=shard)


def block_in_loop() -> None:
    """A block in a loop, with a condition, fields of the item, and the item in a text."""
    with (
        dsl.ParallelFor([{"shard": 1, "site": "a"}, {"shard": 2, "site": "b"}]) as item,
        reserved_gang(part=item.site, **WISH),
    ):
        first = train(shard=item.shard)
        say(text=f"at {item.site}")
        with dsl.If(first.output == 1):
            train(shard=item.shard)


def block_in_condition() -> None:
    """A block in a condition."""
    with dsl.If(measure().output == 1), reserved_gang(**WISH):
        train()


ANYWHERE = [direct, container, in_loop, in_condition, in_pipeline, block_in_loop, block_in_condition]


@pytest.mark.parametrize("pipeline", ANYWHERE, ids=lambda made: made.__name__)
def test_each_task_inside_is_held_and_placed(pipeline: Callable[[], None]) -> None:
    """At any depth a task waits for the gang, holds its lease, and its pod goes to the slots."""
    spec = Spec(pipeline)
    found = list(spec.all("train", "shell", "add", "say"))
    assert found
    for name, task in found:
        assert is_held(task), name
        assert is_placed(task), name


@pytest.mark.parametrize("pipeline", ANYWHERE, ids=lambda made: made.__name__)
def test_each_value_reaches_its_graph(pipeline: Callable[[], None]) -> None:
    """What a task takes from outside of its graph is an input of it, and what is handed in is declared there."""
    spec = Spec(pipeline)
    for component, tasks in spec.dags():
        declared = spec.spec["components"].get(component, {}).get("inputDefinitions", {}).get("parameters", {})
        for name in tasks:
            task = spec[name]
            texts = str(task.platform) + str(list(task.inputs.values()))
            for source in [part.split("'")[1] for part in texts.split("'componentInputParameter':")[1:]]:
                assert source in declared, (name, source)
            for producer in [part.split("'")[1] for part in texts.split("'producerTask':")[1:]]:
                assert producer in tasks, (name, producer)
            inputs = spec.spec["components"][task.task["componentRef"]["name"]].get("inputDefinitions", {})
            assert set(inputs.get("parameters", {})) >= {one for one in task.inputs if one.startswith("gangplan_")}


def test_released_by_an_exit_task_at_the_outermost_level() -> None:
    """The release is KFP's exit task, keyed by the run, the name and the part, as the reservation is."""
    spec = Spec(direct)
    release, reserve = spec["release-gang"], spec["reserve-gang"]
    assert release.task["triggerPolicy"] == COMPLETED
    assert release.task["dependentTasks"] == ["exit-handler-1"]
    assert spec.beside("release-gang") == {"exit-handler-1", "release-gang"}
    for name in ("run_id", "name", "part"):
        assert release.inputs[name] == reserve.inputs[name]
    assert release.inputs["run_id"] == {"runtimeValue": {"constant": dsl.PIPELINE_JOB_ID_PLACEHOLDER}}
    assert reserve.inputs["handover"] == {"runtimeValue": {"constant": "50s"}}


def test_released_after_one_group_elsewhere() -> None:
    """In a loop the release waits for one group with all tasks inside, and for nothing that it could end before.

    KFP's backend runs such a task after each thing that it depends on, and not at all after a loop.
    """
    spec = Spec(block_in_loop)
    release, reserve = spec["release-gang"], spec["reserve-gang"]
    assert release.task["triggerPolicy"] == COMPLETED
    assert release.task["dependentTasks"] == ["condition-3"]
    assert spec.beside("release-gang") == {"condition-3", "release-gang"}
    assert spec.beside("reserve-gang") == {"reserve-gang", "train", "say", "condition-4"}
    assert "condition" not in spec["condition-3"].task.get("triggerPolicy", {})
    assert spec["condition-3"].task["taskInfo"] == {"name": "hold-gang"}
    item = "pipelinechannel--loop-item-param-1"
    expected = {"componentInputParameter": item, "parameterExpressionSelector": 'parseJson(string_value)["site"]'}
    assert release.inputs["part"] == reserve.inputs["part"] == expected


def test_a_loop_gets_the_gang_as_an_input_of_a_group() -> None:
    """KFP's local runner puts a loop's item in place of each output of a task that stands beside the loop."""
    spec = Spec(in_loop)
    given = spec["for-loop-3"].inputs
    assert "pipelinechannel--reserve-gang-gang" in given
    assert all("taskOutputParameter" not in value for value in given.values())
    assert spec.beside("reserve-gang") == {"reserve-gang", "condition-4"}


def test_an_item_that_is_a_number_can_be_the_part() -> None:
    """KFP makes a text of it."""

    def pipeline() -> None:
        with dsl.ParallelFor([1, 2]) as shard, reserved_gang(part=shard, **WISH):
            train(shard=shard)

    part = {"componentInputParameter": "pipelinechannel--loop-item-param-1"}
    assert Spec(pipeline)["reserve-gang"].inputs["part"] == part


def test_items_of_loops_around_each_other_make_one_part() -> None:
    """The items reach the reserve and the release step, each from its own loop."""

    def pipeline() -> None:
        with (
            dsl.ParallelFor([1, 2]) as one,
            dsl.ParallelFor([3, 4]) as two,
            reserved_gang(part=f"{one}-{two}", **WISH),
        ):
            train(shard=one)

    spec = Spec(pipeline)
    for name in ("reserve-gang", "release-gang"):
        assert {key for key in spec[name].inputs if "loop-item" in key} == {
            "pipelinechannel--loop-item-param-1",
            "pipelinechannel--loop-item-param-3",
        }
    assert all("inputs" not in task for task in spec.spec["root"]["dag"]["tasks"].values())


def test_items_reach_tasks_that_kfp_alone_would_not_give_them() -> None:
    """In a text, and a field of an item in a condition."""

    def pipeline() -> None:
        with reserved_gang(**WISH), dsl.ParallelFor([{"a": 1, "b": 2}]) as item, dsl.If(item.b == 2):
            train(shard=item.a)
            say(text=f"at {item.a}")

    spec = Spec(pipeline)
    assert "inputs" not in spec["exit-handler-1"].task
    assert spec["train"].inputs["shard"]["componentInputParameter"] == "pipelinechannel--loop-item-param-2"


def test_in_an_exit_handler_of_the_authors() -> None:
    """A pipeline that has an exit task already can have a gang in it."""

    def pipeline() -> None:
        with dsl.ExitHandler(say(text="over")), reserved_gang(**WISH):
            train()

    spec = Spec(pipeline)
    assert spec.beside("release-gang") == {"condition-2", "release-gang"}
    assert is_held(spec["train"])


def test_what_the_author_set_stays() -> None:
    """His accelerators, selector, affinity, retries, environment and secrets are not touched; tolerations join."""

    def pipeline() -> None:
        with reserved_gang(**WISH):
            task = train().set_retry(5).set_accelerator_type("amd.com/gpu").set_accelerator_limit(2)
            task.set_env_variable("A", "1")
            kubernetes.add_node_selector(task, "disk", "fast")
            kubernetes.add_node_affinity(task, match_expressions=[{"key": "rack", "operator": "In", "values": ["1"]}])
            kubernetes.add_toleration(task, key="mine", operator="Exists")
            kubernetes.use_secret_as_env(task, "secret", {"token": "TOKEN"})

    task = Spec(pipeline)["train"]
    assert task.task["retryPolicy"]["maxRetryCount"] == 5
    assert task.container["resources"]["accelerator"]["resourceType"] == "amd.com/gpu"
    assert task.container["resources"]["accelerator"]["resourceCount"] == "2"
    assert task.container["env"] == [{"name": "A", "value": "1"}]
    assert task.platform["nodeSelector"] == {"labels": {"disk": "fast"}}
    assert len(task.platform["nodeAffinity"]) == 1
    assert "nodeAffinityJson" not in task.platform["nodeAffinity"][0]
    assert [one.get("key", "ours") for one in task.platform["tolerations"]] == ["mine", "ours"]
    assert task.platform["secretAsEnv"]


def test_what_the_author_sets_after_the_block_stays() -> None:
    """KFP would drop his labels, and take his nodes or ours."""

    def pipeline() -> None:
        with reserved_gang(**WISH):
            task = train()
        kubernetes.add_node_selector(task, "disk", "fast")
        kubernetes.add_node_affinity(task, match_expressions=[{"key": "rack", "operator": "In", "values": ["1"]}])

    task = Spec(pipeline)["train"]
    assert task.platform["nodeSelector"] == {"labels": {"disk": "fast"}}
    assert "nodeAffinityJson" not in str(task.platform["nodeAffinity"])


def test_nodes_that_the_author_prefers_join_those_that_must_be() -> None:
    """A preference of his takes nothing from the slots' nodes."""

    def pipeline() -> None:
        with reserved_gang(**WISH):
            match = [{"key": "rack", "operator": "In", "values": ["1"]}]
            kubernetes.add_node_affinity(train(), match_expressions=match, weight=1)

    assert len(Spec(pipeline)["train"].platform["nodeAffinity"]) == 2


def test_importers_stay_as_they_are() -> None:
    """An importer runs nothing on the slots; its artifact reaches a held task."""

    def pipeline() -> None:
        with reserved_gang(**WISH):
            train()
            dsl.importer(artifact_uri="s3://a/b", artifact_class=dsl.Dataset)

    spec = Spec(pipeline)
    assert "gangplan_gang" not in str(spec["importer"].component)
    assert "dependentTasks" not in spec["importer"].task


def test_each_part_can_be_switched_off() -> None:
    """For an image without gangplan nothing is held, and the lease lasts for the whole duration."""

    def without(**off: bool) -> Task:
        def pipeline() -> None:
            with reserved_gang(**WISH, **off):
                train()

        spec = Spec(pipeline)
        assert spec["train"].task["dependentTasks"] == ["reserve-gang"]
        handover = spec["reserve-gang"].inputs["handover"]["runtimeValue"]["constant"]
        assert handover == ("" if "hold" in off else "50s")
        return spec["train"]

    free = without(hold=False)
    assert free.container["command"][0] == "sh"
    assert "retryPolicy" not in free.task
    assert is_placed(free)
    assert "nodeAffinity" not in without(place=False).platform
    assert "resources" not in without(place=False).container
    assert "retryPolicy" not in without(retry=False).task


def test_the_lease_without_a_holder_is_the_authors_choice() -> None:
    """Who starts slow images can give the next step more time."""

    def pipeline() -> None:
        with reserved_gang(handover="5m", **WISH):
            train()

    assert Spec(pipeline)["reserve-gang"].inputs["handover"] == {"runtimeValue": {"constant": "5m"}}


def test_tasks_called_alike_keep_their_own_settings() -> None:
    """KFP by itself gives a task the settings of one that a pipeline used as a task calls alike."""

    def pipeline() -> None:
        with reserved_gang(**WISH):
            kubernetes.use_secret_as_env(train(), "mine", {"token": "TOKEN"})
            inner(shard=1)

    spec = Spec(pipeline)
    outer = next(task for name, task in spec.all("train") if "TOKEN" in str(task.platform))
    assert from_gang(outer.platform["nodeSelector"]["nodeSelectorJson"]) == "node_selector"
    assert "gangplan_node_selector" not in str(outer.platform)
    assert sum("TOKEN" in str(task.platform) for _, task in spec.all("train")) == 1


def test_the_ledgers_url_comes_from_a_secret() -> None:
    """It reaches the reserve, the release and each held step, and stands in no parameter."""

    def pipeline() -> None:
        with reserved_gang(ledger_from="gangplan", **WISH):
            kubernetes.use_secret_as_env(train(), "mine", {"token": "TOKEN"})
            inner(shard=1)

    spec = Spec(pipeline)
    tasks = [spec["reserve-gang"], spec["release-gang"], *(task for _, task in spec.all("train"))]
    assert len(tasks) == 5
    for task in tasks:
        found = [one for one in task.platform["secretAsEnv"] if one["secretName"] == "gangplan"]
        assert [one["keyToEnv"] for one in found] == [[{"secretKey": "GANGPLAN_LEDGER", "envVar": "GANGPLAN_LEDGER"}]]
    assert "TOKEN" in str(spec.platform)
