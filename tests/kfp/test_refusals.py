"""What cannot work around a gang is refused when the pipeline is compiled, with the field, the value and the remedy."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from kfp import dsl, kubernetes
from tests.kfp.specs import WISH, Spec, measure, say, shell, train

from gangplan.errors import InputError
from gangplan_kfp import check_gangs, on_gang, release_gang, reserve_gang, reserved_gang


def refused(function: Callable[..., Any]) -> InputError:
    """Return the error with which a pipeline is refused."""
    with pytest.raises(InputError) as error:
        Spec(function)
    return error.value


def one_name() -> None:
    """Two blocks of one name."""
    with reserved_gang(**WISH):
        train()
    with reserved_gang(**WISH):
        train()


def one_name_in_branches() -> None:
    """Two blocks of one name, in conditions."""
    first = measure()
    with dsl.If(first.output == 1), reserved_gang(name="a", **WISH):
        train()
    with dsl.If(first.output == 2), reserved_gang(name="a", **WISH):
        train()


def one_part() -> None:
    """Two blocks of one name and one part."""
    for _ in range(2):
        with reserved_gang(part="a", **WISH):
            train()


def parts_of_two_loops() -> None:
    """Two loops, whose items may be the same."""
    for _ in range(2):
        with dsl.ParallelFor([1, 2]) as item, reserved_gang(part=item, **WISH):
            train()


def bare_beside() -> None:
    """A block, and a reserve step of the author's with the same name."""
    with reserved_gang(**WISH):
        train()
    reserve_gang(run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER, **WISH)


held_train = on_gang(name="held", **WISH)(train)


def decorated_twice() -> None:
    """One decorated component, used twice."""
    held_train(shard=1)
    held_train(shard=2)


@dsl.pipeline(name="with-gang")
def with_gang() -> None:
    """A pipeline with a gang."""
    with reserved_gang(**WISH):
        train()


@dsl.pipeline(name="with-part")
def with_part(part: str) -> None:
    """A pipeline with a gang whose part its user gives."""
    with reserved_gang(part=part, **WISH):
        train()


def nested_beside() -> None:
    """A block, and a pipeline with a gang of the same name."""
    with reserved_gang(**WISH):
        train()
    with_gang()


def nested_twice_beside() -> None:
    """A pipeline with a gang, used twice, beside a block."""
    with reserved_gang(name="mine", **WISH):
        train()
    with_gang()
    with_gang()


ONE_NAME = [
    one_name,
    one_name_in_branches,
    one_part,
    parts_of_two_loops,
    bare_beside,
    decorated_twice,
    nested_beside,
    nested_twice_beside,
]


@pytest.mark.parametrize("pipeline", ONE_NAME, ids=lambda made: made.__name__)
def test_two_gangs_of_one_name(pipeline: Callable[..., Any]) -> None:
    """They would share slots, and the first release would take them from the other."""
    error = refused(pipeline)
    assert error.field == "name"
    assert re.search("names two gangs of this pipeline .*: give each a name of its own", error.remedy)


def test_a_pipeline_with_a_gang_used_twice_in_one_without() -> None:
    """KFP calls none of our code then; a check of the finished pipeline finds it."""

    @dsl.pipeline(name="twice")
    def twice() -> None:
        with_gang()
        with_gang()

    @dsl.pipeline(name="apart")
    def apart() -> None:
        with_part(part="1")
        with_part(part="2")

    with pytest.raises(InputError, match=r"names two gangs of this pipeline .* a parameter for part"):
        check_gangs(twice)
    check_gangs(apart)
    check_gangs(with_gang)


def test_names_and_parts_tell_gangs_apart() -> None:
    """Other names, other parts that are written down, and parts that a pipeline's user gives are no mistake."""

    def pipeline() -> None:
        for name, part in (("a", ""), ("b", "1"), ("b", "2")):
            with reserved_gang(name=name, part=part, **WISH):
                train()
        with_part(part="1")
        with_part(part="2")
        held_train(part="x")
        held_train(part="y")

    assert Spec(pipeline)


