"""A pipeline used as a task: its tasks are compiled already, so they are put on the slots in KFP's pipeline spec."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format
from kfp.dsl.pipeline_task import PipelineTask
from kfp.pipeline_spec import pipeline_spec_pb2

from gangplan_kfp.pipelines import placing, rewriting
from gangplan_kfp.support import POD_NODE

_PB: Any = pipeline_spec_pb2
"""KFP's messages, whose classes are made when they are imported."""

_PLACE = ("node_affinity", "node_selector", "tolerations", "accelerator", "accelerators_per_pod")
"""The outputs of the reserve step by which pods are placed."""


def put_on(task: PipelineTask, gang: PipelineTask, *, hold: bool, place: bool, retry: bool) -> None:
    """Let all tasks of a pipeline that is used as a task use the gang's slots; its exit tasks and importers stay."""
    outputs = ("gang", *_PLACE) if hold and place else ("gang",) if hold else _PLACE if place else ()
    texts = {output: rewriting.add_input(task, f"gangplan_{output}", gang.outputs[output]) for output in outputs}
    secrets = gang.platform_config.get("kubernetes", {}).get("secretAsEnv")
    graph = _Graph(task.pipeline_spec, task.platform_spec, texts, secrets, retry=retry and hold)
    graph.visit(graph.spec.root, [f"gangplan_{output}" for output in outputs])
    graph.rename(task.name)
    task.component_spec.implementation = copy.copy(task.component_spec.implementation)
    task.pipeline_spec, task.component_spec.platform_spec = graph.result()
    task.component_spec.implementation.graph = task.pipeline_spec


class _Graph:
    """A copy of a pipeline's spec, in which tasks are put on slots."""

    def __init__(self, spec: Any, platform: Any, texts: Mapping[str, str], secrets: Any, *, retry: bool) -> None:
        self.spec = _PB.PipelineSpec()
        self.spec.CopyFrom(spec)
        self.executors: dict[str, Any] = json_format.MessageToDict(self.spec.deployment_spec)["executors"]
        self.platform: dict[str, Any] = json_format.MessageToDict(platform)
        self.texts = texts
        self.secrets = secrets
        self.retry = retry

    def visit(self, component: Any, inputs: list[str]) -> None:
        """Carry the inputs through a graph to its tasks."""
        self._declare(component, inputs)
        for task in component.dag.tasks.values():
            inner = self.spec.components[task.component_ref.name]
            if task.trigger_policy.strategy == _PB.PipelineTaskSpec.TriggerPolicy.ALL_UPSTREAM_TASKS_COMPLETED:
                continue
            if inner.HasField("dag"):
                self.visit(inner, inputs)
            elif container := self.executors[inner.executor_label].get("container"):
                self._declare(inner, inputs)
                self._settle(task)
                self._command(container, inner.executor_label)
            else:
                continue
            for name in inputs:
                task.inputs.parameters[name].component_input_parameter = name

    def _declare(self, component: Any, inputs: list[str]) -> None:
        """Declare the inputs of a component."""
        kinds = {"gangplan_node_affinity": "STRUCT", "gangplan_node_selector": "STRUCT", "gangplan_tolerations": "LIST"}
        for name in inputs:
            declared = component.input_definitions.parameters[name]
            json_format.ParseDict({"parameterType": kinds.get(name, "STRING")}, declared)

    def _settle(self, task: Any) -> None:
        """Switch a task's caching off, and its retries on."""
        if "gang" in self.texts:
            task.caching_options.Clear()
        if self.retry and not task.HasField("retry_policy"):
            json_format.ParseDict(placing.RETRY_SPEC, task.retry_policy)

    def _command(self, container: dict[str, Any], label: str) -> None:
        """Let a container hold the lease, and run on the slots."""
        config = self._config(label)
        placed = "accelerator" in self.texts and placing.uses_slots(container.get("args"))
        if "gang" in self.texts:
            container["command"] = [*placing.HELD, self.texts["gang"], "--", *container.get("command", [])]
            if self.secrets:
                config["secretAsEnv"] = [*config.get("secretAsEnv", []), *self.secrets]
        if placed:
            self._place(container, config)
        if placed and "gang" in self.texts:
            env = {"name": POD_NODE, "fieldPath": "spec.nodeName"}
            config["fieldPathAsEnv"] = [*config.get("fieldPathAsEnv", []), env]

    def _place(self, container: dict[str, Any], config: dict[str, Any]) -> None:
        """Send a container's pod to the slots; what its author set himself stays."""
        if not placing.has_affinity(config):
            config["nodeAffinity"] = [*config.get("nodeAffinity", []), {"nodeAffinityJson": _given("node_affinity")}]
        if not config.get("nodeSelector"):
            config["nodeSelector"] = {"nodeSelectorJson": _given("node_selector")}
        config["tolerations"] = [*config.get("tolerations", []), {"tolerationJson": _given("tolerations")}]
        config.setdefault("podMetadata", {}).setdefault("annotations", {})[placing.NOT_COUNTED] = "true"
        ours = {"resourceType": self.texts["accelerator"], "resourceCount": self.texts["accelerators_per_pod"]}
        container.setdefault("resources", {}).setdefault("accelerator", ours)

    def _config(self, label: str) -> dict[str, Any]:
        """Return what kfp-kubernetes has set for an executor."""
        executors = self.platform
        for name in ("platforms", "kubernetes", "deploymentSpec", "executors", label):
            executors = executors.setdefault(name, {})
        return executors

    def rename(self, task: str) -> None:
        """Give executors names of their own: KFP mixes up settings of those that are called alike in and out of it."""
        names = {label: f"{label}-of-{task}" for label in self.executors}
        self.executors = {names[label]: executor for label, executor in self.executors.items()}
        for component in self.spec.components.values():
            if component.executor_label:
                component.executor_label = names[component.executor_label]
        for platform in self.platform.get("platforms", {}).values():
            settings = platform.get("deploymentSpec", {})
            settings["executors"] = {names[label]: one for label, one in settings.get("executors", {}).items()}

    def result(self) -> tuple[Any, Any]:
        """Return the pipeline's spec and the platform's, as they are now."""
        self.spec.deployment_spec.Clear()
        self.spec.deployment_spec.update({"executors": self.executors})
        return self.spec, json_format.ParseDict(self.platform, _PB.PlatformSpec())


def _given(output: str) -> dict[str, str]:
    """Return a reference to an input of the graph around."""
    return {"componentInputParameter": f"gangplan_{output}"}
