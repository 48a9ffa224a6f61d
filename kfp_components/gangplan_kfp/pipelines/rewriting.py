"""The one file that reaches into KFP: what its tasks, groups and compiler do not offer in public.

Tried on kfp and kfp-kubernetes 2.14.3, 2.15.2, 2.16.1, 2.17.0 and 2.17.3. tests/kfp/test_rewriting.py names the use
that a newer KFP breaks.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from kfp import dsl
from kfp.dsl import pipeline_channel, structures, tasks_group
from kfp.dsl.pipeline_channel import PipelineChannel, PipelineParameterChannel
from kfp.dsl.pipeline_context import Pipeline
from kfp.dsl.pipeline_task import PipelineTask

CHANNEL = "{{channel:"
"""How KFP writes a value that is known when the pipeline runs, into a text; its compiler finds it in arguments only."""

FIELD = "-subvar-"
"""What KFP writes between the name of a loop's item and that of one of its fields."""


def pipeline_now() -> Pipeline | None:
    """Return the pipeline whose function runs at the moment."""
    return Pipeline.get_default_pipeline()


def is_outermost(pipeline: Pipeline) -> bool:
    """Whether the function is in no loop, condition or other group now."""
    return len(pipeline.groups) == 1


def loops_of(pipeline: Pipeline) -> list[dsl.ParallelFor]:
    """Return the loops in which the function is now, the outer first."""
    return [group for group in pipeline.groups if isinstance(group, dsl.ParallelFor)]


def _around(task: PipelineTask) -> Iterator[tasks_group.TasksGroup]:
    """Give the groups around a task, the inner first."""
    group = task.parent_task_group
    while group is not None:
        yield group
        group = group.parent_task_group


def _conditions(task: PipelineTask) -> list[PipelineChannel]:
    """Return the values that decide whether the task runs."""
    conditions = [one for group in _around(task) for one in getattr(group, "conditions", ())]
    operands = [operand for one in conditions for operand in (one.left_operand, one.right_operand)]
    return [operand for operand in operands if isinstance(operand, PipelineChannel)]


def tasks_of(group: tasks_group.TasksGroup) -> Iterator[PipelineTask]:
    """Give the tasks of a group, at any depth."""
    yield from group.tasks
    for inner in group.groups:
        yield from tasks_of(inner)


def channels_of(value: Any) -> list[PipelineChannel]:
    """Return the values known at run time that stand in an argument, or in a text of it."""
    return pipeline_channel.extract_pipeline_channels_from_any(value)


@contextmanager
def uncached() -> Iterator[None]:
    """Make tasks without caching; who switches it on for one of them, does so by himself."""
    before = Pipeline._execution_caching_default
    Pipeline._execution_caching_default = False
    try:
        yield
    finally:
        Pipeline._execution_caching_default = before


def is_cached(task: PipelineTask) -> bool:
    """Whether KFP may take the task's outputs from an earlier run."""
    return bool(task._task_spec.enable_caching)


def has_retry(task: PipelineTask) -> bool:
    """Whether the author said how often the task is tried."""
    return task._task_spec.retry_policy is not None


def listen(task: PipelineTask, *channels: PipelineChannel) -> None:
    """Make a task wait for the values, and let KFP carry them into the groups around it."""
    known = {channel.pattern for channel in task.channel_inputs}
    task.channel_inputs.extend(channel for channel in channels if channel.pattern not in known)


def give(task: PipelineTask, name: str, channel: PipelineChannel) -> None:
    """Give an input of a task a value known at run time, of whatever type: KFP makes texts of numbers."""
    task.inputs[name] = channel
    listen(task, channel)


def know_items(task: PipelineTask) -> None:
    """Let KFP carry loops' items to a task through the groups around it, where it loses them.

    It takes an item in a text for a parameter of the pipeline. It looks for a field of an item outside of the loop,
    too, and does not give the item to the groups between the loop and the task.
    """
    for loop in (group for group in _around(task) if isinstance(group, dsl.ParallelFor)):
        item: Any = loop.loop_argument
        if item.is_with_items_loop_argument:
            _know_fields(task, item)
        for place, channel in enumerate(task.channel_inputs):
            if channel.full_name == item.full_name:
                task.channel_inputs[place] = item


