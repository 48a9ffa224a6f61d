"""The pods that Kubeflow Pipelines makes of a compiled pipeline, as its driver and launcher of 2.17 do.

Left out is what is KFP's own in each of them: the init container that brings its launcher, and its servers' addresses.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]

OUTPUTS = "/tmp/kfp_outputs"  # noqa: S108 - in the pod
OUTPUT_FILE = f"{OUTPUTS}/output_metadata.json"
"""What a step leaves for the launcher."""

_SCRATCH = ("gcs", "s3", "minio", ".local", ".cache", ".config")
_PLACEHOLDER = re.compile(r"\{\{\$([^{}]*)\}\}")
_INPUT = re.compile(r"\.inputs\.parameters\['+([^']+)'+\]")


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """A compiled pipeline, or a component, which is a pipeline of one step: its IR and its platform's part."""

    spec: Object
    platform: Object

    @staticmethod
    def read(file: Path) -> Compiled:
        """Read what KFP's compiler wrote."""
        spec, *more = yaml.safe_load_all(file.read_text())
        platform: Object = more[0]["platforms"]["kubernetes"]["deploymentSpec"]["executors"] if more else {}
        return Compiled(spec=spec, platform=platform)


def pods(
    compiled: Compiled,
    arguments: Object | None = None,
    *,
    run: str = "run-1",
    outputs: Mapping[str, Object] | None = None,
) -> dict[str, Object]:
    """Return a run's pods by their tasks' paths, of a loop the first round's.

    Parameters
    ----------
    outputs
        What tasks have given, by their names.
    """
    return {path: made() for path, made in _Run(compiled, run, outputs or {}).all(arguments or {})}


def pod(
    compiled: Compiled,
    task: str,
    arguments: Object | None = None,
    *,
    run: str = "run-1",
    outputs: Mapping[str, Object] | None = None,
) -> Object:
    """Return the pod of one task, when those before it have given their outputs."""
    every = dict(_Run(compiled, run, outputs or {}).all(arguments or {}))
    (made,) = [made for path, made in every.items() if path.rpartition("/")[2] == task]
    return made()


