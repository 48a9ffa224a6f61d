"""What cannot work around a gang, refused when the pipeline is compiled: it would only show when it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kfp import dsl
from kfp.dsl.pipeline_context import Pipeline
from kfp.dsl.pipeline_task import PipelineTask

from gangplan.errors import InputError
from gangplan.types import require_at_least
from gangplan_kfp.components import release_gang, reserve_gang
from gangplan_kfp.pipelines import rewriting
from gangplan_kfp.support import handover_of, request_from, require_no_secret

_STAND_INS: dict[str, Any] = {
    "tenant": "tenant",
    "accelerators": ["accelerator"],
    "pods": 1,
    "gpus_per_pod": 1,
    "duration": "1s",
}
"""What a value is taken for that is known only when the pipeline runs, where a request needs one."""

_TOGETHER = ({"pods", "min_pods", "max_pods"}, {"duration", "walltime", "deadline"}, {"accelerators", "speed"})
"""Fields that are right or wrong together: with one of them unknown, nothing can be said of the others."""

_ELSEWHERE = {"run_id", "timeout_seconds", "handover", "node_label", "ledger", "home"}
"""Parameters of reserve_gang that are no part of a request."""

_ALONE: dict[str, Callable[[Any], object]] = {
    "timeout_seconds": lambda value: require_at_least("timeout_seconds", value, 0),
    "handover": handover_of,
    "ledger": require_no_secret,
}
"""What the reserve step asks of parameters beside the request."""

_KUEUE = "kueue.x-k8s.io/"
"""Begins the labels by which a pod asks a queue itself."""


def require_pipeline(name: str) -> Pipeline:
    """Return the pipeline whose function runs, or refuse a gang outside of one."""
    pipeline = rewriting.pipeline_now()
    if pipeline is None:
        raise InputError("gang", name, "is in no pipeline: use it in a function with @dsl.pipeline")
    return pipeline


# ---------------------------------------------------------------- what is asked for


def require_wish(given: Mapping[str, Any]) -> None:
    """Refuse what the reserve step would refuse, as far as the values are known now."""
    inputs = reserve_gang.component_spec.inputs or {}
    known_fields = sorted(set(inputs) - {"run_id", "wait"})
    for field, value in given.items():
        if field not in known_fields:
            raise InputError.unknown("gang", field, "no parameter of a gang", known_fields)
        if value is None:
            raise InputError(field, value, "is no value for KFP: leave the parameter out")
    for field in _STAND_INS:
        if field not in given:
            raise InputError.missing(field)
    known = {field: value for field, value in given.items() if not rewriting.channels_of(value)}
    if "name" not in known:
        raise InputError("name", str(given["name"]), "is known only when the pipeline runs: tell uses apart by part")
    for field, require in _ALONE.items():
        if field in known:
            require(known[field])
    _try_request({field: value for field, value in known.items() if field not in _ELSEWHERE}, set(given) - set(known))


def _try_request(known: dict[str, Any], unknown: set[str]) -> None:
    """Make the request from what is known; forget fields that a value which is not known may make right."""
    doubtful = set[str]().union(*(together for together in _TOGETHER if together & unknown))
    while True:
        try:
            request_from(run_id="compiled", **{**_STAND_INS, **known})
        except InputError as refused:
            field = refused.field.partition("[")[0]
            if field not in known or field not in doubtful:
                raise
            del known[field]
        else:
            return


# ---------------------------------------------------------------- which gangs there are


@dataclass(frozen=True, kw_only=True)
class _Gang:
    """A gang of a pipeline: the task that reserves it, and by what it is told apart, None: by what nobody knows yet."""

    task: str
    name: str
    part: str | None


def check_gangs(pipeline: Any) -> None:
    """Refuse a pipeline in which two gangs have one key: each would use the other's slots, and lose them to it.

    `reserved_gang` and `on_gang` do this by themselves, but for a pipeline with a gang that is used twice in one that
    has none of its own: there none of gangplan's code runs. Takes what `@dsl.pipeline` makes; raises InputError.
    """
    _require_told_apart(_gangs_of_graph("", pipeline.pipeline_spec))


def require_distinct(pipeline: Pipeline) -> None:
    """Refuse two gangs of one key in the pipeline whose function runs."""
    _require_told_apart(_gangs(pipeline))


def _require_told_apart(gangs: Iterable[_Gang]) -> None:
    """Refuse two gangs of one key."""
    seen = list[_Gang]()
    for gang in gangs:
        for other in seen:
            if gang.name == other.name and not _told_apart(gang, other):
                remedy = f"names two gangs of this pipeline ({other.task}, {gang.task}): give each a name of its own"
                nested = ", or the pipeline that is used twice a parameter for part" if "/" in gang.task else ""
                raise InputError("name", gang.name, remedy + nested)
        seen.append(gang)


def _told_apart(one: _Gang, other: _Gang) -> bool:
    """Whether the parts differ, or may differ for all that is known."""
    if one.part is None or other.part is None:
        return True
    return one.part != other.part and not any(rewriting.CHANNEL in part for part in (one.part, other.part))


def _gangs(pipeline: Pipeline) -> Iterator[_Gang]:
    """Give the gangs of a pipeline, with those of pipelines that it uses."""
    for task in pipeline.tasks.values():
        if _is_one_of(task, reserve_gang):
            inputs = task.inputs
            yield _Gang(task=task.name, name=str(inputs.get("name", "gang")), part=str(inputs.get("part", "")))
        elif task.pipeline_spec:
            yield from _gangs_of_graph(task.name, task.pipeline_spec)


def _gangs_of_graph(task: str, spec: Any) -> Iterator[_Gang]:
    """Give the gangs that a compiled pipeline makes, at any depth."""
    for where, component in [(task, spec.root), *spec.components.items()]:
        for name, inner in component.dag.tasks.items():
            if inner.component_ref.name.startswith(f"comp-{reserve_gang.component_spec.name}"):
                given = inner.inputs.parameters
                called = given["name"].runtime_value.constant.string_value if "name" in given else "gang"
                yield _Gang(task=f"{task or where}/{name}".lstrip("/"), name=called, part=_part_of_graph(given))


def _part_of_graph(given: Any) -> str | None:
    """Return the part of a compiled gang; that of a loop is the same at each use of the pipeline."""
    if "part" not in given:
        return ""
    if source := given["part"].component_input_parameter:
        return source if "loop-item" in source else None
    return given["part"].runtime_value.constant.string_value


def _is_one_of(task: PipelineTask, component: Any) -> bool:
    """Whether a task was made from the component."""
    return task.component_spec.name == component.component_spec.name


# ---------------------------------------------------------------- where a gang stands


def require_place(pipeline: Pipeline, key: Mapping[str, Any]) -> None:
    """Refuse a gang whose iterations, or whose release, could not be told which is theirs."""
    part = rewriting.channels_of(key["part"])
    for channel in part:
        if isinstance(key["part"], str) and rewriting.FIELD in channel.name:
            raise InputError(
                "part", channel.name, "is a field in a text, which KFP loses: give the field itself, as item.field"
            )
        if str(channel.channel_type).lower().startswith(("dict", "struct", "list")):
            raise InputError("part", channel.name, "is no text or number: give one field of the item, as item.field")
    for loop in rewriting.loops_of(pipeline):
        item = loop.loop_argument.full_name
        inside = {task.name for task in rewriting.tasks_of(loop)}
        if not any(_is_of(one, item) or one.task_name in inside for one in part):
            value = "" if rewriting.channels_of(key["part"]) else key["part"]
            raise InputError("part", value, f"does not tell the iterations of {loop.name} apart: give the loop's item")
        _require_unlike(loop)
    if rewriting.is_outermost(pipeline):
        for field, value in key.items():
            if any(channel.task_name for channel in rewriting.channels_of(value)):
                raise InputError(
                    field, "a task's output", "cannot be known to the exit task: give a parameter or a text"
                )


def _is_of(channel: Any, item: str) -> bool:
    """Whether a value is a loop's item, or a field of it."""
    return channel.full_name == item or channel.full_name.startswith(f"{item}{rewriting.FIELD}")


