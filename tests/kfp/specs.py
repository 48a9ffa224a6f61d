"""Pipelines as authors write them, compiled. No postponed annotations here: KFP reads them as they are written."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format
from kfp import dsl

WISH: dict[str, Any] = {
    "tenant": "vision",
    "accelerators": ["h100-lab"],
    "pods": 1,
    "gpus_per_pod": 4,
    "duration": "30m",
}
"""Half of the lab, as a gang's parameters."""


@dsl.component(base_image="python", install_kfp_package=False)
def train(shard: int = 0) -> int:
    """Say what holds the slots, as a training step could."""
    import os

    print("shard", int(shard), "on", os.environ.get("GANGPLAN_RESERVATION"))
    return int(shard)


@dsl.component(base_image="python", install_kfp_package=False)
def measure() -> int:
    """Find out how large the work is."""
    return 1


@dsl.component(base_image="python", install_kfp_package=False)
def add(shards: list) -> int:
    """Use the outputs of a loop."""
    return int(sum(shards))


@dsl.component(base_image="python", install_kfp_package=False)
def say(text: str):
    """Use a text."""
    print("said", text)


@dsl.component(base_image="python", install_kfp_package=False)
def fail():
    """Fail as a training step would."""
    raise RuntimeError("out of memory")


@dsl.container_component
def shell(text: str):
    """Use a container without Python."""
    return dsl.ContainerSpec(image="image", command=["sh", "-c"], args=["echo $0", text])


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task of a compiled pipeline, with what belongs to it."""

    task: Mapping[str, Any]
    component: Mapping[str, Any]
    container: Mapping[str, Any]
    platform: Mapping[str, Any]

    @property
    def inputs(self) -> dict[str, Any]:
        """What the task is given."""
        return self.task.get("inputs", {}).get("parameters", {})


class Spec:
    """A compiled pipeline."""

    def __init__(self, function: Callable[..., Any]) -> None:
        pipeline: Any = dsl.pipeline(name="tried")(function)
        self.spec: dict[str, Any] = json_format.MessageToDict(pipeline.pipeline_spec)
        platform = json_format.MessageToDict(pipeline.platform_spec)
        self.platform = platform.get("platforms", {}).get("kubernetes", {}).get("deploymentSpec", {})

    def dags(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Give the tasks of each graph, by the component's name."""
        parts = itertools.chain([("root", self.spec["root"])], self.spec["components"].items())
        return ((name, part["dag"]["tasks"]) for name, part in parts if "dag" in part)

    def __getitem__(self, name: str) -> Task:
        """Return the only task of that name."""
        ((_, task),) = [found for found in self.all(name) if found[0] == name]
        return task

    def all(self, *starts: str) -> Iterator[tuple[str, Task]]:
        """Give the tasks of all graphs whose names begin so."""
        for _, tasks in self.dags():
            for name, task in tasks.items():
                if name.startswith(starts):
                    yield name, self._joined(task)

    def _joined(self, task: dict[str, Any]) -> Task:
        """Return a task with what belongs to it."""
        component = self.spec["components"][task["componentRef"]["name"]]
        label = component.get("executorLabel", "")
        return Task(
            task=task,
            component=component,
            container=self.spec["deploymentSpec"]["executors"].get(label, {}).get("container", {}),
            platform=self.platform.get("executors", {}).get(label, {}),
        )

    def beside(self, name: str) -> set[str]:
        """Return the names of the tasks in the same graph."""
        (names,) = [set(tasks) for _, tasks in self.dags() if name in tasks]
        return names