def in_a_loop() -> None:
    """No part."""
    with dsl.ParallelFor([1, 2]), reserved_gang(**WISH):
        train()


def fixed_part() -> None:
    """A part that is the same in each iteration."""
    with dsl.ParallelFor([1, 2]), reserved_gang(part="a", **WISH):
        train()


def decorated_in_a_loop() -> None:
    """A decorated component without a part."""
    with dsl.ParallelFor([1, 2]) as item:
        held_train(shard=item)


def part_of_the_outer_loop() -> None:
    """The item of only one of two loops."""
    with dsl.ParallelFor([1, 2]) as outer, dsl.ParallelFor([3, 4]), reserved_gang(part=outer, **WISH):
        train()


def in_a_condition_in_a_loop() -> None:
    """A loop further out."""
    with dsl.ParallelFor([1, 2]) as item, dsl.If(item == 1), reserved_gang(**WISH):
        train()


def whole_item() -> None:
    """An item with fields."""
    with dsl.ParallelFor([{"a": 1}, {"a": 2}]) as item, reserved_gang(part=item, **WISH):
        train()


def field_in_a_text() -> None:
    """A field in a text, which KFP loses."""
    with dsl.ParallelFor([{"a": 1}, {"a": 2}]) as item, reserved_gang(part=f"p-{item.a}", **WISH):
        train()


def same_items() -> None:
    """Items that are written twice."""
    with dsl.ParallelFor(["a", "b", "a"]) as item, reserved_gang(part=item, **WISH):
        train()


def part_of_a_task() -> None:
    """A part that the exit task cannot know."""
    with reserved_gang(part=str(measure().output), **WISH):
        train()


LOOPS = [
    in_a_loop,
    fixed_part,
    decorated_in_a_loop,
    part_of_the_outer_loop,
    in_a_condition_in_a_loop,
    whole_item,
    field_in_a_text,
    same_items,
    part_of_a_task,
]


@pytest.mark.parametrize("pipeline", LOOPS, ids=lambda made: made.__name__)
def test_a_part_that_does_not_tell_iterations_apart(pipeline: Callable[..., Any]) -> None:
    """Each iteration needs slots of its own, and releases its own."""
    assert refused(pipeline).field == "part"


def test_a_part_found_out_in_the_loop_is_one() -> None:
    """What a task of the loop makes of the item tells iterations apart."""

    def pipeline() -> None:
        with dsl.ParallelFor([1, 2]) as item:
            named = train(shard=item)
            with reserved_gang(part=named.output, **WISH):
                train()

    assert Spec(pipeline)


def empty() -> None:
    """Nothing inside."""
    with reserved_gang(**WISH):
        pass


def only_an_importer() -> None:
    """Nothing that runs inside."""
    with reserved_gang(**WISH):
        dsl.importer(artifact_uri="s3://a/b", artifact_class=dsl.Dataset)


def released_inside() -> None:
    """A release of the author's, before the end."""
    with reserved_gang(**WISH):
        release_gang(run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER).after(train())
        train()


def gang_in_gang() -> None:
    """Two blocks, one in the other."""
    with reserved_gang(name="a", **WISH):
        train()
        with reserved_gang(name="b", **WISH):
            train()


def decorated_in_gang() -> None:
    """A component with a gang of its own in a block."""
    with reserved_gang(name="a", **WISH), dsl.ParallelFor([1]) as item:
        held_train(part=item)


def nested_in_gang() -> None:
    """A pipeline with a gang of its own in a block."""
    with reserved_gang(name="a", **WISH):
        with_gang()


def used_after() -> None:
    """A task after the block that waits for the gang."""
    with reserved_gang(**WISH) as gang:
        train()
    train().after(gang)


def pool_used_after() -> None:
    """A task after the block that uses what was reserved."""
    with reserved_gang(**WISH) as gang:
        train()
        pool = gang.outputs["pool"]
    say(text=pool)


