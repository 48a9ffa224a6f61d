"""Calls of the Kubernetes API."""

from __future__ import annotations

import pytest

from gangplan.errors import ConflictError
from tests.kube.conftest import Cluster


def test_a_guard_keeps_writes_back_and_lets_reads_through(cluster: Cluster) -> None:
    """Such as those of a controller that leads no more; the connection that it was made from has none."""

    def refuse() -> None:
        raise ConflictError("leads no more")

    guarded = cluster.api.guarded(refuse)
    assert len(list(guarded.items("/api/v1/nodes"))) == 2
    for write in (guarded.create, guarded.apply, guarded.merge):
        with pytest.raises(ConflictError, match="leads no more"):
            write("/api/v1/nodes", {})
    with pytest.raises(ConflictError, match="leads no more"):
        guarded.delete("/api/v1/nodes/n1")
