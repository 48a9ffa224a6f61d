"""The pods of every compiled pipeline, as the API server validates them; nothing is created."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gangplan.errors import NotFoundError
from tests.cluster.conftest import ROOT, Object, Space, until
from tests.cluster.servers.fleet import GPU, HOST, TOLERATION
from tests.kfp.pod_specs import Compiled, pods

COMPILED = sorted((ROOT / "kfp_components" / "compiled").glob("*.yaml"))
TERM = {"matchExpressions": [{"key": HOST, "operator": "In", "values": ["h100-owned-0"]}]}
GANG = {
    "node_affinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [TERM]}},
    "node_selector": {"gangplan.io/pool": "h100-owned"},
    "tolerations": [TOLERATION],
    "accelerator": GPU,
    "accelerators_per_pod": "4",
}
"""What a step that reserved gives to those that are placed."""
OF_TYPE = {"STRING": "some", "NUMBER_INTEGER": 1, "NUMBER_DOUBLE": 1.5, "BOOLEAN": True, "LIST": ["some"], "STRUCT": {}}


def given(component: Object) -> Object:
    """Return some value for each parameter of a component that has no default."""
    parameters: Object = component.get("inputDefinitions", {}).get("parameters", {})
    return {name: OF_TYPE[one["parameterType"]] for name, one in parameters.items() if "defaultValue" not in one}


def outputs(spec: Object) -> Iterator[tuple[str, Object]]:
    """Yield some outputs of each task that runs code."""
    dags = [spec["root"]["dag"], *(one["dag"] for one in spec["components"].values() if "dag" in one)]
    for name, task in ((name, task) for dag in dags for name, task in dag["tasks"].items()):
        component: Object = spec["components"][task["componentRef"]["name"]]
        if "dag" not in component:
            known: Object = component.get("outputDefinitions", {}).get("parameters", {})
            some = {key: OF_TYPE[one["parameterType"]] for key, one in known.items()}
            yield name, some | {key: value for key, value in GANG.items() if key in known}


@pytest.mark.parametrize("file", COMPILED, ids=lambda file: file.stem)
def test_the_pods_of_a_compiled_pipeline_are_valid(space: Space, file: Path) -> None:
    """Each one, by the API server itself, which also refuses fields that it does not know."""
    compiled = Compiled.read(file)
    made = pods(compiled, given(compiled.spec["root"]), outputs=dict(outputs(compiled.spec)))
    until(lambda: account(space))
    for path, pod in made.items():
        checked = space.api.create(f"/api/v1/namespaces/{space.name}/pods", pod, dryRun="All", fieldValidation="Strict")
        assert checked["metadata"]["name"], path


def account(space: Space) -> Object:
    """Return the namespace's own account, once its controller has made it."""
    try:
        return space.api.get(f"/api/v1/namespaces/{space.name}/serviceaccounts/default")
    except NotFoundError:
        return {}