class _Run:
    """Makes the pods of one run."""

    def __init__(self, compiled: Compiled, run: str, outputs: Mapping[str, Object]) -> None:
        self._spec, self._platform = compiled.spec, compiled.platform
        self._run, self._outputs = run, outputs

    def all(self, arguments: Object) -> Iterator[tuple[str, Callable[[], Object]]]:
        """Yield each task's path, and what makes its pod."""
        root = self._spec["root"]
        yield from self._of_dag(root["dag"], lambda: _with_defaults(root, arguments), "")

    def _of_dag(
        self, dag: Object, inputs: Callable[[], Object], path: str
    ) -> Iterator[tuple[str, Callable[[], Object]]]:
        for name, task in dag["tasks"].items():
            component = self._spec["components"][task["componentRef"]["name"]]
            given = partial(self._all_given, component, task, inputs, dag)
            if "dag" in component:
                yield from self._of_dag(component["dag"], given, f"{path}{name}/")
            else:
                yield f"{path}{name}", partial(self._made, component, name, given, inputs, dag)

    def _all_given(self, component: Object, task: Object, inputs: Callable[[], Object], dag: Object) -> Object:
        return _with_defaults(component, self._given(task, inputs(), dag))

    def _made(
        self, component: Object, name: str, given: Callable[[], Object], inputs: Callable[[], Object], dag: Object
    ) -> Object:
        asked = _Asked(name=name, given=given(), of_json=lambda source: self._value(source, inputs(), dag))
        return self._pod(component, asked)

    # ---------------------------------------------------------------- what tasks are given

    def _given(self, task: Object, inputs: Object, dag: Object) -> Object:
        sources: Object = task.get("inputs", {}).get("parameters", {})
        known = {
            name: value
            for name, source in sources.items()
            if "taskFinalStatus" not in source
            for value in [self._value(source, inputs, dag)]
        }
        if loop := task.get("parameterIterator"):
            items = loop["items"]
            every = json.loads(items["raw"]) if "raw" in items else known[items["inputParameter"]]
            known[loop["itemInput"]] = every[0]
        return {name: self._text(value, known) for name, value in known.items()}

    def _value(self, source: Object, inputs: Object, dag: Object) -> Any:
        """Return what one source of an input holds."""
        if "parameterExpressionSelector" in source:
            raise NotImplementedError(f"parts of a value: {source}")
        if "runtimeValue" in source:
            return source["runtimeValue"]["constant"]
        if "componentInputParameter" in source:
            return inputs.get(source["componentInputParameter"])
        produced = source["taskOutputParameter"]
        return self._output(dag, produced["producerTask"], produced["outputParameterKey"])

    def _output(self, dag: Object, task: str, key: str) -> Any:
        """Return what a task gave; of a group of tasks, what the one inside gave."""
        if task in self._outputs:
            return self._outputs[task][key]
        inner = self._spec["components"][dag["tasks"][task]["componentRef"]["name"]].get("dag")
        if inner is None:
            raise KeyError(f"{task} has not given its {key} yet")
        produced = inner["outputs"]["parameters"][key]["valueFromParameter"]
        return self._output(inner, produced["producerSubtask"], produced["outputParameterKey"])

    def _text(self, value: Any, given: Object, task: str = "", whole: str = "") -> Any:
        """Return a value with what its placeholders stand for."""
        own = {
            "": whole,
            ".pipeline_job_uuid": self._run,
            ".pipeline_job_resource_name": self._run,
            ".pipeline_task_name": task,
            ".outputs.output_file": OUTPUT_FILE,
        }

        def stands_for(found: re.Match[str]) -> str:
            if asked := _INPUT.fullmatch(found[1]):
                meant = given[asked[1]]
                return meant if isinstance(meant, str) else json.dumps(meant)
            if found[1] not in own:
                raise NotImplementedError(f"placeholder {found[0]}")
            return own[found[1]]

        return _PLACEHOLDER.sub(stands_for, value) if isinstance(value, str) else value

    # ---------------------------------------------------------------- a pod

    def _pod(self, component: Object, asked: _Asked) -> Object:
        executor = component["executorLabel"]
        container: Object = self._spec["deploymentSpec"]["executors"][executor]["container"]
        platform: Object = self._platform.get(executor, {})
        whole = json.dumps(self._executor_input(component, asked))

        def text(value: str) -> str:
            return str(self._text(value, asked.given, asked.name, whole))

        mounts = [{"name": f"{name.replace('.', 'dot-')}-scratch", "mountPath": f"/{name}"} for name in _SCRATCH]
        main = {
            "name": "main",
            "image": text(container["image"]),
            "command": [text(word) for word in container.get("command", ())],
            "args": [text(word) for word in container.get("args", ())],
            "env": [
                *_OF_KFP,
                *({"name": one["name"], "value": text(one["value"])} for one in container.get("env", ())),
            ],
            "resources": _resources(container.get("resources", {}), text),
            "volumeMounts": mounts,
            "securityContext": _HARDENED,
        }
        pod: Object = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{self._run}-{asked.name}"[:63],
                "labels": {"pipeline/runid": self._run, "pipelines.kubeflow.org/v2_component": "true"},
                "annotations": {},
            },
            "spec": {
                "restartPolicy": "Never",
                "containers": [main],
                "volumes": [{"name": mount["name"], "emptyDir": {}} for mount in mounts],
                "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
            },
        }
        for name, value in platform.items():
            _PLATFORM[name](pod, value, asked)
        return pod

    def _executor_input(self, component: Object, asked: _Asked) -> Object:
        outputs: Object = component.get("outputDefinitions", {})
        root = f"minio://mlpipeline/v2/artifacts/{self._run}/{asked.name}"
        artifacts = {
            name: {"artifacts": [{"name": name, "type": one["artifactType"], "uri": f"{root}/{name}", "metadata": {}}]}
            for name, one in outputs.get("artifacts", {}).items()
        }
        parameters = {name: {"outputFile": f"{OUTPUTS}/{name}"} for name in outputs.get("parameters", {})}
        return {
            "inputs": {"parameterValues": asked.given},
            "outputs": {"parameters": parameters, "artifacts": artifacts, "outputFile": OUTPUT_FILE},
        }


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A task that is to be made a pod: its name, its parameters, and what reads those of the platform's part."""

    name: str
    given: Object
    of_json: Callable[[Object], Any]


