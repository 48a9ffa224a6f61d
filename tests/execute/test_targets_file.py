"""targets.yaml: what it may say, and how each mistake is named."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from gangplan.config import write_fleet
from gangplan.errors import InputError
from gangplan.execute import (
    Opening,
    Targets,
    close_engines,
    open_engines,
    read_targets,
    targets_of_file,
)
from gangplan.execute.devices import Layouts, ResizeRule
from gangplan.execute.fleet_file import FileNodes
from gangplan.execute.kubernetes import FixedNodes, KarpenterNodes, KueueQuota
from gangplan.testing import NOW, a_pool
from gangplan.types import Fleet, WorkloadClass
from tests.execute.world import pool

FLEET = Fleet(pools=(pool("a"), pool("b"), pool("c")), nodes={"a": 1})


def read(tmp_path: Path, text: str) -> Targets:
    """Read a targets file."""
    file = tmp_path / "targets.yaml"
    file.write_text(dedent(text))
    return read_targets(file, FLEET)


def test_each_pool_says_who_makes_its_nodes_and_which_quota_it_has(tmp_path: Path) -> None:
    """Kinds have the settings of their rooms."""
    targets = read(
        tmp_path,
        """
        cluster: prod
        pools:
          a:
            nodes: {kind: karpenter, nodepool: h100}
            quota: {kind: kueue, cohort: gpus}
          b: {nodes: {kind: fixed}}
          c: {nodes: {kind: file}}
        """,
    )
    assert targets.cluster == "prod"
    assert targets.nodes_of("karpenter", "fixed") == {"a": KarpenterNodes(nodepool="h100"), "b": FixedNodes()}
    assert targets.quotas_of("kueue") == {"a": KueueQuota(cohort="gpus")}
    assert targets.nodes_of("file") == {"c": FileNodes()}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pools:\n  x: {nodes: {kind: file}}", r"pools\[x\]: 'x' is not in the fleet: use one of a, b, c .*line 2"),
        ("pools:\n  a: {nodes: {kind: slurm}}", r"pools\[a\]\.nodes\.kind: 'slurm' is no kind that there is: .*line 2"),
        ("pools:\n  a: {nodes: {nodepool: x}}", r"pools\[a\]\.nodes\.kind: .*is missing: use one of file, .*line 2"),
        ("pools:\n  a:\n    nodes: {kind: karpenter}", r"pools\[a\]\.nodes\.nodepool: .*is missing.*line 3"),
        (
            "pools:\n  a:\n    nodes: {kind: karpenter, nodepool: x, replicas: 3}",
            r"pools\[a\]\.nodes\.replicas: 3 is not a known field.*line 3",
        ),
        ("pools:\n  a:\n    nodes: {kind: file}\n    quotas: {}", r"pools\.a\.quotas: .*is not a known field.*line 4"),
        (
            "pools:\n  a:\n    nodes: {kind: fixed}\n    quota: {kind: kueue, queues: {q: 0}}",
            r"pools\[a\]\.quota\.queues\[q\]: 0.0 must be greater than 0.*line 4",
        ),
        (
            "pools:\n  a: {nodes: {kind: karpenter, nodepool: x}}\n  b: {nodes: {kind: karpenter, nodepool: x}}",
            r"pools\[b\]\.nodes: 'karpenter' is the place of pool a as well.*line 3",
        ),
        (
            "pools:\n  a: &p\n    nodes: {kind: fixed}\n    quota: {kind: kueue, cohort: c, flavor: f}\n  b: *p",
            r"pools\[b\]\.quota: 'kueue' is the place of pool a as well.*line 5",
        ),
        ("clusters: x\npools: {}", r"clusters: 'x' is not a known field.*line 1"),
    ],
)
def test_each_mistake_names_file_line_field_and_remedy(tmp_path: Path, text: str, said: str) -> None:
    """Nothing is opened before all of it is understood."""
    with pytest.raises(InputError, match=said) as error:
        read(tmp_path, text)
    assert "targets.yaml" in str(error.value)


def test_without_a_file_the_fleet_file_has_all_pools(tmp_path: Path) -> None:
    """Its numbers are changed, as before there were targets."""
    file = tmp_path / "fleet.yaml"
    write_fleet(file, FLEET)
    opening = Opening(targets=targets_of_file(FLEET), fleet=FLEET, fleet_file=file, clock=lambda: NOW)
    engines = open_engines(opening)
    (observed,) = [engine.target.observe() for engine in engines]
    assert {nodes.pool: nodes.ordered for nodes in observed.nodes} == {"a": 1, "b": 0, "c": 0}
    close_engines(engines)


def test_layouts_and_rules_of_resizing(tmp_path: Path) -> None:
    """Groups of pools between which nodes move, and a rule for each class whose pods are resized."""
    text = """
        pools: {whole: {nodes: {kind: fixed}}, parts: {nodes: {kind: fixed}}}
        layouts:
          - configs: {whole: all-disabled, parts: all-1g.10gb}
            minutes: 20
        resize:
          latency: {margin: 1.5}
        """
    parts = {"accelerator": "h100", "slot": "1g.10gb", "slots_per_gpu": 7}
    fleet = Fleet(pools=(a_pool("whole", accelerator="h100"), a_pool("parts", **parts)))
    file = tmp_path / "targets.yaml"
    file.write_text(dedent(text))
    targets = read_targets(file, fleet)
    assert targets.layouts == (Layouts(configs={"whole": "all-disabled", "parts": "all-1g.10gb"}, minutes=20),)
    assert targets.resize == {WorkloadClass.LATENCY: ResizeRule(margin=1.5)}
    for wrong, right, said in (
        ("margin: 1.5", "margin: 0", r"resize.*margin.*must be a number of at least 1.*line 7"),
        ("parts: all-1g.10gb", "rest: all-1g.10gb", "is not in the fleet: use one of whole, parts"),
        (", parts: {nodes: {kind: fixed}}", "", "has no place: name it under `pools`, too"),
        ("minutes: 20", "hours: 20", "hours: 20 is not a known field"),
    ):
        file.write_text(dedent(text.replace(wrong, right)))
        with pytest.raises(InputError, match=said):
            read_targets(file, fleet)