def _require_unlike(loop: dsl.ParallelFor) -> None:
    """Refuse items that are written down twice: their iterations would share one gang."""
    items = loop.loop_argument.items_or_pipeline_channel
    if isinstance(items, list) and not any(isinstance(item, dict) for item in items):
        twice = [item for item, count in Counter(map(str, items)).items() if count > 1]
        if twice:
            raise InputError("part", twice[0], f"is an item of {loop.name} twice: both would use one gang")


def require_alone(pipeline: Pipeline, name: str) -> None:
    """Refuse a gang inside of another's block: runs that hold one and wait for one can wait for each other for good."""
    for group in pipeline.groups:
        holds = any(_is_one_of(task, reserve_gang) for task in group.tasks)
        if holds and (isinstance(group, rewriting.Block | dsl.ExitHandler)):
            raise InputError("name", name, "is a gang in another's block: put the blocks one after the other")


# ---------------------------------------------------------------- what stands inside and outside, known at the end


def require_work(name: str, inside: Sequence[PipelineTask]) -> None:
    """Refuse a block without a task that could use the slots."""
    if not any(task.container_spec or task.pipeline_spec for task in inside):
        raise InputError("gang", name, "has no task inside: make the tasks that need the slots within the `with`")
    for task in inside:
        if _is_one_of(task, release_gang):
            raise InputError(task.name, name, "releases slots inside a block: leave it out, the block releases them")
        if task.pipeline_spec and any(_gangs_of_graph(task.name, task.pipeline_spec)):
            raise InputError(
                task.name, name, "has a gang of its own inside a gang's block: use it outside of the block"
            )