def _with_defaults(component: Object, given: Object) -> Object:
    """Return a component's parameters with its defaults; whole numbers as they are written in JSON."""
    known: Object = component.get("inputDefinitions", {}).get("parameters", {})
    defaults = {name: one["defaultValue"] for name, one in known.items() if "defaultValue" in one}
    return {name: _plain(value) for name, value in {**defaults, **given}.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _resources(asked: Object, text: Callable[[str], str]) -> Object:
    limits = {"memory": asked.get("resourceMemoryLimit"), "cpu": asked.get("resourceCpuLimit")}
    requests = {"memory": asked.get("resourceMemoryRequest"), "cpu": asked.get("resourceCpuRequest")}
    if accelerator := asked.get("accelerator"):
        kind, count = (text(accelerator.get(name, "")) for name in ("resourceType", "resourceCount"))
        if kind and count:
            limits[kind] = count
    pairs = {"limits": limits, "requests": requests}
    return {kind: {name: text(value) for name, value in of.items() if value} for kind, of in pairs.items()}


_OF_KFP: list[Object] = [
    {"name": "KFP_POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    {"name": "KFP_POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
]
_HARDENED: Object = {
    "allowPrivilegeEscalation": False,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


# -------------------------------------------------------------------- what kfp-kubernetes asks for


def _selector(pod: Object, value: Object, asked: _Asked) -> None:
    pod["spec"]["nodeSelector"] = (
        asked.of_json(value["nodeSelectorJson"]) if "nodeSelectorJson" in value else value["labels"]
    )


def _tolerations(pod: Object, values: list[Object], asked: _Asked) -> None:
    every: list[Object] = []
    for one in values:
        found = asked.of_json(one["tolerationJson"]) if "tolerationJson" in one else one
        every += found if isinstance(found, list) else [found] if found else []
    pod["spec"]["tolerations"] = every


def _affinity(pod: Object, values: list[Object], asked: _Asked) -> None:
    """Join the terms of all; one without terms asks for nothing."""
    key, terms = "requiredDuringSchedulingIgnoredDuringExecution", list[Object]()
    for one in values:
        if "nodeAffinityJson" in one:
            terms += (asked.of_json(one["nodeAffinityJson"]).get(key) or {}).get("nodeSelectorTerms", [])
        else:
            terms.append({name: one[name] for name in ("matchExpressions", "matchFields") if name in one})
    if terms:
        pod["spec"]["affinity"] = {"nodeAffinity": {key: {"nodeSelectorTerms": terms}}}


def _metadata(pod: Object, value: Object, asked: _Asked) -> None:
    for kind in ("labels", "annotations"):
        pod["metadata"][kind] |= value.get(kind, {})


def _main(pod: Object) -> Object:
    found: Object = pod["spec"]["containers"][0]
    return found


def _fields(pod: Object, values: list[Object], asked: _Asked) -> None:
    for one in values:
        _main(pod)["env"].append({"name": one["name"], "valueFrom": {"fieldRef": {"fieldPath": one["fieldPath"]}}})


def _secrets(pod: Object, values: list[Object], asked: _Asked) -> None:
    for one in values:
        for key in one["keyToEnv"]:
            ref = {"name": one["secretName"], "key": key["secretKey"], "optional": one.get("optional", False)}
            _main(pod)["env"].append({"name": key["envVar"], "valueFrom": {"secretKeyRef": ref}})


def _pull(pod: Object, value: str, asked: _Asked) -> None:
    _main(pod)["imagePullPolicy"] = value


def _deadline(pod: Object, value: str | int, asked: _Asked) -> None:
    pod["spec"]["activeDeadlineSeconds"] = int(value)


_PLATFORM: dict[str, Callable[[Object, Any, _Asked], None]] = {
    "nodeSelector": _selector,
    "tolerations": _tolerations,
    "nodeAffinity": _affinity,
    "podMetadata": _metadata,
    "fieldPathAsEnv": _fields,
    "secretAsEnv": _secrets,
    "imagePullPolicy": _pull,
    "activeDeadlineSeconds": _deadline,
}
