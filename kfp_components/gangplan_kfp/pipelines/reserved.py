"""A gang around the tasks of a pipeline, in one `with` or one decorator: what must go together, put together once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from kfp import dsl
from kfp.dsl.base_component import BaseComponent
from kfp.dsl.pipeline_channel import PipelineChannel
from kfp.dsl.pipeline_context import Pipeline
from kfp.dsl.pipeline_task import PipelineTask

from gangplan_kfp.components import release_gang, reserve_gang
from gangplan_kfp.pipelines import checks, graphs, placing, rewriting

HANDOVER = "50s"
"""How long the lease lasts without a task that holds it: so long a dead run keeps its slots."""


@contextmanager
def reserved_gang(
    *,
    name: str = "gang",
    part: Any = "",
    hold: bool = True,
    place: bool = True,
    retry: bool = True,
    ledger_from: str = "",
    ledger: Any = "",
    home: Any = "",
    **wish: Any,
) -> Iterator[PipelineTask]:
    """Reserve a gang for the tasks made inside, and release it when they have ended, however they end.

    Each of them waits for the gang, holds its lease while it runs, runs on its nodes with its accelerators, is never
    cached, and is tried again where it had to leave its slots. Yields the task of `reserve_gang`. Raises InputError for
    what cannot work.

    Args:
        name: Tells the gangs of one pipeline apart.
        part: Tells the iterations of a loop apart: give the loop's item.
        hold: False is for images without gangplan: the lease then lasts for the whole `duration`.
        place: False leaves it to you where the pods run.
        retry: False leaves it to you how often a task is tried.
        ledger_from: A Secret of the cluster with the ledger's URL under GANGPLAN_LEDGER, for all of these tasks.
        ledger: URL of the ledger; empty: GANGPLAN_LEDGER of the image's environment.
        home: gangplan's folder; empty: GANGPLAN_HOME of the image's environment.
        wish: What `reserve_gang` takes.
    """
    pipeline = checks.require_pipeline(name)
    key = {"name": name, "part": part, "ledger": ledger, "home": home}
    wish = {"handover": HANDOVER if hold else "", **wish}
    checks.require_wish({**key, **wish})
    checks.require_place(pipeline, key)
    checks.require_alone(pipeline, name)
    with rewriting.uncached():
        exit_task = _release(key) if rewriting.is_outermost(pipeline) else None
        block = rewriting.Block(f"hold-{name}") if exit_task is None else dsl.ExitHandler(exit_task, f"hold-{name}")
        with block:
            gang = _reserve(key, wish)
            checks.require_distinct(pipeline)
            before = set(pipeline.tasks)
            yield gang
        inside = [task for task in pipeline.tasks.values() if task.name not in before]
        checks.require_work(name, inside)
        rewriting.carry_into_loops(block, gang)
        if isinstance(block, rewriting.Block):
            exit_task = _release(key).ignore_upstream_failure()
            rewriting.listen(exit_task, block.end())
    placing.know_ledger([gang, *([exit_task] if exit_task else [])], ledger_from)
    for task in inside:
        rewriting.know_items(task)
        _put_on(task, gang, hold=hold, place=place, retry=retry)
    own = {exit_task.name} if exit_task else set[str]()
    rewriting.when_compiled(gang, partial(_judge, pipeline, gang, inside, own))


def on_gang(
    *,
    name: str = "gang",
    hold: bool = True,
    place: bool = True,
    retry: bool = True,
    ledger_from: str = "",
    ledger: Any = "",
    home: Any = "",
    **wish: Any,
) -> Callable[[BaseComponent], Callable[..., PipelineTask]]:
    """Let each task of a component have a gang of its own: above `@dsl.component`, or around a loaded component.

    The component then makes three tasks: one reserves, its own one works, one releases. It returns its own one, so that
    others can use its outputs, also inside loops and conditions. The parameters are those of `reserved_gang`; `part` is
    given where the component is used (`train(shard=item, part=item)`), in a loop or where it is used twice.
    """

    def decorated(component: BaseComponent) -> Callable[..., PipelineTask]:
        def start(*, part: Any = "", **arguments: Any) -> PipelineTask:
            pipeline = checks.require_pipeline(name)
            key = {"name": name, "part": part, "ledger": ledger, "home": home}
            asked = {"handover": HANDOVER if hold else "", **wish}
            checks.require_wish({**key, **asked})
            checks.require_place(pipeline, key)
            checks.require_alone(pipeline, name)
            with rewriting.uncached():
                gang = _reserve(key, asked)
                checks.require_distinct(pipeline)
                task = component(**arguments)
                exit_task = _release(key).after(task).ignore_upstream_failure()
            placing.know_ledger([gang, exit_task], ledger_from)
            _put_on(task, gang, hold=hold, place=place, retry=retry)
            rewriting.when_compiled(gang, partial(_judge_one, pipeline, gang, task))
            return task

        return start

    return decorated


def _reserve(key: dict[str, Any], wish: dict[str, Any]) -> PipelineTask:
    """Make the task that reserves."""
    return _keyed(reserve_gang, {**key, **wish})


def _release(key: dict[str, Any]) -> PipelineTask:
    """Make the task that releases."""
    return _keyed(release_gang, key)


def _keyed(component: Any, given: dict[str, Any]) -> PipelineTask:
    """Make a task for this run; a part that is known when it runs may be a number, too."""
    part = given["part"]
    late = isinstance(part, PipelineChannel)
    task = component(run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER, **{**given, "part": "" if late else part})
    if late:
        rewriting.give(task, "part", part)
    rewriting.know_items(task)
    return task


def _put_on(task: PipelineTask, gang: PipelineTask, *, hold: bool, place: bool, retry: bool) -> None:
    """Let a task use the gang's slots."""
    if task.importer_spec is not None:
        return
    task.after(gang)
    if task.container_spec is None:
        graphs.put_on(task, gang, hold=hold, place=place, retry=retry)
        return
    if hold:
        placing.hold(task, gang)
        if retry:
            placing.retry(task)
    if place and placing.uses_slots(task.container_spec.args):
        placing.place(task, gang)
        if hold:
            placing.know_node(task)


def _judge(pipeline: Pipeline, gang: PipelineTask, inside: Sequence[PipelineTask], own: set[str]) -> None:
    """Look at a block and its pipeline when all is known of them."""
    checks.require_held([gang, *(task for task in inside if task.container_spec)])
    checks.require_inside(pipeline, gang, inside, own)
    checks.require_distinct(pipeline)
    for task in inside:
        placing.settle(task, gang)


def _judge_one(pipeline: Pipeline, gang: PipelineTask, task: PipelineTask) -> None:
    """Look at a task with a gang of its own when all is known of it; what it waits for, its gang waits for, too."""
    checks.require_held([gang, task] if task.container_spec else [gang])
    placing.settle(task, gang)
    rewriting.wait_as_well(gang, task, pipeline)