def require_held(tasks: Iterable[PipelineTask]) -> None:
    """Refuse held tasks that KFP would not run, or not as they are written."""
    for task in tasks:
        if rewriting.is_cached(task):
            raise InputError(f"{task.name}.caching", True, "skips work that slots are held for: leave it off")
        for field, text in _texts("", task.platform_config.get("kubernetes", {})):
            if rewriting.CHANNEL in text:
                raise _literal(task, field, text)
        for field in task.platform_config.get("kubernetes", {}).get("podMetadata", {}).get("labels", {}):
            if field.startswith(_KUEUE):
                raise InputError(f"{task.name}.label", field, "asks for slots again that the gang holds: leave it out")
        for field, text in ((task.container_spec and task.container_spec.env) or {}).items():
            if rewriting.CHANNEL in str(text):
                raise _literal(task, field, str(text))


def _literal(task: PipelineTask, field: str, text: str) -> InputError:
    """Return the error about a value that KFP would write as it stands."""
    remedy = "is written as it stands, KFP fills in no values here: give a text, or an argument of the task"
    return InputError(f"{task.name}.{field.strip('.')}", text, remedy)


def _texts(field: str, value: Any) -> Iterator[tuple[str, str]]:
    """Give all texts of settings, keys too, by where they stand."""
    if isinstance(value, str):
        yield field, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from ((f"{field}.{name}", str(name)), *_texts(f"{field}.{name}", inner))
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(field, inner)


def require_inside(pipeline: Pipeline, gang: PipelineTask, inside: Sequence[PipelineTask], own: set[str]) -> None:
    """Refuse tasks outside of the block that wait for one inside: the slots are released before they run.

    `own` are the block's own tasks, such as its release.
    """
    within = {gang.name, *(task.name for task in inside)}
    for task in pipeline.tasks.values():
        if task.name in within or task.name in own:
            continue
        if used := within & rewriting.waits_for(task):
            remedy = "is not known outside of the gang's block: make the task that uses it within the `with`"
            raise InputError(task.name, sorted(used)[0], remedy)
