"""`@task.gang(...)`: a function that runs on a gang's slots: reserved before it, held while it runs, released after."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, Unpack

from airflow.sdk import XComArg, get_current_context, task as airflow_task, task_group
from airflow.sdk.definitions.decorators import TaskDecoratorCollection
from airflow.sdk.definitions.xcom_arg import PlainXComArg

from gangplan.errors import InputError
from gangplan_airflow.gangs.arguments import GangArguments, GangTaskArguments
from gangplan_airflow.gangs.gang import gang_here
from gangplan_airflow.gangs.holding import OnNotice, held_slots, slots_here

GIVEN = ("held", "slots")
"""Parameters by which a function gets its lease (`client.Held`) and its slots (what the reserve task returned)."""


class Work(PlainXComArg):
    """What the function returns; what comes before it comes before its gang is asked for."""

    def __init__(self, work: XComArg, reserve: Any) -> None:
        [(operator, key)] = work.iter_references()
        super().__init__(operator, key)
        self._reserve = reserve

    @property
    def roots(self) -> list[Any]:
        """The task that has to wait for what comes before."""
        return [self._reserve]

    def set_upstream(self, *others: Any, **more: Any) -> None:
        """See DependencyMixin."""
        self._reserve.set_upstream(*others, **more)


@dataclass(frozen=True, kw_only=True)
class GangTask:
    """A function of a DAG that runs on a gang's slots. A call makes the group of reserve, work and release."""

    function: Callable[..., Any]
    gang: dict[str, Any]
    task: dict[str, Any]
    on_notice: OnNotice | None

    def __call__(self, *args: Any, **kwargs: Any) -> XComArg:
        """Make the group, and return what the function will have returned."""
        return self._group()(*args, **kwargs)

    def partial(self, **kwargs: Any) -> Any:
        """Give arguments that are the same for each instance; then call `expand`."""
        return self._group().partial(**kwargs)

    def expand(self, **kwargs: Any) -> XComArg:
        """Make an instance for each value, each with a gang of its own."""
        return self._group().expand(**kwargs)

    def expand_kwargs(self, kwargs: Any) -> XComArg:
        """Make an instance for each dictionary of arguments, each with a gang of its own."""
        return self._group().expand_kwargs(kwargs)

    def override(self, **changes: Any) -> GangTask:
        """Return the same with other arguments."""
        gang, task = split(changes)
        return replace(self, gang={**self.gang, **gang}, task={**self.task, **task})

    def _group(self) -> Any:
        """Return what makes the group: Airflow's own factory, so that arguments are mapped as for any group."""
        work, name = held_work(self.function, self.on_notice), self.task.get("task_id", self.function.__name__)
        arguments = {"task_id": name, **self.task}

        @wraps(work)
        def group(*args: Any, **kwargs: Any) -> Work:
            with gang_here(self.gang) as slots:  # type: ignore[arg-type]
                done = airflow_task(**arguments)(work)(*args, **kwargs)
            return Work(done, slots.reserve)

        made: Any = group  # Airflow's own types know groups that return nothing, or a task
        return task_group(group_id=name)(made)


def gang_task(
    function: Callable[..., Any] | None = None,
    /,
    *,
    on_notice: OnNotice | None = None,
    **given: Unpack[GangTaskArguments],
) -> Callable[[Callable[..., Any]], GangTask]:
    """Let a function run on a gang's slots; arguments are those of `gang`, and those of `@task` for the function.

    The function is stopped when the slots are lost. It may have a parameter `held`, to look for a notice, and `slots`.
    `expand` gives each instance a gang of its own.
    """
    if function is not None:
        raise InputError("task.gang", function.__name__, "needs a gang: write @task.gang(tenant=..., pods=..., ...)")
    gang, task = split({**given})

    def decorate(function: Callable[..., Any]) -> GangTask:
        if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
            raise InputError("task.gang", function.__name__, "cannot be held while it runs: give a plain function")
        return GangTask(function=function, gang=gang, task=task, on_notice=on_notice)

    return decorate


def split(given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arguments of a gang, and those of the task that works on it."""
    names = GangArguments.__required_keys__ | GangArguments.__optional_keys__
    gang = {name: value for name, value in given.items() if name in names}
    return gang, {name: value for name, value in given.items() if name not in names}


def held_work(function: Callable[..., Any], on_notice: OnNotice | None) -> Callable[..., Any]:
    """Return a function that runs on its gang's slots, and whose parameters are those that a DAG gives."""
    signature = inspect.signature(function)
    wants = [name for name in GIVEN if name in signature.parameters]

    @wraps(function)
    def work(*args: Any, **kwargs: Any) -> Any:
        context = get_current_context()
        slots, conn_id = slots_here(context)
        with held_slots(context, slots, conn_id, on_notice=on_notice) as held:
            ours = {"held": held, "slots": slots}
            return function(*args, **kwargs, **{name: ours[name] for name in wants})

    kept = [parameter for name, parameter in signature.parameters.items() if name not in wants]
    work.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
    return work


class GangTasks(TaskDecoratorCollection):
    """Airflow's `task`, whose `gang` is known to editors, and also where the provider is only on the path."""

    gang = staticmethod(gang_task)


task = GangTasks()