def _know_fields(task: PipelineTask, item: Any) -> None:
    """Give a task a loop's item, of which its arguments, its texts or conditions around it use fields."""
    start = f"{item.full_name}{FIELD}"
    for name, text in list(task.inputs.items()):
        for channel in channels_of(text) if isinstance(text, str) else ():
            if channel.full_name.startswith(start):
                field = channel.full_name.removeprefix(start)
                task.inputs[name] = str(task.inputs[name]).replace(
                    channel.pattern, add_input(task, f"gangplan_item_{field}", getattr(item, field), "String")
                )
    fields = [one for one in [*task.channel_inputs, *_conditions(task)] if one.full_name.startswith(start)]
    for used in fields:
        getattr(item, used.full_name.removeprefix(start)).value = "of the loop"  # so KFP looks for it nowhere else
    task.channel_inputs[:] = [one for one in task.channel_inputs if not one.full_name.startswith(start)]
    if fields:
        listen(task, item)


def add_input(task: PipelineTask, name: str, channel: PipelineChannel, kind: str = "") -> str:
    """Give a task one input more, a text, and return how its command line writes it."""
    task.component_spec = copy.copy(task.component_spec)
    added = structures.InputSpec(kind or str(channel.channel_type))
    task.component_spec.inputs = {**(task.component_spec.inputs or {}), name: added}
    give(task, name, channel)
    return f"{{{{$.inputs.parameters['{name}']}}}}"


def prefix(task: PipelineTask, words: Sequence[str]) -> None:
    """Put words before the command of a task's container."""
    container: Any = task.container_spec
    container.command = [*words, *(container.command or [])]


class Block(tasks_group._ConditionBase):
    """A group without a condition, for where KFP allows no ExitHandler: in loops, conditions, other blocks.

    KFP's backend hangs a task with `ignore_upstream_failure` as a hook on each thing before it. It therefore needs one
    thing that ends when all tasks have ended.
    """

    def __init__(self, name: str) -> None:
        super().__init__(conditions=[], name=name)

    def end(self) -> PipelineParameterChannel:
        """Return a value for which who listens waits until the whole block has ended."""
        return PipelineParameterChannel(name="end", channel_type="String", task_name=self.name)


def carry_into_loops(scope: tasks_group.TasksGroup, gang: PipelineTask) -> None:
    """Put all but the gang's own task into a group, where a loop stands beside it.

    KFP's local runner gives a loop its item in place of each output of a task beside it, and loses no input of a group.
    """
    if not any(isinstance(group, dsl.ParallelFor) for group in scope.groups):
        return
    work = Block("work")
    work._make_name_unique()
    work.parent_task_group = scope
    work.tasks, work.groups = [task for task in scope.tasks if task is not gang], list(scope.groups)
    for moved in (*work.tasks, *work.groups):
        moved.parent_task_group = work
    scope.tasks[:], scope.groups[:] = [gang], [work]


class _WatchedTask(PipelineTask):
    """A task that says when KFP compiles it: then the pipeline's function has ended, and all is known."""

    @property
    def channel_inputs(self) -> list[PipelineChannel]:
        if pipeline_now() is None and (check := self.__dict__.pop("when_compiled", None)):
            check()
        return self._channel_inputs


def when_compiled(task: PipelineTask, check: Callable[[], None]) -> None:
    """Call `check` before KFP compiles the pipeline of the task."""
    task.__class__ = _WatchedTask
    task.__dict__["when_compiled"] = check


def waits_for(task: PipelineTask) -> set[str]:
    """Return the names of what the task waits for: by its values, by `.after`, and by the conditions around it."""
    channels = [one for one in task.channel_inputs if not isinstance(one, dsl.Collected)]
    channels += _conditions(task)
    return {str(one.task_name) for one in channels if one.task_name} | set(task.dependent_tasks)


def wait_as_well(task: PipelineTask, other: PipelineTask, pipeline: Pipeline) -> None:
    """Make a task wait for all that another one waits for, but for itself."""
    names = {str(channel.task_name) for channel in other.channel_inputs} | set(other.dependent_tasks)
    known = names & set(pipeline.tasks) - {task.name, *task.dependent_tasks}
    task.dependent_tasks.extend(sorted(known))
