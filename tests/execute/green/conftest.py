"""A machine with two GPUs, and the API server that knows it as a node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.execute.green.driver import Machine, compiled
from tests.execute.green.node_api import NodeApi


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the double of libnvidia-ml."""
    return compiled(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def node_api() -> NodeApi:
    """The API server's node."""
    return NodeApi()


@pytest.fixture
def machine(library: Path, node_api: NodeApi, tmp_path: Path) -> Iterator[Machine]:
    """The machine that this node is."""
    with node_api.serve(tmp_path) as kubeconfig:
        made = Machine(library=library, memory=tmp_path / "gpus", kubeconfig=kubeconfig)
        try:
            yield made
        finally:
            made.end()
