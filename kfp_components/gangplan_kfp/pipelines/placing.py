"""A task on the slots of its gang: held while it runs, sent to the slots' nodes, tried again when it had to leave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kfp import kubernetes
from kfp.dsl.pipeline_task import PipelineTask

from gangplan.errors import InputError
from gangplan_kfp.pipelines import rewriting
from gangplan_kfp.pipelines.secrets import with_secret
from gangplan_kfp.support import POD_NODE

LEDGER = "GANGPLAN_LEDGER"
"""The variable with the ledger's URL, and the Secret's key of it."""

GANG = "gangplan_gang"
"""The input by which a held task knows its gang."""

HELD = ("python3", "-m", "gangplan_kfp.held", "--gang")
"""The program that holds the lease while the task's own command runs."""

RETRY = {"num_retries": 2, "backoff_duration": "10s", "backoff_factor": 2.0, "backoff_max_duration": "5m"}
"""How often a task is tried again that had to leave its slots, as `set_retry` takes it.

Both pauses, of 10 and 20 s, are shorter than the handover: a task that just failed still finds its slots.
"""

RETRY_SPEC = {"maxRetryCount": 2, "backoffDuration": "10s", "backoffFactor": 2.0, "backoffMaxDuration": "300s"}
"""The same as a pipeline spec writes it."""


NOT_COUNTED = "kueue.x-k8s.io/podset-unconstrained-topology"
"""The annotation without which Kueue, where it chooses nodes, counts a pod a second time, beside its reservation."""


def hold(task: PipelineTask, gang: PipelineTask) -> None:
    """Let a task's container hold the gang's lease while its command runs."""
    container: Any = task.container_spec
    if not container.command and not container.args:
        raise InputError(task.name, "", "has no command to hold the gang for: give its ContainerSpec one")
    text = rewriting.add_input(task, GANG, gang.outputs["gang"])
    rewriting.prefix(task, [*HELD, text, "--"])
    if secrets := _config(gang).get("secretAsEnv"):
        config = task.platform_config.setdefault("kubernetes", {})
        config["secretAsEnv"] = [*config.get("secretAsEnv", []), *secrets]


def uses_slots(arguments: Any) -> bool:
    """Whether a step uses slots itself, by its command's arguments: `run_on_gang` only starts what does."""
    return "run_on_gang" not in (arguments or ())


def know_node(task: PipelineTask) -> None:
    """Let a task that is held know its node: it refuses to work on another one than its slots'."""
    kubernetes.use_field_path_as_env(task, POD_NODE, "spec.nodeName")


def know_ledger(tasks: Sequence[PipelineTask], secret: str) -> None:
    """Give tasks the ledger's URL from a Secret of the cluster."""
    for task in tasks if secret else ():
        with_secret(task, secret, (LEDGER,))


def retry(task: PipelineTask) -> None:
    """Try a task again that had to leave its slots, where the author did not say how often."""
    if not rewriting.has_retry(task):
        task.set_retry(**RETRY)


def place(task: PipelineTask, gang: PipelineTask) -> None:
    """Send a task's pod to the slots, by what the reserve step found out; what the author set himself stays."""
    out: Any = gang.outputs
    if not has_affinity(_config(task)):
        kubernetes.add_node_affinity_json(task, out["node_affinity"])
        rewriting.listen(task, out["node_affinity"])
    if not _config(task).get("nodeSelector"):
        kubernetes.add_node_selector_json(task, out["node_selector"])
        rewriting.listen(task, out["node_selector"])
    kubernetes.add_pod_annotation(task, NOT_COUNTED, "true")
    kubernetes.add_toleration_json(task, out["tolerations"])
    rewriting.listen(task, out["tolerations"])
    _accelerate(task, gang)
    if task.parent_task_group is not gang.parent_task_group:
        task.platform_config["kubernetes"] = _from_outside(_config(task), gang.name)


def settle(task: PipelineTask, gang: PipelineTask) -> None:
    """Take back of a placed task what its author set himself after all: KFP would drop it, or join it with an or."""
    config = _config(task)
    selector, terms = config.get("nodeSelector", {}), config.get("nodeAffinity", [])
    if selector.get("labels"):
        selector.pop("nodeSelectorJson", None)
    own = [term for term in terms if gang.name not in str(term.get("nodeAffinityJson", ""))]
    if has_affinity({"nodeAffinity": own}):
        config["nodeAffinity"] = own


def _config(task: PipelineTask) -> dict[str, Any]:
    """Return what kfp-kubernetes has set."""
    return task.platform_config.get("kubernetes", {})


def has_affinity(config: dict[str, Any]) -> bool:
    """Whether an author names nodes that must be: KFP would take his or ours, where both are needed."""
    return any("weight" not in term for term in config.get("nodeAffinity", []))


def _accelerate(task: PipelineTask, gang: PipelineTask) -> None:
    """Ask for the slots' accelerators, as far as the author did not."""
    resources: Any = task.container_spec.resources if task.container_spec else None
    own_type = resources and resources.accelerator_type
    own_count = resources and resources.accelerator_count
    if own_type:
        return
    task.set_accelerator_type(gang.outputs["accelerator"])
    rewriting.listen(task, gang.outputs["accelerator"])
    if not own_count:
        task.set_accelerator_limit(gang.outputs["accelerators_per_pod"])
        rewriting.listen(task, gang.outputs["accelerators_per_pod"])


def _from_outside(config: Any, gang: str) -> Any:
    """Return settings that take the gang's values from the group around the task, as KFP before 2.16 does not."""
    if isinstance(config, list):
        return [_from_outside(one, gang) for one in config]
    if not isinstance(config, dict):
        return config
    output = config.get("taskOutputParameter", {})
    if output.get("producerTask") == gang:
        return {"componentInputParameter": f"pipelinechannel--{gang}-{output['outputParameterKey']}"}
    return {name: _from_outside(value, gang) for name, value in config.items()}