def pool_in_a_text_after() -> None:
    """The same in a loop, in a text."""
    with dsl.ParallelFor([1, 2]) as item:
        with reserved_gang(part=item, **WISH) as gang:
            train()
        say(text=f"in {gang.outputs['pool']}")


def pool_in_a_condition_after() -> None:
    """A condition after the block that uses what was reserved."""
    with dsl.ParallelFor([1, 2]) as item:
        with reserved_gang(part=item, **WISH) as gang:
            train()
        with dsl.If(gang.outputs["pool"] == "a"):
            train()


def output_used_after() -> None:
    """A task after the block that uses an output from inside."""
    with reserved_gang(**WISH):
        first = train()
    train(shard=first.output)


def cached_inside() -> None:
    """Caching switched on for a task inside."""
    with reserved_gang(**WISH):
        train().set_caching_options(True)


def cached_after() -> None:
    """Caching switched on after the block."""
    with reserved_gang(**WISH):
        task = train()
    task.set_caching_options(True)


def cached_reserve() -> None:
    """Caching switched on for the gang itself."""
    with reserved_gang(**WISH) as gang:
        gang.set_caching_options(True)
        train()


def cached_decorated() -> None:
    """Caching switched on for a decorated component."""
    held_train().set_caching_options(True)


def label(key: str = "shard", value: str = "") -> Callable[[], None]:
    """Return a pipeline with a label on a task inside."""

    def pipeline() -> None:
        with dsl.ParallelFor([1, 2]) as item, reserved_gang(part=item, **WISH):
            kubernetes.add_pod_label(train(), key, value or f"s{item}")

    return pipeline


def annotation() -> None:
    """A value known at run time in an annotation."""
    with reserved_gang(**WISH) as gang:
        kubernetes.add_pod_annotation(train(), "pool", str(gang.outputs["pool"]))


def variable() -> None:
    """A value known at run time in an environment variable."""
    with reserved_gang(**WISH) as gang:
        train().set_env_variable("POOL", str(gang.outputs["pool"]))


def no_command() -> None:
    """A container that the holder could not start."""

    @dsl.container_component
    def image_only():
        return dsl.ContainerSpec(image="image")

    with reserved_gang(**WISH):
        image_only()


def fixed_run() -> None:
    """A reserve step of the author's that is keyed by a text."""
    reserve_gang(run_id="fixed", **WISH)


def fixed_release() -> None:
    """A release step that is keyed by a text."""
    train()
    release_gang(run_id="fixed")


REST = [
    (empty, "gang: 'gang' has no task inside"),
    (only_an_importer, "gang: 'gang' has no task inside"),
    (released_inside, "release-gang-2: 'gang' releases slots inside a block"),
    (gang_in_gang, "name: 'b' is a gang in another's block"),
    (decorated_in_gang, "name: 'held' is a gang in another's block"),
    (nested_in_gang, "with-gang: 'a' has a gang of its own inside a gang's block"),
    (used_after, "train-2: 'reserve-gang' is not known outside of the gang's block"),
    (pool_used_after, "say: 'reserve-gang' is not known outside"),
    (pool_in_a_text_after, "say: 'reserve-gang' is not known outside"),
    (pool_in_a_condition_after, "train-2: 'reserve-gang' is not known outside"),
    (output_used_after, "train-2: 'train' is not known outside"),
    (cached_inside, "train.caching: True skips work that slots are held for"),
    (cached_after, "train.caching: True skips work"),
    (cached_reserve, "reserve-gang.caching: True skips work"),
    (cached_decorated, "train.caching: True skips work"),
    (label(), "train.podMetadata.labels.shard: 's{{channel:"),
    (
        label(key="kueue.x-k8s.io/queue-name", value="q"),
        "train.label: 'kueue.x-k8s.io/queue-name' asks for slots again",
    ),
    (annotation, "train.podMetadata.annotations.pool: '{{channel:"),
    (variable, "train.POOL: '{{channel:"),
    (no_command, "image-only: '' has no command"),
    (fixed_run, "run_id: 'fixed' is the same in every run: pass dsl.PIPELINE_JOB_ID_PLACEHOLDER"),
    (fixed_release, "run_id: 'fixed' is the same in every run"),
]


@pytest.mark.parametrize(("pipeline", "words"), REST, ids=lambda made: getattr(made, "__name__", ""))
def test_what_cannot_work(pipeline: Callable[..., Any], words: str) -> None:
    """Each is told with the task or the field, the value, and what to do instead."""
    assert str(refused(pipeline)).startswith(words)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("pods", 0),
        ("pods", "two"),
        ("gpus_per_pod", -1),
        ("duration", "soon"),
        ("tenant", "no tenant"),
        ("accelerators", []),
        ("min_pods", 3),
        ("walltime", "1m"),
        ("topology", "row"),
        ("slot", "a part"),
        ("timeout_seconds", -1),
        ("name", "a/b"),
        ("handover", "soon"),
        ("handover", "0s"),
        ("ledger", "postgresql://me:secret@host/db"),
        ("priority", None),
    ],
)
@pytest.mark.parametrize("decorated", [False, True])
def test_a_wish_that_the_step_would_refuse(field: str, value: object, decorated: bool) -> None:
    """What is known when the pipeline is compiled is judged then, by the code that the step uses."""
    wish = {**WISH, field: value}

    def pipeline() -> None:
        if decorated:
            on_gang(**wish)(train)()
        else:
            with reserved_gang(**wish):
                train()

    assert refused(pipeline).field == field


def test_a_misspelt_or_missing_wish() -> None:
    """The parameters that there are, are named."""

    def misspelt() -> None:
        with reserved_gang(gpus=4, **WISH):
            train()

    def missing() -> None:
        with reserved_gang(tenant="vision"):
            train()

    def not_waited_for() -> None:
        with reserved_gang(wait=False, **WISH):
            train()

    assert refused(not_waited_for).value == "wait"
    assert "'gpus' is no parameter of a gang: use one of accelerators, " in str(refused(misspelt))
    assert refused(missing).field == "accelerators"


def test_what_is_known_at_run_time_is_not_judged() -> None:
    """Parameters, outputs and what they may make right are left to the step; what is wrong beside them is not."""

    def right(pods: int = 1, kind: list = ["h100"], duration: str = "1h") -> None:  # noqa: B006
        late = {"pods": pods, "accelerators": kind, "duration": duration, "gpus_per_pod": measure().output}
        with reserved_gang(**{**WISH, **late, "min_pods": 3, "walltime": "1ms", "speed": "b200=2"}):
            train()

    def wrong(pods: int = 1) -> None:
        with reserved_gang(**{**WISH, "pods": pods, "min_pods": 3, "slot": "a part"}):
            train()

    assert Spec(right)
    assert refused(wrong).field == "slot"


def test_a_name_is_known_when_compiled() -> None:
    """Names that come from outside could be the same."""

    def pipeline(name: str = "a") -> None:
        with reserved_gang(name=name, **WISH):
            train()

    assert refused(pipeline).field == "name"


def test_outside_of_a_pipeline() -> None:
    """There nothing could be released."""
    with (
        pytest.raises(InputError, match=r"is in no pipeline: use it in a function with @dsl\.pipeline"),
        reserved_gang(**WISH),
    ):
        pass
    with pytest.raises(InputError, match="is in no pipeline"):
        held_train()


def test_an_error_in_the_block_is_the_authors() -> None:
    """It is not hidden by what the block would say of its tasks."""

    def pipeline() -> None:
        with reserved_gang(**WISH):
            shell(text="a", none=1)

    with pytest.raises(TypeError, match="none"):
        Spec(pipeline)
    assert Spec(with_gang.pipeline_func)
